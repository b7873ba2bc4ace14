package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"ixmage/alias"
)

func testAliasRoundTrip(t *testing.T, s alias.Store) {
	one, two := credential(1, "one"), credential(2, "two")
	full := anAlias(1<<63-1, "shop", one)
	bare := &alias.Alias{
		ID: 7, Name: "bare", Location: alias.Location{Bucket: "b-b"}, CredentialID: 2, Credential: "two", Revision: 1,
	}
	seed(t, s, []*alias.Credential{one, two}, full, bare)
	wantAlias(t, s, full)
	wantAlias(t, s, bare)

	next := *full
	next.Location = alias.Location{Bucket: "other", Region: "us-east-1"}
	next.CredentialID, next.Credential, next.Canary, next.Enabled = 2, "two", "", false
	next.TTL, next.NegativeTTL, next.StaleWhileRevalidate, next.StaleIfError = 0, 0, 0, 0
	next.CacheControl, next.CORSOrigins, next.CORSHeaders, next.Fallback = "", nil, nil, alias.Fallback{Missing: "a"}
	next.CacheMin, next.CacheMax = 0, 0
	next.State, next.Epoch, next.Revision, next.UpdatedAt = alias.StateFailed, 1<<62+1, 2, at.Add(time.Hour)
	must(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&next) })
	wantAlias(t, s, &next)
	wantAlias(t, s, bare)

	must(t, s, func(tx alias.Tx) error { return tx.DeleteAlias(next.ID, 2) })
	_, err := s.Alias(t.Context(), "shop")
	wantError(t, "Alias after delete", err, alias.ErrNotFound)
	wantAlias(t, s, bare)
}

func testCredentialRoundTrip(t *testing.T, s alias.Store) {
	full := credential(1<<63-1, "shop")
	bare := &alias.Credential{
		ID: 2, Name: "public", Provider: alias.Anonymous{}, Version: 1, State: alias.CredentialActive, Revision: 1,
	}
	role := *bare
	role.ID, role.Name = 3, "pictures"
	role.Provider = alias.Role{
		ARN: "arn:aws:iam::123456789012:role/pictures", ExternalID: "x", Duration: 90 * time.Minute, SessionPolicy: "alias",
		Source: "shop", Region: "eu-west-1", KMSKeyARN: "arn:aws:kms:eu-west-1:123456789012:key/k", SourceIdentity: true,
		Account: "media",
	}
	own := *bare
	own.ID, own.Name, own.Provider = 4, "own", alias.Default{}
	seed(t, s, []*alias.Credential{full, bare, &role, &own})
	for _, c := range []*alias.Credential{full, bare, &role, &own} {
		wantCredential(t, s, c)
	}

	next := *full
	next.Provider, next.Sealed = alias.Static{AccessKeyID: `quote"and\back`}, []byte("sealed anew")
	next.Version, next.Revision, next.State, next.Scope = 4, 2, "rotating", ""
	next.VerifiedAt, next.RotatedAt, next.UpdatedAt = time.Time{}, time.Time{}, at.Add(time.Hour)
	must(t, s, func(tx alias.Tx) error { return tx.UpdateCredential(&next) })
	wantCredential(t, s, &next)
	wantCredential(t, s, bare)

	must(t, s, func(tx alias.Tx) error { return tx.DeleteCredential(next.ID, 2) })
	_, err := s.Credential(t.Context(), "shop")
	wantError(t, "Credential after delete", err, alias.ErrNotFound)
	wantCredential(t, s, bare)
}

func testMissing(t *testing.T, s alias.Store) {
	_, err := s.Alias(t.Context(), "none")
	wantError(t, "Alias", err, alias.ErrNotFound)
	_, err = s.Credential(t.Context(), "none")
	wantError(t, "Credential", err, alias.ErrNotFound)
	must(t, s, func(tx alias.Tx) error {
		_, err := tx.Alias("none")
		wantError(t, "Tx.Alias", err, alias.ErrNotFound)
		_, err = tx.Credential("none")
		wantError(t, "Tx.Credential", err, alias.ErrNotFound)
		return nil // ErrNotFound does not fail the transaction
	})
	if users, err := s.AliasesOf(t.Context(), 1); err != nil || len(users) != 0 {
		t.Errorf("AliasesOf: got %v, %v, want none", users, err)
	}
}

func testInsertTakenName(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	seed(t, s, []*alias.Credential{c}, anAlias(1, "shop", c))
	for what, fn := range map[string]func(alias.Tx) error{
		"alias name":      func(tx alias.Tx) error { return tx.InsertAlias(anAlias(2, "shop", c)) },
		"alias id":        func(tx alias.Tx) error { return tx.InsertAlias(anAlias(1, "other", c)) },
		"credential name": func(tx alias.Tx) error { return tx.InsertCredential(credential(2, "shop")) },
		"credential id":   func(tx alias.Tx) error { return tx.InsertCredential(credential(1, "other")) },
	} {
		wantError(t, what, try(t, s, fn), alias.ErrExists)
	}
}

