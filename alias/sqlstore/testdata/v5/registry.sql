BEGIN TRANSACTION;
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
, cache_control    TEXT NOT NULL DEFAULT '', cors_origins     TEXT NOT NULL DEFAULT '', fallback_missing TEXT NOT NULL DEFAULT '', fallback_broken  TEXT NOT NULL DEFAULT '', cors_headers TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "aliases" VALUES(4778450407683356042,'public','acme-public','','','eu-west-1','',0,9191548490539655622,'',1,3600000000000,5000000000,60000000000,86400000000000,'active',1,1,1795948115222398,1795948115222398,'','','','','');
INSERT INTO "aliases" VALUES(7833110035793063359,'shop','acme-media','','website-images/','eu-west-1','',0,6903347317548531466,'a.jpg',1,3600000000000,5000000000,60000000000,86400000000000,'active',2,1,1795948115212859,1795948115212859,'','https://shop.example.com','none.png','none.png','X-Viewer');
INSERT INTO "aliases" VALUES(8519683131730400061,'news','acme-media','','news/','eu-west-1','',0,1423746239559862799,'',0,3600000000000,5000000000,60000000000,86400000000000,'active',1,1,1795948115240285,1795948115240285,'','','','','');
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
INSERT INTO "credentials" VALUES(1423746239559862799,'news','static','{"access_key_id":"AKIAIOSFODNN7EXAMPLE"}',X'01C9B7AD280ABF3BE5EE056D851854854DAAE82C4BFCA5B183A7B97D2B1F581C5FCD36F9D1044B2659B47A9930D3963E6F8F9174016E0E0B6A331BA0E3A5C70AACD907D07F73798A49',1,'active','',0,1,1795948115240521,0,1795948115240521);
INSERT INTO "credentials" VALUES(6903347317548531466,'shop','static','{"access_key_id":"AKIAI44QH8DHBEXAMPLE"}',X'01C9B7AD285E2560E3E106FCAD690129D575B47CC921F6C1BA04A3A4FB03B4D2AECFD3669958D552C34BA2DFB8DD40E70E84F6ABF56C056CC894EC16401C16F54705D2E4EF05EB1A85',1,'active','',0,1,1795948115213289,0,1795948115213289);
INSERT INTO "credentials" VALUES(9191548490539655622,'public','anonymous','{}',NULL,1,'active','',0,1,1795948115222618,0,1795948115222618);
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO "goose_db_version" VALUES(1,0,1,'2026-11-29 10:28:33');
INSERT INTO "goose_db_version" VALUES(2,1,1,'2026-11-29 10:28:33');
INSERT INTO "goose_db_version" VALUES(3,2,1,'2026-11-29 10:28:33');
INSERT INTO "goose_db_version" VALUES(4,3,1,'2026-11-29 10:28:33');
INSERT INTO "goose_db_version" VALUES(5,4,1,'2026-11-29 10:28:33');
INSERT INTO "goose_db_version" VALUES(6,5,1,'2026-11-29 10:28:33');
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
INSERT INTO "meta" VALUES('key_check',X'01C9B7AD286F461AF68339CD613F9F73AB86D881848C36096B021BE18EBAAD1B9215F89EF00769D7DC6B60D9314FA6F071');
INSERT INTO "meta" VALUES('install_id',X'6D326E686B72696737346735');
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
CREATE TABLE usage_writers (
    writer TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
CREATE TABLE verifications (
    alias_id           INTEGER PRIMARY KEY REFERENCES aliases (id) ON DELETE CASCADE,
    alias              TEXT    NOT NULL,
    credential_id      INTEGER NOT NULL,
    credential_version INTEGER NOT NULL,
    checked_at         INTEGER NOT NULL,
    checks             TEXT    NOT NULL
, not_tried TEXT NOT NULL DEFAULT 'null') STRICT;
CREATE INDEX aliases_credential_id ON aliases (credential_id);
CREATE UNIQUE INDEX operations_running_alias ON operations (alias) WHERE state = 'running' AND alias <> '';
CREATE UNIQUE INDEX operations_running_credential ON operations (credential) WHERE state = 'running' AND credential <> '';
CREATE INDEX operations_alias ON operations (alias, number);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_is_never_emptied BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('goose_db_version',6);
COMMIT;
