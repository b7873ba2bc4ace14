-- What clients are told beyond the bytes: origins are separated by spaces, which
-- none of them holds. And what aliases have cost. Times are microseconds since
-- 1970.

-- +goose Up
ALTER TABLE aliases ADD COLUMN cache_control    TEXT NOT NULL DEFAULT '';
ALTER TABLE aliases ADD COLUMN cors_origins     TEXT NOT NULL DEFAULT '';
ALTER TABLE aliases ADD COLUMN fallback_missing TEXT NOT NULL DEFAULT '';
ALTER TABLE aliases ADD COLUMN fallback_broken  TEXT NOT NULL DEFAULT '';

CREATE TABLE usage (
    alias_id              INTEGER PRIMARY KEY REFERENCES aliases (id) ON DELETE CASCADE,
    since                 INTEGER NOT NULL,
    spent_requests        INTEGER NOT NULL,
    spent_bytes           INTEGER NOT NULL,
    hit_requests          INTEGER NOT NULL,
    hit_bytes             INTEGER NOT NULL,
    collapsed_requests    INTEGER NOT NULL,
    collapsed_bytes       INTEGER NOT NULL,
    not_modified_requests INTEGER NOT NULL,
    not_modified_bytes    INTEGER NOT NULL
) STRICT;

-- The last batch of each process that counts, so that none is added twice.
CREATE TABLE usage_writers (
    writer TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE usage_writers;
DROP TABLE usage;
ALTER TABLE aliases DROP COLUMN fallback_broken;
ALTER TABLE aliases DROP COLUMN fallback_missing;
ALTER TABLE aliases DROP COLUMN cors_origins;
ALTER TABLE aliases DROP COLUMN cache_control;
