package alias_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

func TestCreateAlias(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	in := draft("shop")
	in.ID, in.Epoch, in.Revision, in.CredentialID, in.Credential = 7, 7, 7, 7, "seven" // not the caller's to say
	in.CreatedAt, in.SigningKeys = time.Unix(7, 0), []alias.SigningKey{{KID: "aaaa"}}
	got, err := f.CreateAlias(t.Context(), in, pair("AKIA1"))
	if err != nil {
		t.Fatal(err)
	}
	want := &alias.Alias{
		ID: got.ID, Name: "shop", Location: alias.Location{Bucket: "acme-media", Prefix: "images/", Region: "eu-west-1"},
		CredentialID: got.CredentialID, Credential: "shop", Enabled: true,
		TTL: time.Hour, NegativeTTL: 5 * time.Second, StaleWhileRevalidate: time.Minute, StaleIfError: 24 * time.Hour,
		Transforms: "templates", Access: "open", Widths: []int{20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840},
		State: alias.StateActive, Epoch: 1, Revision: 1, CreatedAt: got.CreatedAt, UpdatedAt: got.CreatedAt,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alias (-want +got):\n%s", diff)
	}
	if got.ID <= 0 || got.CredentialID <= 0 || got.ID == 7 || got.CredentialID == 7 || got.CreatedAt.Year() == 1970 {
		t.Errorf("got id %d, credential %d, created %v", got.ID, got.CredentialID, got.CreatedAt)
	}
	if in.Prefix != "images" {
		t.Error("CreateAlias changed the caller's alias")
	}
	c, err := f.Credential(t.Context(), "shop")
	if err != nil || c.ID != got.CredentialID || c.Provider != (alias.Static{AccessKeyID: "AKIA1"}) || c.Version != 1 || c.Revision != 1 || c.State != alias.CredentialActive {
		t.Errorf("credential: got %+v, %v", c, err)
	}
	f.wantAsStored(t, "shop")
}

func TestCreateAliasCredential(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for name, use := range map[alias.Name]alias.CredentialRef{"static": pair("AKIA1"), "public": anonymous} {
		if _, err := f.CreateCredential(ctx, name, use); err != nil {
			t.Fatal(err)
		}
	}
	both := pair("AKIA1")
	both.Anonymous = true
	bad := alias.CredentialRef{KeyPair: &alias.KeyPair{}}
	for _, row := range []struct {
		name   string
		alias  alias.Name
		use    alias.CredentialRef
		gets   alias.Name // the credential
		exists string     // what ErrExists says
		fields []string
	}{
		{name: "by name", alias: "a1", use: alias.CredentialRef{Name: "static"}, gets: "static"},
		{name: "anonymous by name", alias: "a2", use: alias.CredentialRef{Name: "public"}, gets: "public"},
		{name: "anonymous that is there", alias: "public", use: anonymous, gets: "public"},
		{name: "anonymous, new", alias: "a3", use: anonymous, gets: "a3"},
		{name: "key pair, name of a credential", alias: "static", use: pair("AKIA2"), exists: "credential static"},
		{name: "anonymous, name of a static one", alias: "static", use: anonymous, gets: alias.SharedAnonymous},
		{name: "name of an alias", alias: "a1", use: pair("AKIA2"), exists: "alias a1"},
		{name: "name of nothing", alias: "a9", use: alias.CredentialRef{Name: "none"}, fields: []string{"credential"}},
		{name: "no reference", alias: "a9", fields: []string{"credential"}},
		{name: "two references", alias: "a9", use: both, fields: []string{"credential"}},
		{name: "bad key pair", alias: "a9", use: bad, fields: []string{"credential.access_key_id", "credential.secret_access_key"}},
		{name: "all that is wrong", alias: "A9", use: bad, fields: []string{"name", "credential.access_key_id", "credential.secret_access_key"}},
	} {
		// Sequential: later rows depend on the results of earlier ones.
		t.Run(row.name, func(t *testing.T) {
			a, err := f.CreateAlias(ctx, draft(row.alias), row.use)
			switch {
			case row.exists != "":
				wantError(t, err, alias.ErrExists, row.exists)
			case row.fields != nil:
				wantInvalid(t, err, row.fields...)
				if _, ok := f.Lookup(string(row.alias)); ok {
					t.Error("the refused alias is there")
				}
				if _, err := f.Credential(ctx, row.alias); !errors.Is(err, alias.ErrNotFound) {
					t.Errorf("the credential of the refused alias: got %v", err)
				}
			case err != nil:
				t.Fatal(err)
			case a.Credential != row.gets:
				t.Errorf("got credential %s, want %s", a.Credential, row.gets)
			}
		})
	}
	f.wantAsStored(t, "a1", "a2", "a3", "a9", "public", "static")
}