func testInsertNoCredential(t *testing.T, s alias.Store) {
	orphan := anAlias(1, "shop", credential(9, "none"))
	err := try(t, s, func(tx alias.Tx) error { return tx.InsertAlias(orphan) })
	wantError(t, "InsertAlias", err, alias.ErrNotFound)
	_, err = s.Alias(t.Context(), "shop")
	wantError(t, "Alias", err, alias.ErrNotFound)
}

func testUpdateStale(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	for name, revision := range map[string]int64{"same": 1, "skipped": 3, "back": 0} {
		nextAlias, nextCredential := *a, *c
		nextAlias.Revision, nextCredential.Revision = revision, revision
		nextAlias.Bucket, nextCredential.Scope = "changed", "changed"
		err := try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&nextAlias) })
		wantError(t, name+" alias", err, alias.ErrStale)
		err = try(t, s, func(tx alias.Tx) error { return tx.UpdateCredential(&nextCredential) })
		wantError(t, name+" credential", err, alias.ErrStale)
	}
	other := *a
	other.ID, other.Revision = 2, 2
	err := try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&other) })
	wantError(t, "other id", err, alias.ErrStale)
	wantAlias(t, s, a)
	wantCredential(t, s, c)
}

func testUpdateNoCredential(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	next := *a
	next.CredentialID, next.Revision = 9, 2
	err := try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&next) })
	wantError(t, "UpdateAlias", err, alias.ErrNotFound)
	wantAlias(t, s, a)
}

func testDeleteStale(t *testing.T, s alias.Store) {
	c, lone := credential(1, "shop"), credential(2, "lone")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c, lone}, a)
	for name, fn := range map[string]func(alias.Tx) error{
		"alias revision":      func(tx alias.Tx) error { return tx.DeleteAlias(1, 2) },
		"alias id":            func(tx alias.Tx) error { return tx.DeleteAlias(3, 1) },
		"credential revision": func(tx alias.Tx) error { return tx.DeleteCredential(2, 2) },
		"credential id":       func(tx alias.Tx) error { return tx.DeleteCredential(3, 1) },
	} {
		wantError(t, name, try(t, s, fn), alias.ErrStale)
	}
	wantAlias(t, s, a)
	wantCredential(t, s, lone)
}

func testDeleteInUse(t *testing.T, s alias.Store) {
	c := credential(1, "shared")
	a := anAlias(1, "shop", c)
	seed(t, s, []*alias.Credential{c}, a)
	remove := func(tx alias.Tx) error { return tx.DeleteCredential(1, 1) }
	wantError(t, "DeleteCredential", try(t, s, remove), alias.ErrInUse)
	wantCredential(t, s, c)
	must(t, s, func(tx alias.Tx) error { return errors.Join(tx.DeleteAlias(1, 1), remove(tx)) })
}

func testAliasesOf(t *testing.T, s alias.Store) {
	one, two := credential(1, "one"), credential(2, "two")
	seed(t, s, []*alias.Credential{one, two}, anAlias(1, "b", one), anAlias(2, "a", one), anAlias(3, "c", two))
	want := []alias.Name{"a", "b"}
	if got, err := s.AliasesOf(t.Context(), 1); err != nil || !slices.Equal(got, want) {
		t.Errorf("AliasesOf: got %v, %v, want %v", got, err, want)
	}
	must(t, s, func(tx alias.Tx) error {
		got, err := tx.AliasesOf(1)
		if !slices.Equal(got, want) {
			t.Errorf("Tx.AliasesOf: got %v, want %v", got, want)
		}
		return err
	})
}

func testPaging(t *testing.T, s alias.Store) {
	// The order is that of bytes. A collation of a language would sort hyphens last or
	// ignore them.
	names := []alias.Name{"0", "9z", "a", "a-", "a-b", "a0", "aa", "ab", "b"}
	credentials, aliases := make([]*alias.Credential, len(names)), make([]*alias.Alias, len(names))
	for i, n := range names {
		id := int64(len(names) - i) // the order of ids must not matter
		credentials[i] = credential(id, n)
		aliases[i] = anAlias(id, n, credentials[i])
	}
	seed(t, s, credentials, aliases...)
	for _, page := range []struct {
		after alias.Name
		limit int
		want  []alias.Name
	}{
		{"", 100, names},
		{"", 3, names[:3]},
		{"a", 3, names[3:6]},
		{"a-a", 2, names[4:6]}, // need not exist
		{"ab", 10, names[8:]},
		{"b", 10, nil},
		{"", 0, nil},
		{"", -1, nil},
	} {
		t.Run(fmt.Sprintf("after %q limit %d", page.after, page.limit), func(t *testing.T) {
			gotAliases, err := s.Aliases(t.Context(), page.after, page.limit)
			if err != nil {
				t.Fatal(err)
			}
			gotCredentials, err := s.Credentials(t.Context(), page.after, page.limit)
			if err != nil {
				t.Fatal(err)
			}
			var got []alias.Name
			for _, a := range gotAliases {
				got = append(got, a.Name)
			}
			if !slices.Equal(got, page.want) {
				t.Errorf("Aliases: got %v, want %v", got, page.want)
			}
			got = nil
			for _, c := range gotCredentials {
				got = append(got, c.Name)
			}
			if !slices.Equal(got, page.want) {
				t.Errorf("Credentials: got %v, want %v", got, page.want)
			}
		})
	}
}

