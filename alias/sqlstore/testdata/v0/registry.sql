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
, cache_control    TEXT NOT NULL DEFAULT '', cors_origins     TEXT NOT NULL DEFAULT '', fallback_missing TEXT NOT NULL DEFAULT '', fallback_broken  TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "aliases" VALUES(5189960783101167965,'public','acme-public','','','eu-west-1','',0,5299898225300251027,'',1,3600000000000,5000000000,60000000000,86400000000000,'active',1,1,1795915603429587,1795915603429587,'','','','');
INSERT INTO "aliases" VALUES(5442262675393556436,'shop','acme-media','','website-images/','eu-west-1','',0,3403391417597540137,'a.jpg',1,600000000000,5000000000,60000000000,86400000000000,'active',1,1,1795915603408083,1795915603408083,'public, max-age=60','https://shop.example.com','none.png','none.png');
INSERT INTO "aliases" VALUES(6710025846530955498,'web','acme-media','123456789012','web/','eu-west-1','',0,2304245350264205466,'',1,3600000000000,5000000000,60000000000,86400000000000,'active',1,2,1793534400000000,1793534400000000,'','','','');
INSERT INTO "aliases" VALUES(7329628943356839317,'news','acme-media','','news/','eu-west-1','',0,3403391417597540137,'',0,3600000000000,5000000000,60000000000,86400000000000,'active',1,2,1795915603456120,1795915603488252,'','','','');
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
INSERT INTO "audit" VALUES(1,1793534400000000,'127.0.0.1','iam:CreateUser','ixmage-s3read-web-a1b2','','','web','web','ok','op-1','');
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
INSERT INTO "credentials" VALUES(2304245350264205466,'web','provisioned','{"access_key_id":"AKIANEW0000000000000","user":{"name":"ixmage-s3read-web-a1b2","path":"/ixmage/abcdefghijkl/","arn":"arn:aws:iam::123456789012:user/ixmage/abcdefghijkl/ixmage-s3read-web-a1b2","id":"AIDAEXAMPLE","boundary":"arn:aws:iam::123456789012:policy/boundary"},"mode":"managed","grants":[{"bucket":"acme-media","prefix":"web/","kms_key_arn":"arn:aws:kms:eu-west-1:123456789012:key/1","region":"eu-west-1"}],"policies":[{"arn":"arn:aws:iam::123456789012:policy/ixmage/p","ours":true}],"tags":{"team":"web"},"operation":"op-1","rotate_every":2592000000000000,"previous":{"access_key_id":"AKIAOLD0000000000000","sealed":"Acbpuz2b7vpqYQlyorNm+0lCtsHWntdSoL4tnyyWVJS5XFBze7XMaJzkodK/+lMVG+D47udpQMhftTQSX5RP","version":1,"until":"2026-11-01T14:00:00Z"},"discarded":["AKIAGONE000000000000"],"widened":[{"bucket":"acme-media","prefix":"left/"}]}',X'01C6E9BB3D7AFF3F7DC61D20522D1D5C151982C53BEFF67FB0F398A6FDCE0A638BC95F2D5114278EBA2F366A586DB95DDF461831F063879F4289850BEADF',2,'active','proven',1793534400000000,5,1793534400000000,1793538000000000,1793538000000000);
INSERT INTO "credentials" VALUES(3403391417597540137,'shop','static','{"access_key_id":"AKIAI44QH8DHBEXAMPLE"}',X'01C6E9BB3D8E61A16F07EA70287B86F4047966EA243CEF653C3B869BF356BCD91C99324DD3AC47E143F8672411623187E2DFE4781017E8B77F0F47B048631687A8C7FB0E5D25F8FEE8',2,'active','',0,2,1795915603408379,1795915603516105,1795915603516105);
INSERT INTO "credentials" VALUES(5299898225300251027,'public','anonymous','{}',NULL,1,'active','',0,1,1795915603429962,0,1795915603429962);
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO "goose_db_version" VALUES(1,0,1,'2026-11-29 01:26:43');
INSERT INTO "goose_db_version" VALUES(2,1,1,'2026-11-29 01:26:43');
INSERT INTO "goose_db_version" VALUES(3,2,1,'2026-11-29 01:26:43');
INSERT INTO "goose_db_version" VALUES(4,3,1,'2026-11-29 01:26:43');
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
INSERT INTO "meta" VALUES('key_check',X'01C6E9BB3D615B5D5BFA858D3372C3C940A9D4CE19BCE0448B7F06E3A2163A0A6D642F2103DD686EEB22CD050741492E39');
INSERT INTO "meta" VALUES('install_id',X'6A3637346D637178656C7435');
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
INSERT INTO "operations" VALUES(1,'op-1','provision','web','web',2304245350264205466,'done','null','[{"name":"create-user","state":"done","started_at":"2026-11-01T12:00:00Z","finished_at":"2026-11-01T12:00:00Z","detail":"made"}]','{"alias":"web"}','{"name":"x"}','127.0.0.1',9,1793534400000000,1793534400000000,1793534400000000);
INSERT INTO "operations" VALUES(2,'op-2','rotate','','web',2304245350264205466,'failed','{"code":"iam-error","step":"create-key","detail":"refused"}','[]','','{}','',3,1793534400000000,1793534400000000,1793534400000000);
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
INSERT INTO "usage" VALUES(6710025846530955498,1793534400000000,3,4096,7,7168,0,0,0,0);
CREATE TABLE usage_writers (
    writer TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL
) STRICT;
INSERT INTO "usage_writers" VALUES('w',1,1793534400000000);
CREATE TABLE verifications (
    alias_id           INTEGER PRIMARY KEY REFERENCES aliases (id) ON DELETE CASCADE,
    alias              TEXT    NOT NULL,
    credential_id      INTEGER NOT NULL,
    credential_version INTEGER NOT NULL,
    checked_at         INTEGER NOT NULL,
    checks             TEXT    NOT NULL
) STRICT;
INSERT INTO "verifications" VALUES(6710025846530955498,'web',2304245350264205466,2,1793534400000000,'[{"name":"read-inside","expected":"allowed","got":"200","verdict":"proven","positive":true,"at":"2026-11-01T12:00:00Z"}]');
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
INSERT INTO "sqlite_sequence" VALUES('goose_db_version',4);
COMMIT;
