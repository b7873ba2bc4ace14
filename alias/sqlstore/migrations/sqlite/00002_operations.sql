-- What provisioning must not lose. Times are microseconds since 1970, 0 for
-- never; request, steps, error and data are JSON.

-- +goose Up
CREATE TABLE operations (
    number        INTEGER PRIMARY KEY, -- the order in which they were made
    id            TEXT    NOT NULL UNIQUE,
    kind          TEXT    NOT NULL,
    alias         TEXT    NOT NULL,
    credential    TEXT    NOT NULL,
    credential_id INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    error         TEXT    NOT NULL,
    steps         TEXT    NOT NULL,
    request       TEXT    NOT NULL,
    data          TEXT    NOT NULL,
    actor         TEXT    NOT NULL,
    revision      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL
) STRICT;

-- One operation at a time for an alias, and for a credential.
CREATE UNIQUE INDEX operations_running_alias ON operations (alias) WHERE state = 'running' AND alias <> '';
CREATE UNIQUE INDEX operations_running_credential ON operations (credential) WHERE state = 'running' AND credential <> '';
CREATE INDEX operations_alias ON operations (alias, number);

CREATE TABLE audit (
    id            INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    actor         TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    iam_user      TEXT    NOT NULL,
    policy        TEXT    NOT NULL,
    access_key_id TEXT    NOT NULL,
    alias         TEXT    NOT NULL,
    credential    TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    operation     TEXT    NOT NULL,
    detail        TEXT    NOT NULL
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
-- +goose StatementEnd
-- A REPLACE fires no trigger of a deletion.
-- +goose StatementBegin
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_is_never_emptied BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
-- +goose StatementEnd

CREATE TABLE verifications (
    alias_id           INTEGER PRIMARY KEY REFERENCES aliases (id) ON DELETE CASCADE,
    alias              TEXT    NOT NULL,
    credential_id      INTEGER NOT NULL,
    credential_version INTEGER NOT NULL,
    checked_at         INTEGER NOT NULL,
    checks             TEXT    NOT NULL
) STRICT;

-- +goose Down
DROP TABLE verifications;
DROP TABLE audit;
DROP TABLE operations;
