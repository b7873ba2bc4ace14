-- Named admin tokens. The digest is the SHA-256 of the text; roles and buckets are JSON
-- lists. Times are microseconds since 1970, 0 is never.

-- +goose Up
CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    roles        TEXT NOT NULL,
    buckets      TEXT NOT NULL,
    digest       BLOB NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE tokens;
