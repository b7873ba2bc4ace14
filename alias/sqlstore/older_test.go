package sqlstore

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/seal"
)

// openOlder opens a registry and its key set as an older ixmage left them. They
// were dumped as SQL text from a data folder of the version that the folder in
// testdata is named after, and must never be changed.
func openOlder(t *testing.T, version string) (*alias.Registry, *Store) {
	t.Helper()
	dir := t.TempDir()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata", version, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	path := filepath.Join(dir, "registry.db")
	write(t, path, nil)
	// The dump inserts aliases before the credentials that they refer to.
	execRaw(t, path, "PRAGMA foreign_keys = OFF;\n"+string(read("registry.sql")))
	write(t, filepath.Join(dir, "master.keyset"), read("master.keyset"))
	s := openTest(t, path)
	sealed, err := s.CountSealed(t.Context())
	if err != nil || sealed != 2 {
		t.Fatalf("got %d sealed secrets, %v, want 2", sealed, err)
	}
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Sealed: sealed})
	if err != nil {
		t.Fatal(err)
	}
	r, err := alias.Open(t.Context(), s, keys, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

// TestOlderRegistry: the rows of an older ixmage are readable, and its secrets open.
func TestOlderRegistry(t *testing.T) {
	t.Parallel()
	r, s := openOlder(t, "v0")
	wantCopy(t, s, 3, 4)
	wantOlderAliases(t, r)
	wantOlderCredentials(t, r)
	wantOlderHistory(t, r, s)
	// It can be written, too.
	if _, err := r.RaiseEpoch(t.Context(), "shop"); err != nil {
		t.Error(err)
	}
	if _, err := r.UpdateAlias(t.Context(), "news", 2, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Enabled = true
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// copyPath is where a registry of the path is copied to before its migration to the newest
// schema.
func copyPath(path string) string {
	list, err := sqliteMigrations.ReadDir("migrations/sqlite")
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s.before-%d", path, len(list))
}

// wantCopy checks that the registry was copied before its schema was migrated, and that the
// copy has the old schema, of wantVersion, and all rows.
func wantCopy(t *testing.T, s *Store, wantVersion, wantAliases int) {
	t.Helper()
	var path string
	if err := s.reader.QueryRowContext(t.Context(), `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path); err != nil {
		t.Fatal(err)
	}
	copied := copyPath(path)
	info, err := os.Stat(copied)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("got %v, %v, want a copy of mode 0600", info, err)
	}
	var version, aliases int
	db, err := sql.Open("sqlite", sqliteDSN(copied))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const query = `SELECT (SELECT max(version_id) FROM goose_db_version), (SELECT count(*) FROM aliases)`
	if err := db.QueryRowContext(t.Context(), query).Scan(&version, &aliases); err != nil || version != wantVersion || aliases != wantAliases {
		t.Errorf("the copy has version %d and %d aliases, %v", version, aliases, err)
	}
	if left, _ := filepath.Glob(path + "*.tmp-*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestRegistryBeforeShares: aliases from before cache_min and cache_max have neither, keep
// everything else, and can get both.
func TestRegistryBeforeShares(t *testing.T) {
	t.Parallel()
	r, s := openOlder(t, "v5")
	wantCopy(t, s, 5, 3)
	want := alias.New()
	want.Transforms = alias.TransformsOff
	want.ID, want.Name, want.CredentialID, want.Credential = 7833110035793063359, "shop", 6903347317548531466, "shop"
	want.Location = alias.Location{Bucket: "acme-media", Prefix: "website-images/", Region: "eu-west-1"}
	want.Canary, want.State, want.Epoch, want.Revision = "a.jpg", alias.StateActive, 2, 1
	want.CORSOrigins, want.CORSHeaders = []string{"https://shop.example.com"}, []string{"X-Viewer"}
	want.Fallback = alias.Fallback{Missing: "none.png", Broken: "none.png"}
	want.CreatedAt = time.UnixMicro(1795948115212859).UTC()
	want.UpdatedAt = want.CreatedAt
	route, _ := r.Lookup("shop")
	if diff := cmp.Diff(want, route.Alias); diff != "" {
		t.Errorf("alias (-want +got):\n%s", diff)
	}
	kp, err := r.Reveal(route.Credential)
	if err != nil || kp.SecretAccessKey.Reveal() != "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY" {
		t.Errorf("its secret: %v", err)
	}
	if _, err := r.UpdateAlias(t.Context(), "shop", 1, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.CacheMin, a.CacheMax = 1<<20, 1<<30
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Alias(t.Context(), "shop"); err != nil || got.CacheMin != 1<<20 || got.CacheMax != 1<<30 {
		t.Errorf("after the change: %+v, %v", got, err)
	}
}

func wantOlderAliases(t *testing.T, r *alias.Registry) {
	t.Helper()
	made := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	defaults := alias.New()
	defaults.Transforms = alias.TransformsOff // they are from before there were any
	defaults.State, defaults.Epoch, defaults.Revision = alias.StateActive, 1, 1
	shop, public, news, web := *defaults, *defaults, *defaults, *defaults
	shop.ID, shop.Name, shop.CredentialID, shop.Credential = 5442262675393556436, "shop", 3403391417597540137, "shop"
	shop.Location = alias.Location{Bucket: "acme-media", Prefix: "website-images/", Region: "eu-west-1"}
	shop.Canary, shop.TTL, shop.CacheControl = "a.jpg", 10*time.Minute, "public, max-age=60"
	shop.CORSOrigins = []string{"https://shop.example.com"}
	shop.Fallback = alias.Fallback{Missing: "none.png", Broken: "none.png"}
	shop.CreatedAt = time.UnixMicro(1795915603408083).UTC()
	shop.UpdatedAt = shop.CreatedAt
	public.ID, public.Name, public.CredentialID, public.Credential = 5189960783101167965, "public", 5299898225300251027, "public"
	public.Location = alias.Location{Bucket: "acme-public", Region: "eu-west-1"}
	public.CreatedAt = time.UnixMicro(1795915603429587).UTC()
	public.UpdatedAt = public.CreatedAt
	news.ID, news.Name, news.CredentialID, news.Credential = 7329628943356839317, "news", 3403391417597540137, "shop"
	news.Location = alias.Location{Bucket: "acme-media", Prefix: "news/", Region: "eu-west-1"}
	news.Enabled, news.Revision = false, 2
	news.CreatedAt, news.UpdatedAt = time.UnixMicro(1795915603456120).UTC(), time.UnixMicro(1795915603488252).UTC()
	web.ID, web.Name, web.CredentialID, web.Credential = 6710025846530955498, "web", 2304245350264205466, "web"
	web.Location = alias.Location{Bucket: "acme-media", BucketOwner: "123456789012", Prefix: "web/", Region: "eu-west-1"}
	web.Revision, web.CreatedAt, web.UpdatedAt = 2, made, made
	for _, want := range []alias.Alias{shop, public, news, web} {
		got, ok := r.Lookup(string(want.Name))
		if !ok {
			t.Errorf("alias %s is not there", want.Name)
			continue
		}
		if diff := cmp.Diff(&want, got.Alias); diff != "" {
			t.Errorf("alias %s (-want +got):\n%s", want.Name, diff)
		}
	}
}

func wantOlderCredentials(t *testing.T, r *alias.Registry) {
	t.Helper()
	for name, want := range map[string]struct{ id, secret string }{
		"shop": {"AKIAI44QH8DHBEXAMPLE", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY"},
		"web":  {"AKIANEW0000000000000", "the secret after the rotation"},
	} {
		route, _ := r.Lookup(name)
		kp, err := r.Reveal(route.Credential)
		if err != nil || kp.AccessKeyID != want.id || kp.SecretAccessKey.Reveal() != want.secret {
			t.Errorf("%s: got key %s, %v, want %s and its secret", name, kp.AccessKeyID, err, want.id)
		}
	}
	route, _ := r.Lookup("public")
	if route.Credential.Provider != (alias.Anonymous{}) || route.Credential.Sealed != nil {
		t.Errorf("public: got %+v", route.Credential)
	}
	route, _ = r.Lookup("web")
	got, ok := route.Credential.Provisioned()
	if !ok || got.Previous == nil {
		t.Fatalf("web: got %+v", route.Credential.Provider)
	}
	kp, err := r.RevealSealed(route.Credential, got.Previous.SealedKey)
	if err != nil || kp.AccessKeyID != "AKIAOLD0000000000000" || kp.SecretAccessKey.Reveal() != "the secret before the rotation" {
		t.Errorf("web: previous key: got %s, %v", kp.AccessKeyID, err)
	}
	want := &alias.Provisioned{
		AccessKeyID: "AKIANEW0000000000000", Mode: alias.PolicyManaged,
		User: alias.IAMUser{
			Name: "ixmage-s3read-web-a1b2", Path: "/ixmage/abcdefghijkl/", ID: "AIDAEXAMPLE",
			ARN:      "arn:aws:iam::123456789012:user/ixmage/abcdefghijkl/ixmage-s3read-web-a1b2",
			Boundary: "arn:aws:iam::123456789012:policy/boundary",
		},
		Grants: []alias.Grant{{
			Bucket: "acme-media", Prefix: "web/", KMSKeyARN: "arn:aws:kms:eu-west-1:123456789012:key/1", Region: "eu-west-1",
		}},
		Policies: []alias.PolicyRef{{ARN: "arn:aws:iam::123456789012:policy/ixmage/p", Ours: true}},
		Tags:     map[string]string{"team": "web"}, Operation: "op-1", RotateEvery: 720 * time.Hour,
		PendingDeletion: []string{"AKIAGONE000000000000"}, ExtraGrants: []alias.Grant{{Bucket: "acme-media", Prefix: "left/"}},
		Previous: &alias.PreviousKey{SealedKey: got.Previous.SealedKey, Until: time.Date(2026, 11, 1, 14, 0, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("web (-want +got):\n%s", diff)
	}
}

func wantOlderHistory(t *testing.T, r *alias.Registry, s *Store) {
	t.Helper()
	list, err := r.History().Operations(t.Context(), alias.OperationFilter{Limit: 10})
	if err != nil || len(list) != 2 || list[0].ID != "op-2" || list[0].Error == nil || list[0].Error.Code != "iam-error" ||
		list[1].ID != "op-1" || len(list[1].Steps) != 1 || list[1].Steps[0].Name != "create-user" {
		t.Errorf("operations: got %+v, %v", list, err)
	}
	audit, err := r.History().Audit(t.Context(), 0, 10)
	if err != nil || len(audit) != 1 || audit[0].Action != "iam:CreateUser" || audit[0].User != "ixmage-s3read-web-a1b2" {
		t.Errorf("audit: got %+v, %v", audit, err)
	}
	const web = 6710025846530955498
	v, err := r.History().Verification(t.Context(), web)
	if err != nil || v.CredentialVersion != 2 || v.Scope() != alias.VerdictProven || v.Checks[0].Evidence != "" || v.NotTried != nil {
		t.Errorf("verification: got %+v, %v", v, err)
	}
	usage, err := s.Usage(t.Context(), alias.UsageQuery{AliasIDs: []int64{web}, By: alias.Daily, Last: 90, Now: time.Now()})
	u := usage[web]
	if len(u.Periods) > 0 {
		t.Errorf("usage of before there were periods: got %v", u.Periods)
	}
	if err != nil || u.Spent != (alias.Tally{Requests: 3, Bytes: 4096}) || u.Hit != (alias.Tally{Requests: 7, Bytes: 7168}) {
		t.Errorf("usage: got %+v, %v", u, err)
	}
	if id, err := s.Meta(t.Context(), "install_id"); err != nil || string(id) != "j674mcqxelt5" {
		t.Errorf("install id: got %q, %v", id, err)
	}
}