// TestSharedAnonymous: one credential is enough for all public buckets whose own
// names are taken, and it is not taken away from them.
func TestSharedAnonymous(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	seen := f.observe()
	public := func(_ *alias.Alias, use *alias.CredentialRef) error { use.Anonymous = true; return nil }
	for _, name := range []alias.Name{"one", "two"} {
		f.create(t, name, pair("AKIA1"))
		*seen = nil
		a, err := f.UpdateAlias(ctx, name, 0, public)
		if err != nil || a.Credential != alias.SharedAnonymous {
			t.Fatalf("%s: got %+v, %v", name, a, err)
		}
		want := []string{fmt.Sprintf("alias %s r2", name)}
		if name == "one" {
			want = append([]string{"credential anonymous v1"}, want...)
		}
		wantSeen(t, seen, want...)
	}
	f.create(t, alias.SharedAnonymous, anonymous) // its name is the one that is shared
	if err := f.DeleteAlias(ctx, alias.SharedAnonymous, 0); err != nil {
		t.Fatal(err)
	}
	f.wantAsStored(t, "one", "two", alias.SharedAnonymous)
	if route, ok := f.Lookup("two"); !ok || route.Credential.Provider.Kind() != alias.KindAnonymous {
		t.Errorf("after the alias of that name is gone: %+v", route)
	}
}

// TestSharedAnonymousTaken: a key pair with the shared name stays unchanged.
func TestSharedAnonymousTaken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, alias.SharedAnonymous, pair("AKIA1"))
	f.create(t, "shop", pair("AKIA2"))
	const says = "credential anonymous is of kind static"
	for _, name := range []alias.Name{alias.SharedAnonymous, "shop"} {
		_, err := f.UpdateAlias(ctx, name, 0, func(_ *alias.Alias, use *alias.CredentialRef) error {
			use.Anonymous = true
			return nil
		})
		wantError(t, err, alias.ErrExists, says)
	}
	if _, err := f.CreateCredential(ctx, "other", pair("AKIA3")); err != nil {
		t.Fatal(err)
	}
	_, err := f.CreateAlias(ctx, draft("other"), anonymous)
	wantError(t, err, alias.ErrExists, says)
	f.wantAsStored(t, alias.SharedAnonymous, "shop", "other")
}

