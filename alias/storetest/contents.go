package storetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// secretOf is the secret that Fill seals for a version of a credential.
func secretOf(id, version int64) string { return fmt.Sprintf("the secret %d of %d", version, id) }

// signingKeyOf is the signing key that Fill seals for a kid of an alias: 32 bytes.
func signingKeyOf(aliasID int64, kid string) string { return fmt.Sprintf("%027d%.5s", aliasID, kid) }

// Fill stores everything that a registry can have, in rows of random content.
func Fill(t testing.TB, s alias.Store, keys alias.Sealer, random *rand.Rand) {
	t.Helper()
	f := filler{t: t, keys: keys, random: random}
	for round := range 3 {
		if err := s.Update(t.Context(), func(tx alias.Tx) error { return f.fill(tx, round) }); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		batch := alias.UsageBatch{Writer: f.text(), Number: f.id(), At: at.Add(time.Duration(n) * 25 * time.Hour)}
		for _, id := range f.aliases {
			batch.Deltas = append(batch.Deltas, alias.UsageDelta{AliasID: id, Usage: alias.Usage{
				Since: f.time(), Spent: f.tally(), Hit: f.tally(), Collapsed: f.tally(), NotModified: f.tally(),
				Transforms: f.work(),
			}})
		}
		if err := s.AddUsage(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
}

type filler struct {
	t       testing.TB
	keys    alias.Sealer
	random  *rand.Rand
	aliases []int64
}

// id is often at an end of its range.
func (f *filler) id() int64 {
	if f.random.IntN(4) == 0 {
		return math.MaxInt64 - f.random.Int64N(1000)
	}
	return 1 + f.random.Int64N(1<<62)
}

// hostile are parts of texts that some encoding may change.
var hostile = []string{
	"", " ", "'", `"`, `\`, `\x41`, `\N`, `\.`, "?", "$1", "\n", "\r\n", "\t", "\x01", "\x7f", "\u2028", "\ufffd",
	"\ufeff", "ü", "u\u0308", "日本", "🏔", "<b>", "%s", "null", "0x00", "true", "'; DROP TABLE aliases; --", "\U0010ffff",
}

func (f *filler) text() string {
	var b strings.Builder
	for range f.random.IntN(6) {
		fmt.Fprint(&b, hostile[f.random.IntN(len(hostile))], f.random.IntN(100))
	}
	return b.String()
}

func (f *filler) time() time.Time {
	if f.random.IntN(4) == 0 {
		return time.Time{}
	}
	return time.UnixMicro(f.random.Int64N(4e15)).UTC()
}

func (f *filler) tally() alias.Tally {
	return alias.Tally{Requests: f.random.Int64N(1 << 50), Bytes: f.random.Int64N(1 << 50)}
}

func (f *filler) work() alias.Work {
	n := func() int64 { return f.random.Int64N(1 << 50) }
	return alias.Work{Jobs: n(), Milliseconds: n(), SavedBytes: n()}
}

func (f *filler) sealed(id, version int64) []byte {
	f.t.Helper()
	sealed, err := f.keys.Seal(alias.NewSecret(secretOf(id, version)), id, version)
	if err != nil {
		f.t.Fatal(err)
	}
	return sealed
}

func (f *filler) sealedKey(id, version int64) alias.SealedKey {
	return alias.SealedKey{AccessKeyID: "AKIA" + f.text(), Sealed: f.sealed(id, version), Version: version}
}

// signingKeys makes n keys of an alias.
func (f *filler) signingKeys(aliasID int64, n int) []alias.SigningKey {
	f.t.Helper()
	keys := make([]alias.SigningKey, 0, n)
	for i := range n {
		kid := fmt.Sprint("kid", i)
		sealed, err := f.keys.SealSigningKey(alias.NewSecret(signingKeyOf(aliasID, kid)), aliasID, kid)
		if err != nil {
			f.t.Fatal(err)
		}
		keys = append(keys, alias.SigningKey{KID: kid, Sealed: sealed, CreatedAt: f.time()})
	}
	return keys
}

// fill stores rows of every table except those of usage.
func (f *filler) fill(tx alias.Tx, round int) error {
	for n, p := range f.providers() {
		c := credential(f.id(), alias.Name(fmt.Sprintf("c%d-%d", round, n)))
		c.Provider, c.Sealed, c.Scope, c.VerifiedAt, c.RotatedAt = p(c.ID), nil, f.text(), f.time(), f.time()
		if k := c.Provider.Kind(); k == alias.KindStatic || k == alias.KindProvisioned {
			c.Sealed = f.sealed(c.ID, c.Version)
		}
		if err := tx.InsertCredential(c); err != nil {
			return err
		}
		a := anAlias(f.id(), c.Name, c)
		a.Prefix, a.Canary, a.CacheControl, a.Endpoint = f.text(), f.text(), f.text(), f.text()
		a.SigningKeys = f.signingKeys(a.ID, n)
		a.Enabled, a.PathStyle, a.Epoch, a.UpdatedAt = n%2 == 0, n%3 == 0, f.id(), f.time()
		v := verification(a.ID, a.Name)
		v.CredentialID, v.CheckedAt = c.ID, f.time()
		if err := tx.InsertAlias(a); err != nil {
			return err
		}
		if err := tx.PutVerification(v); err != nil {
			return err
		}
		f.aliases = append(f.aliases, a.ID)
		if err := f.history(tx, a, n); err != nil {
			return err
		}
	}
	token := aToken(f.id(), alias.Name(fmt.Sprint("token", round)))
	token.CreatedBy, token.LastUsedAt = f.text(), f.time()
	if err := tx.InsertToken(token); err != nil {
		return err
	}
	if err := tx.SetMeta(fmt.Sprint("a setting ", round), []byte(f.text())); err != nil {
		return err
	}
	return tx.SetMeta("an empty setting", nil)
}

// history stores operations and entries of the audit.
func (f *filler) history(tx alias.Tx, a *alias.Alias, n int) error {
	o := operation(fmt.Sprintf("op-%s", a.Name), a.Name, a.Credential)
	o.CredentialID, o.Actor, o.Request = f.id(), f.text(), []byte(f.text())
	o.FinishedAt = f.time()
	if n%2 == 0 {
		o.State, o.Error = alias.OperationFailed, &alias.OperationError{Code: "c", Detail: f.text()}
	}
	e := auditEntry(f.text())
	e.At, e.Actor, e.User, e.Policy = f.time(), f.text(), f.text(), f.text()
	if err := tx.InsertOperation(o); err != nil {
		return err
	}
	return tx.AddAudit(e)
}

// providers make one of each kind, for the id of its credential.
func (f *filler) providers() []func(id int64) alias.Provider {
	return []func(id int64) alias.Provider{
		func(int64) alias.Provider { return alias.Static{AccessKeyID: "AKIA" + f.text()} },
		func(int64) alias.Provider { return alias.Anonymous{} },
		func(int64) alias.Provider { return alias.Default{} },
		func(int64) alias.Provider {
			return alias.Role{
				ARN: "arn:aws:iam::123456789012:role/" + f.text(), ExternalID: f.text(), Duration: time.Duration(f.id()),
				SessionPolicy: "alias", Source: "shop", Region: f.text(), KMSKeyARN: f.text(), SourceIdentity: true,
				Account: f.text(),
			}
		},
		func(id int64) alias.Provider {
			return &alias.Provisioned{
				AccessKeyID: "AKIA" + f.text(), Account: f.text(), Mode: alias.PolicyManaged, Operation: f.text(),
				User:   alias.IAMUser{Name: f.text(), Path: f.text(), ARN: f.text(), ID: f.text(), Boundary: f.text()},
				Grants: []alias.Grant{{Bucket: "b", Prefix: f.text(), PathStyle: true}}, RotateEvery: time.Duration(f.id()),
				Policies: []alias.PolicyRef{{ARN: f.text(), Ours: true}}, Tags: map[string]string{f.text(): f.text()},
				Generation: f.text(), GenerationsBefore: []string{f.text(), f.text()}, GenerationSeen: true,
				Pending: &alias.PendingKey{SealedKey: f.sealedKey(id, 5), CreatedAt: at},
				Previous: &alias.PreviousKey{
					SealedKey: f.sealedKey(id, 2), Until: at, SwappedAt: at, InactiveAt: at.Add(time.Hour), RotatedBefore: at,
				},
				Suspects: []alias.SuspectKey{{AccessKeyID: f.text(), InactiveAt: at}}, KeySince: at, KeyBeside: []string{f.text()},
				RevokedAt: at, PendingDeletion: []string{f.text()}, Reverted: &alias.Reverted{Revision: f.id()},
				ExtraGrants: []alias.Grant{{Bucket: f.text()}},
				Adopted:     &alias.Adopted{AccessKeyID: f.text(), Retire: true, Policies: []string{f.text()}, Since: at},
			}
		},
	}
}

// Contents is what the methods of a Store return.
type Contents struct {
	Aliases       []*alias.Alias
	Credentials   []*alias.Credential
	AliasesOf     map[int64][]alias.Name
	Tokens        []*alias.Token
	Operations    []*alias.Operation
	Audit         []*alias.AuditEntry
	Verifications []*alias.Verification
	Usage         []map[int64]alias.UsageHistory // by hour and by day
	Settings      map[string]string
}

// ContentsOf reads everything that Fill has stored.
func ContentsOf(t testing.TB, s alias.Store) Contents {
	t.Helper()
	const limit = 1_000_000
	ctx := t.Context()
	c := Contents{AliasesOf: map[int64][]alias.Name{}, Settings: map[string]string{}}
	var err error
	fail := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Aliases, err = s.Aliases(ctx, "", limit)
	fail()
	c.Credentials, err = s.Credentials(ctx, "", limit)
	fail()
	c.Tokens, err = s.Tokens(ctx)
	fail()
	c.Operations, err = s.Operations(ctx, alias.OperationFilter{Limit: limit})
	fail()
	c.Audit, err = s.Audit(ctx, 0, limit)
	fail()
	ids := make([]int64, 0, len(c.Aliases))
	for _, a := range c.Aliases {
		var v *alias.Verification
		v, err = s.Verification(ctx, a.ID)
		fail()
		c.Verifications = append(c.Verifications, v)
		ids = append(ids, a.ID)
	}
	for _, k := range c.Credentials {
		c.AliasesOf[k.ID], err = s.AliasesOf(ctx, k.ID)
		fail()
	}
	for _, by := range alias.Periods() {
		var u map[int64]alias.UsageHistory
		u, err = s.Usage(ctx, alias.UsageQuery{AliasIDs: ids, By: by, Last: 200, Now: at.Add(200 * time.Hour)})
		fail()
		c.Usage = append(c.Usage, u)
	}
	for _, key := range []string{"a setting 0", "a setting 1", "a setting 2", "an empty setting"} {
		var value []byte
		value, err = s.Meta(ctx, key)
		fail()
		c.Settings[key] = string(value)
	}
	return c
}

// WantOpen fails the test unless the keys open every sealed value to the secret of Fill.
func (c *Contents) WantOpen(t testing.TB, keys alias.Sealer) {
	t.Helper()
	opened := 0
	open := func(sealed []byte, id, version int64) {
		secret, err := keys.Open(sealed, id, version)
		if err != nil || secret.Reveal() != secretOf(id, version) {
			t.Errorf("the secret of the version %d of credential %d does not open: %v", version, id, err)
		}
		opened++
	}
	for _, k := range c.Credentials {
		if k.Sealed != nil {
			open(k.Sealed, k.ID, k.Version)
		}
		if p, ok := k.Provisioned(); ok {
			open(p.Pending.Sealed, k.ID, p.Pending.Version)
			open(p.Previous.Sealed, k.ID, p.Previous.Version)
		}
	}
	if opened < 12 {
		t.Errorf("only %d secrets were there", opened)
	}
	opened = 0
	for _, a := range c.Aliases {
		for _, k := range a.SigningKeys {
			secret, err := keys.OpenSigningKey(k.Sealed, a.ID, k.KID)
			if err != nil || secret.Reveal() != signingKeyOf(a.ID, k.KID) {
				t.Errorf("the signing key %s of the alias %s does not open: %v", k.KID, a.Name, err)
			}
			opened++
		}
	}
	if opened < 12 {
		t.Errorf("only %d signing keys were there", opened)
	}
}
