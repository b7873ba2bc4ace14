package sqlstore

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ixmage/alias"
)

const selectAliases = `SELECT a.id, a.name, a.bucket, a.bucket_owner, a.prefix, a.region, a.endpoint, a.path_style,
	a.credential_id, c.name, a.canary, a.enabled, a.ttl, a.negative_ttl, a.stale_while_revalidate, a.stale_if_error,
	a.cache_control, a.cors_origins, a.cors_headers, a.fallback_missing, a.fallback_broken, a.cache_min, a.cache_max,
	a.transforms, a.access, a.widths, a.templates, a.signing_keys,
	a.state, a.epoch, a.revision, a.created_at, a.updated_at
	FROM aliases a LEFT JOIN credentials c ON c.id = a.credential_id`

var errUnknownKind = errors.New("which this ixmage does not know: a newer ixmage wrote it; run that one")

func scanAlias(r row) (*alias.Alias, error) {
	var a alias.Alias
	var credential sql.NullString
	var origins, headers string
	var transforms transformsRow
	var created, updated int64
	err := r.Scan(&a.ID, &a.Name, &a.Bucket, &a.BucketOwner, &a.Prefix, &a.Region, &a.Endpoint, &a.PathStyle,
		&a.CredentialID, &credential, &a.Canary, &a.Enabled,
		&a.TTL, &a.NegativeTTL, &a.StaleWhileRevalidate, &a.StaleIfError,
		&a.CacheControl, &origins, &headers, &a.Fallback.Missing, &a.Fallback.Broken, &a.CacheMin, &a.CacheMax,
		&a.Transforms, &a.Access, &transforms.widths, &transforms.templates, &transforms.keys,
		&a.State, &a.Epoch, &a.Revision, &created, &updated)
	if err == nil {
		err = transforms.into(&a)
	}
	if err != nil {
		return nil, &alias.DamagedError{Kind: "alias", Name: a.Name, ID: a.ID, Cause: err}
	}
	if !credential.Valid {
		cause := fmt.Errorf("its credential, of the id %d, is not in the registry", a.CredentialID)
		return nil, &alias.DamagedError{Kind: "alias", Name: a.Name, ID: a.ID, Cause: cause}
	}
	a.Credential = alias.Name(credential.String)
	a.CORSOrigins, a.CORSHeaders = words(origins), words(headers)
	a.CreatedAt, a.UpdatedAt = fromMicros(created), fromMicros(updated)
	return &a, nil
}

// words returns the words of a column, nil if it has none.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Fields(s)
}

// aliasColumns are the columns that InsertAlias and UpdateAlias write, in the order of
// aliasValues.
var aliasColumns = []string{
	"name", "bucket", "bucket_owner", "prefix", "region", "endpoint", "path_style",
	"credential_id", "canary", "enabled", "ttl", "negative_ttl", "stale_while_revalidate", "stale_if_error",
	"cache_control", "cors_origins", "cors_headers", "fallback_missing", "fallback_broken", "cache_min", "cache_max",
	"transforms", "access", "widths", "templates", "signing_keys",
	"state", "epoch", "revision", "created_at", "updated_at", "id",
}

func aliasValues(a *alias.Alias) []any {
	transforms := transformsOf(a)
	return []any{
		string(a.Name), a.Bucket, a.BucketOwner, a.Prefix, a.Region, a.Endpoint, a.PathStyle,
		a.CredentialID, a.Canary, a.Enabled,
		int64(a.TTL), int64(a.NegativeTTL), int64(a.StaleWhileRevalidate), int64(a.StaleIfError),
		a.CacheControl, strings.Join(a.CORSOrigins, " "), strings.Join(a.CORSHeaders, " "),
		a.Fallback.Missing, a.Fallback.Broken, int64(a.CacheMin), int64(a.CacheMax),
		string(a.Transforms), string(a.Access), transforms.widths, transforms.templates, transforms.keys,
		string(a.State), a.Epoch, a.Revision, micros(a.CreatedAt), micros(a.UpdatedAt), a.ID,
	}
}

// InsertAlias adds an alias. The database refuses an alias whose credential does not
// exist, with alias.ErrNotFound.
func (t *tx) InsertAlias(a *alias.Alias) error {
	_, err := t.exec(insertInto("aliases", aliasColumns), aliasValues(a)...)
	t.log(alias.LogAlias, a.Name)
	return noCredential(err)
}

// UpdateAlias replaces an alias, unless its epoch would decrease.
func (t *tx) UpdateAlias(a *alias.Alias) error {
	values := append(aliasValues(a), a.Revision-1, a.Epoch)
	t.log(alias.LogAlias, a.Name)
	return noCredential(t.replace(updateOf("aliases", aliasColumns)+` AND epoch <= ?`, values...))
}

// RaiseEpoch adds one to the epoch of an alias.
func (t *tx) RaiseEpoch(aliasID int64) error {
	name, err := t.change(alias.ErrNotFound, `UPDATE aliases SET epoch = epoch + 1 WHERE id = ?`, aliasID)
	t.log(alias.LogAlias, name)
	return err
}

