-- Ids are random and chosen by the program. Times are microseconds since 1970,
-- 0 for never; durations are nanoseconds. Names sort bytewise, which is what
-- SQLite does unless told otherwise.

-- +goose Up
CREATE TABLE credentials (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    kind        TEXT    NOT NULL,
    public      TEXT    NOT NULL, -- JSON: what of this kind may be seen
    sealed      BLOB,             -- the secret, bound to id and version
    version     INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    verified_at INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    rotated_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE aliases (
    id                     INTEGER PRIMARY KEY,
    name                   TEXT    NOT NULL UNIQUE,
    bucket                 TEXT    NOT NULL,
    bucket_owner           TEXT    NOT NULL,
    prefix                 TEXT    NOT NULL,
    region                 TEXT    NOT NULL,
    endpoint               TEXT    NOT NULL,
    path_style             INTEGER NOT NULL,
    credential_id          INTEGER NOT NULL REFERENCES credentials (id),
    canary                 TEXT    NOT NULL,
    enabled                INTEGER NOT NULL,
    ttl                    INTEGER NOT NULL,
    negative_ttl           INTEGER NOT NULL,
    stale_while_revalidate INTEGER NOT NULL,
    stale_if_error         INTEGER NOT NULL,
    state                  TEXT    NOT NULL,
    epoch                  INTEGER NOT NULL,
    revision               INTEGER NOT NULL,
    created_at             INTEGER NOT NULL,
    updated_at             INTEGER NOT NULL
) STRICT;

CREATE INDEX aliases_credential_id ON aliases (credential_id);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- +goose Down
DROP TABLE meta;
DROP TABLE aliases;
DROP TABLE credentials;