func testProvisionedRoundTrip(t *testing.T, s alias.Store) {
	full := credential(1, "media")
	full.State = alias.CredentialRotating
	full.Provider = &alias.Provisioned{
		AccessKeyID: `AKIA"1`, Mode: alias.PolicyManaged, Operation: "op-1", RotateEvery: 90*24*time.Hour + 1,
		User: alias.IAMUser{
			Name: "u", Path: "/ixmage/i/", ARN: "arn:aws:iam::1:user/ixmage/i/u", ID: "AIDA1",
			Boundary: "arn:aws:iam::1:policy/b",
		},
		Grants: []alias.Grant{
			{
				Bucket: "acme-media", Prefix: "a&b<c>/", KMSKeyARN: "arn:aws:kms:eu-west-1:1:key/k", Region: "eu-west-1",
				Endpoint: "https://s3.example.com", PathStyle: true,
			},
			{Bucket: "acme-logos"},
		},
		Policies: []alias.PolicyRef{{ARN: "arn:aws:iam::1:policy/p", Ours: true}, {ARN: "arn:aws:iam::aws:policy/q"}},
		Tags:     map[string]string{"team": "wéb", "": ""},
		Previous: &alias.PreviousKey{
			SealedKey: alias.SealedKey{AccessKeyID: "AKIA0", Sealed: []byte{0, 0xff, 1}, Version: 2}, Until: at.Add(time.Hour),
		},
	}
	bare := &alias.Credential{
		ID: 2, Name: "new", Provider: &alias.Provisioned{}, State: alias.CredentialProvisioning, Version: 1, Revision: 1,
	}
	seed(t, s, []*alias.Credential{full, bare}, anAlias(1, "shop", full))
	wantCredential(t, s, full)
	wantCredential(t, s, bare)

	changed := *full
	changed.Provider = &alias.Provisioned{AccessKeyID: "AKIA2", Mode: alias.PolicyReadOnly}
	changed.Sealed = []byte("sealed anew")
	changed.State, changed.Revision, changed.Version = alias.CredentialFailed, 2, 4
	must(t, s, func(tx alias.Tx) error { return tx.UpdateCredential(&changed) })
	wantCredential(t, s, &changed)
	wantCredential(t, s, bare)
}

func testRaiseEpoch(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	a, other := anAlias(1, "shop", c), anAlias(2, "other", c)
	seed(t, s, []*alias.Credential{c}, a, other)
	read := *a
	must(t, s, func(tx alias.Tx) error {
		err := errors.Join(tx.RaiseEpoch(1), tx.RaiseEpoch(1))
		if got, errRead := tx.Alias("shop"); errRead != nil || got.Epoch != a.Epoch+2 {
			t.Errorf("inside: got %+v, %v, want the epoch %d", got, errRead, a.Epoch+2)
		}
		return err
	})
	a.Epoch += 2
	wantAlias(t, s, a)
	wantAlias(t, s, other)

	wantError(t, "none", try(t, s, func(tx alias.Tx) error { return tx.RaiseEpoch(3) }), alias.ErrNotFound)
	stop := errors.New("stop")
	wantError(t, "rolled back", try(t, s, func(tx alias.Tx) error { return errors.Join(tx.RaiseEpoch(1), stop) }), stop)
	wantAlias(t, s, a)

	// A value that was read before the raise does not overwrite it.
	read.Revision, read.Bucket = 2, "changed"
	wantError(t, "epoch down", try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&read) }), alias.ErrStale)
	wantAlias(t, s, a)
	read.Epoch = a.Epoch
	must(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&read) })
	wantAlias(t, s, &read)
}

func testCountSealed(t *testing.T, s alias.Store) {
	want := func(n int) {
		t.Helper()
		if got, err := s.CountSealed(t.Context()); err != nil || got != n {
			t.Errorf("CountSealed: got %d, %v, want %d", got, err, n)
		}
	}
	want(0)
	seed(t, s, []*alias.Credential{
		credential(1, "one"), credential(2, "two"),
		{ID: 3, Name: "public", Provider: alias.Anonymous{}, Revision: 1},
	})
	want(2)
	c := credential(1, "one")
	keyless := anAlias(1, "keyless", c)
	keyless.SigningKeys = nil
	seed(t, s, nil, keyless, anAlias(2, "signed", c))
	want(3)
}

func testMeta(t *testing.T, s alias.Store) {
	_, err := s.Meta(t.Context(), "key")
	wantError(t, "Meta", err, alias.ErrNotFound)
	for _, value := range [][]byte{{0, 0xff, 1}, []byte("second"), {}, nil} {
		must(t, s, func(tx alias.Tx) error { return tx.SetMeta("key", value) })
		if got, err := s.Meta(t.Context(), "key"); err != nil || !slices.Equal(got, value) {
			t.Errorf("Meta: got %q, %v, want %q", got, err, value)
		}
	}
	_, err = s.Meta(t.Context(), "other")
	wantError(t, "Meta of another key", err, alias.ErrNotFound)
}