func TestUpdateAlias(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, "shop", pair("AKIA1"))
	f.create(t, "other", pair("AKIA2"))
	f.create(t, "open", anonymous)
	stop := errors.New("stop")
	for _, row := range []struct {
		name     string
		change   func(*alias.Alias, *alias.CredentialRef) error
		epoch    int64 // by how much it is raised
		revision int64
		err      error
		fields   []string
	}{
		{name: "nothing", change: func(*alias.Alias, *alias.CredentialRef) error { return nil }},
		{name: "what it is already", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Prefix = "images"; return nil }},
		{name: "what is not the caller's", change: func(a *alias.Alias, _ *alias.CredentialRef) error {
			a.ID, a.Name, a.CredentialID, a.Credential, a.Revision, a.Epoch = 1, "x", 1, "x", 1, 0
			a.CreatedAt, a.UpdatedAt = time.Time{}, time.Time{}
			return nil
		}},
		{name: "ttl", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil }, revision: 1},
		{name: "bucket_owner", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.BucketOwner = "012345678901"; return nil }, revision: 1},
		{name: "state", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.State = alias.StateFailed; return nil }, revision: 1},
		{name: "bucket", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Bucket = "other"; return nil }, revision: 1, epoch: 1},
		{name: "prefix", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Prefix = "other"; return nil }, revision: 1, epoch: 1},
		{name: "region", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Region = "other"; return nil }, revision: 1, epoch: 1},
		{name: "endpoint", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Endpoint = "https://h"; return nil }, revision: 1, epoch: 1},
		{name: "two of these", change: func(a *alias.Alias, _ *alias.CredentialRef) error {
			a.Bucket, a.Endpoint = "third", ""
			return nil
		}, revision: 1, epoch: 1},
		{name: "epoch itself", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Epoch++; return nil }, revision: 1, epoch: 1},
		{name: "credential", change: func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = "other"; return nil }, revision: 1},
		{name: "credential it has", change: func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = "other"; return nil }},
		{name: "credential of nothing", change: func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = "none"; return nil }, fields: []string{"credential"}},
		{name: "key pair", change: func(_ *alias.Alias, use *alias.CredentialRef) error { *use = pair("AKIA9"); return nil }, fields: []string{"credential"}},
		{name: "anonymous, but its name is taken", change: func(_ *alias.Alias, use *alias.CredentialRef) error { use.Anonymous = true; return nil }, revision: 1},
		{name: "anonymous, which it is", change: func(_ *alias.Alias, use *alias.CredentialRef) error { use.Anonymous = true; return nil }},
		{name: "bad fields", change: func(a *alias.Alias, use *alias.CredentialRef) error {
			a.Bucket, a.TTL = "-", -1
			*use = alias.CredentialRef{Name: "x", Anonymous: true}
			return nil
		}, fields: []string{"bucket", "ttl", "credential"}},
		{name: "error of the callback", change: func(a *alias.Alias, _ *alias.CredentialRef) error { a.Bucket = "x"; return stop }, err: stop},
	} {
		// Sequential: each row starts from the result of the previous one.
		t.Run(row.name, func(t *testing.T) {
			before, _ := f.Lookup("shop")
			got, err := f.UpdateAlias(ctx, "shop", before.Alias.Revision, row.change)
			switch {
			case row.fields != nil:
				wantInvalid(t, err, row.fields...)
			case !errors.Is(err, row.err):
				t.Errorf("got error %v, want %v", err, row.err)
			case err == nil:
				after, _ := f.Lookup("shop")
				if diff := cmp.Diff(after.Alias, got); diff != "" {
					t.Errorf("what is returned is not what is seen (-seen +got):\n%s", diff)
				}
			}
			after, _ := f.Lookup("shop")
			if r, e := after.Alias.Revision-before.Alias.Revision, after.Alias.Epoch-before.Alias.Epoch; r != row.revision || e != row.epoch {
				t.Errorf("revision rose by %d and epoch by %d, want %d and %d", r, e, row.revision, row.epoch)
			}
			if after.Alias.ID != before.Alias.ID || after.Alias.CreatedAt != before.Alias.CreatedAt {
				t.Error("the identity changed")
			}
			f.wantAsStored(t, "shop", "other", "open") //nolint:contextcheck // it has that of the test
		})
	}
}

func TestUpdateAliasRevision(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, "shop", anonymous)
	touch := func(a *alias.Alias, _ *alias.CredentialRef) error { a.TTL++; return nil }
	never := func(*alias.Alias, *alias.CredentialRef) error { t.Error("the callback was called"); return nil }
	if _, err := f.UpdateAlias(ctx, "shop", 1, touch); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []int64{1, 3, -1} {
		_, err := f.UpdateAlias(ctx, "shop", stale, never)
		wantError(t, err, alias.ErrStale, "alias shop")
	}
	_, err := f.UpdateAlias(ctx, "none", 0, never)
	wantError(t, err, alias.ErrNotFound, "alias none")
	if _, err := f.UpdateAlias(ctx, "shop", 0, touch); err != nil {
		t.Errorf("any revision: %v", err)
	}
}

// TestUpdateAliasOneWins has many writers hold the same revision.
func TestUpdateAliasOneWins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.create(t, "shop", anonymous)
	errs := make([]error, 8)
	var writers sync.WaitGroup
	for i := range errs {
		writers.Go(func() {
			_, errs[i] = f.UpdateAlias(t.Context(), "shop", 1, func(a *alias.Alias, _ *alias.CredentialRef) error {
				a.TTL = time.Duration(i)
				return nil
			})
		})
	}
	writers.Wait()
	won := 0
	for i, err := range errs {
		if err != nil {
			wantError(t, err, alias.ErrStale, "alias shop")
			continue
		}
		won++
		if route, _ := f.Lookup("shop"); route.Alias.TTL != time.Duration(i) {
			t.Errorf("writer %d won, got TTL %d", i, route.Alias.TTL)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won, want 1", won)
	}
}