// DeleteAlias removes an alias and all that is stored about it.
func (t *tx) DeleteAlias(id, revision int64) error {
	name, err := t.change(alias.ErrStale, `DELETE FROM aliases WHERE id = ? AND revision = ?`, id, revision)
	if err != nil {
		return err
	}
	t.log(alias.LogAlias, name)
	return t.deleteHistory(id)
}

func noCredential(err error) error {
	if errors.Is(err, errForeign) {
		return fmt.Errorf("its credential: %w", alias.ErrNotFound)
	}
	return err
}

const selectCredentials = `SELECT id, name, kind, public, sealed, version, state, scope, verified_at,
	revision, created_at, rotated_at, updated_at FROM credentials`

func scanCredential(r row) (*alias.Credential, error) {
	var c alias.Credential
	var kind alias.Kind
	var public string
	var verified, created, rotated, updated int64
	err := r.Scan(&c.ID, &c.Name, &kind, &public, &c.Sealed, &c.Version, &c.State, &c.Scope, &verified,
		&c.Revision, &created, &rotated, &updated)
	if err != nil {
		return nil, &alias.DamagedError{Kind: "credential", Name: c.Name, ID: c.ID, Cause: err}
	}
	c.Provider, err = decodeProvider(kind, public)
	if errors.Is(err, errUnknownKind) {
		return nil, fmt.Errorf("read credential %s: %w", c.Name, err)
	}
	if err != nil {
		return nil, &alias.DamagedError{Kind: "credential", Name: c.Name, ID: c.ID, Cause: err}
	}
	c.VerifiedAt, c.CreatedAt = fromMicros(verified), fromMicros(created)
	c.RotatedAt, c.UpdatedAt = fromMicros(rotated), fromMicros(updated)
	return &c, nil
}

// decodeProvider decodes the provider by its kind.
func decodeProvider(kind alias.Kind, public string) (alias.Provider, error) {
	switch kind {
	case alias.KindStatic:
		var p alias.Static
		err := json.Unmarshal([]byte(public), &p)
		return p, err
	case alias.KindAnonymous:
		return alias.Anonymous{}, nil
	case alias.KindDefault:
		return alias.Default{}, nil
	case alias.KindRole:
		var p alias.Role
		err := json.Unmarshal([]byte(public), &p)
		return p, err
	case alias.KindProvisioned:
		var p alias.Provisioned
		err := json.Unmarshal([]byte(public), &p)
		return &p, err
	}
	return nil, fmt.Errorf("it is of kind %q, %w", kind, errUnknownKind)
}

var credentialColumns = []string{
	"name", "kind", "public", "sealed", "version", "state", "scope", "verified_at",
	"revision", "created_at", "rotated_at", "updated_at", "id",
}

func credentialValues(c *alias.Credential) ([]any, error) {
	public, err := json.Marshal(c.Provider)
	if err != nil {
		return nil, fmt.Errorf("write credential %s: %w", c.Name, err)
	}
	var sealed any // nil is NULL, an empty slice is not
	if c.Sealed != nil {
		sealed = c.Sealed
	}
	return []any{
		string(c.Name), string(c.Provider.Kind()), string(public), sealed,
		c.Version, string(c.State), c.Scope, micros(c.VerifiedAt),
		c.Revision, micros(c.CreatedAt), micros(c.RotatedAt), micros(c.UpdatedAt), c.ID,
	}, nil
}

// InsertCredential adds a credential.
func (t *tx) InsertCredential(c *alias.Credential) error {
	values, err := credentialValues(c)
	if err != nil {
		return t.fail(err)
	}
	t.log(alias.LogCredential, c.Name)
	_, err = t.exec(insertInto("credentials", credentialColumns), values...)
	return err
}

// UpdateCredential replaces a credential.
func (t *tx) UpdateCredential(c *alias.Credential) error {
	values, err := credentialValues(c)
	if err != nil {
		return t.fail(err)
	}
	t.log(alias.LogCredential, c.Name)
	return t.replace(updateOf("credentials", credentialColumns), append(values, c.Revision-1)...)
}

// DeleteCredential removes a credential; the foreign key prevents it while an alias uses
// the credential.
func (t *tx) DeleteCredential(id, revision int64) error {
	name, err := t.change(alias.ErrStale, `DELETE FROM credentials WHERE id = ? AND revision = ?`, id, revision)
	t.log(alias.LogCredential, name)
	if errors.Is(err, errForeign) {
		return alias.ErrInUse
	}
	return err
}

func insertInto(table string, columns []string) string {
	values := strings.Repeat(", ?", len(columns))[2:]
	return `INSERT INTO ` + table + ` (` + strings.Join(columns, ", ") + `) VALUES (` + values + `)`
}

// updateOf returns an UPDATE of every column except the last, which is the id. It
// applies to the row with this id and the revision in the last argument.
func updateOf(table string, columns []string) string {
	set := columns[:len(columns)-1]
	return `UPDATE ` + table + ` SET ` + strings.Join(set, " = ?, ") + ` = ? WHERE id = ? AND revision = ?`
}

// micros and fromMicros distinguish the zero time from the year 1970.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
