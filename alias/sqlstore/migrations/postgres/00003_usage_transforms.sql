-- Transformations of an alias, the milliseconds of workers that they took, and the bytes by which
-- their results were smaller than their sources.

-- +goose Up
ALTER TABLE usage ADD COLUMN transform_jobs        BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN transform_ms          BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN transform_saved_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_history ADD COLUMN transform_jobs        BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_history ADD COLUMN transform_ms          BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_history ADD COLUMN transform_saved_bytes BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE usage_history DROP COLUMN transform_saved_bytes;
ALTER TABLE usage_history DROP COLUMN transform_ms;
ALTER TABLE usage_history DROP COLUMN transform_jobs;
ALTER TABLE usage DROP COLUMN transform_saved_bytes;
ALTER TABLE usage DROP COLUMN transform_ms;
ALTER TABLE usage DROP COLUMN transform_jobs;
