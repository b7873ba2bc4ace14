-- What aliases have cost in each period with traffic: periods of 1 and of 24 hours, in UTC.
-- at is the begin of the period, in microseconds since 1970. The key begins with the
-- period, so that the rows that are written together are beside one another. There is no
-- foreign key: without an index on alias_id, which would double the writes, SQLite would
-- read the whole table for each alias that is deleted.

-- +goose Up
CREATE TABLE usage_history (
    hours                 INTEGER NOT NULL,
    at                    INTEGER NOT NULL,
    alias_id              INTEGER NOT NULL,
    spent_requests        INTEGER NOT NULL,
    spent_bytes           INTEGER NOT NULL,
    hit_requests          INTEGER NOT NULL,
    hit_bytes             INTEGER NOT NULL,
    collapsed_requests    INTEGER NOT NULL,
    collapsed_bytes       INTEGER NOT NULL,
    not_modified_requests INTEGER NOT NULL,
    not_modified_bytes    INTEGER NOT NULL,
    PRIMARY KEY (hours, at, alias_id)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE usage_history;