func TestDeleteAlias(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.create(t, "own", pair("AKIA1"))
	f.create(t, "open", anonymous)
	f.create(t, "shared", pair("AKIA2"))
	f.create(t, "guest", alias.CredentialRef{Name: "shared"})
	f.create(t, "switched", pair("AKIA3"))
	if _, err := f.UpdateAlias(ctx, "switched", 0, func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = "own"; return nil }); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.DeleteAlias(ctx, "none", 0), alias.ErrNotFound, "alias none")
	wantError(t, f.DeleteAlias(ctx, "own", 2), alias.ErrStale, "alias own")
	for _, row := range []struct {
		alias, credential alias.Name
		stays             bool
	}{
		{"switched", "switched", true}, // was its own once, is another's now
		{"own", "own", false},
		{"open", "open", true},     // anonymous: it holds nothing that has to go
		{"shared", "shared", true}, // the guest has it
		{"guest", "shared", true},  // bears another name
	} {
		if err := f.DeleteAlias(ctx, row.alias, 0); err != nil {
			t.Errorf("DeleteAlias(%s): %v", row.alias, err)
		}
		if _, ok := f.Lookup(string(row.alias)); ok {
			t.Errorf("%s is still there", row.alias)
		}
		if _, err := f.Credential(ctx, row.credential); (err == nil) != row.stays {
			t.Errorf("credential %s after %s: got %v, want it to stay: %v", row.credential, row.alias, err, row.stays)
		}
	}
	if n := len(f.Count()); n != 0 {
		t.Errorf("Count: got %v, want nothing", f.Count())
	}
	f.wantAsStored(t, "own", "open", "shared", "guest", "switched")
}

// TestNewNameNewID: what is cached under a name that is made again must not be
// found.
func TestNewNameNewID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.create(t, "shop", pair("AKIA1"))
	if err := f.DeleteAlias(t.Context(), "shop", 1); err != nil {
		t.Fatal(err)
	}
	second := f.create(t, "shop", pair("AKIA1"))
	if first.ID == second.ID || first.CredentialID == second.CredentialID {
		t.Errorf("ids: got %d and %d, %d and %d", first.ID, second.ID, first.CredentialID, second.CredentialID)
	}
}

// TestUpdateAliasUnderStricterPolicy: an alias that the policy of today refuses
// can be changed, but not to something else that it refuses.
func TestUpdateAliasUnderStricterPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	loose, err := alias.Open(t.Context(), f.store, f.sealer, alias.Policy{AllowPrivateEndpoints: true})
	if err != nil {
		t.Fatal(err)
	}
	inside := draft("inside")
	inside.Endpoint = "http://10.0.0.1:9000"
	if _, err := loose.CreateAlias(t.Context(), inside, anonymous); err != nil {
		t.Fatal(err)
	}
	_, err = f.UpdateAlias(t.Context(), "inside", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Endpoint = "http://10.0.0.2:9000"
		return nil
	})
	wantInvalid(t, err, "endpoint")
	got, err := f.UpdateAlias(t.Context(), "inside", 0, func(a *alias.Alias, _ *alias.CredentialRef) error {
		a.Enabled = false
		return nil
	})
	if err != nil || got.Enabled {
		t.Errorf("disable it: got %+v, %v", got, err)
	}
	f.wantAsStored(t, "inside")
}

// TestUpdateAliasOfFailedCredential: an alias whose credential has failed can be changed,
// and no other alias can be given that credential.
func TestUpdateAliasOfFailedCredential(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c, a := pairOf("media", "shop")
	c.State = alias.CredentialFailed
	err := f.Apply(t.Context(), []alias.Name{"media", "shop"}, func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialPut: c}, {AliasPut: a}}, errors.Join(tx.InsertCredential(c), tx.InsertAlias(a))
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.UpdateAlias(t.Context(), "shop", 1, func(a *alias.Alias, _ *alias.CredentialRef) error { a.Enabled = false; return nil })
	if err != nil || got.Enabled || got.Credential != "media" {
		t.Errorf("%+v, %v", got, err)
	}
	f.create(t, "blog", anonymous)
	_, err = f.UpdateAlias(t.Context(), "blog", 1, func(_ *alias.Alias, use *alias.CredentialRef) error { use.Name = "media"; return nil })
	wantError(t, err, alias.ErrBusy, "credential media is failed")
	f.wantAsStored(t, "shop", "blog")
}
