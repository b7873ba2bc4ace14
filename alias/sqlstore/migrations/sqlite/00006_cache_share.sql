-- The floor and the ceiling of the alias in the memory of the cache, in bytes; 0 is none.

-- +goose Up
ALTER TABLE aliases ADD COLUMN cache_min INTEGER NOT NULL DEFAULT 0;
ALTER TABLE aliases ADD COLUMN cache_max INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE aliases DROP COLUMN cache_max;
ALTER TABLE aliases DROP COLUMN cache_min;
