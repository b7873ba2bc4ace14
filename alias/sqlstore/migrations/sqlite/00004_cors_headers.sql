-- The request headers that pages of the origins may send: names, separated by spaces,
-- which none of them holds.

-- +goose Up
ALTER TABLE aliases ADD COLUMN cors_headers TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE aliases DROP COLUMN cors_headers;
