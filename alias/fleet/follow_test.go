package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
)

func place(bucket string) alias.Alias {
	return alias.Alias{Location: alias.Location{Bucket: bucket, Region: "eu-central-1"}}
}

func named(name alias.Name, bucket string) *alias.Alias {
	a := place(bucket)
	a.Name = name
	return &a
}

func keyPair(n int) *alias.KeyPair {
	return &alias.KeyPair{
		AccessKeyID: fmt.Sprintf("AKIA%016d", n), SecretAccessKey: alias.NewSecret(fmt.Sprintf("%040d", n)),
	}
}

// TestFollow: every kind of write of one registry reaches the other.
func TestFollow(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a, b := e.node("a"), e.node("b")
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := map[string]func(){
		"01 create an alias with a key pair": func() {
			_, err := a.CreateAlias(ctx, named("shop", "one"), alias.CredentialRef{KeyPair: keyPair(1)})
			check(err)
		},
		"02 create an anonymous alias": func() {
			_, err := a.CreateAlias(ctx, named("open", "two"), alias.CredentialRef{Anonymous: true})
			check(err)
		},
		"03 create a credential": func() {
			_, err := a.CreateCredential(ctx, "team", alias.CredentialRef{KeyPair: keyPair(2)})
			check(err)
		},
		"04 move an alias to another credential, and delete the one before": func() {
			_, err := a.UpdateAlias(ctx, "shop", 0, func(_ *alias.Alias, c *alias.CredentialRef) error { c.Name = "team"; return nil })
			check(err)
			check(a.DeleteCredential(ctx, "shop", 0))
		},
		"05 make a credential of a name again while an alias of that name exists": func() {
			_, err := a.CreateCredential(ctx, "shop", alias.CredentialRef{KeyPair: keyPair(3)})
			check(err)
		},
		"06 swap credentials, and make the one before again": func() {
			_, err := a.UpdateAlias(ctx, "shop", 0, func(_ *alias.Alias, c *alias.CredentialRef) error { c.Name = "shop"; return nil })
			check(err)
			check(a.DeleteCredential(ctx, "team", 0))
			_, err = a.CreateCredential(ctx, "team", alias.CredentialRef{KeyPair: keyPair(4)})
			check(err)
			_, err = a.UpdateAlias(ctx, "shop", 0, func(_ *alias.Alias, c *alias.CredentialRef) error { c.Name = "team"; return nil })
			check(err)
		},
		"07 move an alias": func() {
			_, err := a.UpdateAlias(ctx, "shop", 0, func(al *alias.Alias, _ *alias.CredentialRef) error { al.Bucket = "three"; return nil })
			check(err)
		},
		"08 raise an epoch": func() { _, err := a.RaiseEpoch(ctx, "shop"); check(err) },
		"09 delete and make again": func() {
			check(a.DeleteAlias(ctx, "shop", 0))
			_, err := a.CreateAlias(ctx, named("shop", "four"), alias.CredentialRef{Name: "team"})
			check(err)
		},
		"10 delete": func() { check(a.DeleteAlias(ctx, "shop", 0)) },
		"11 write there": func() {
			_, err := b.CreateAlias(ctx, named("back", "five"), alias.CredentialRef{KeyPair: keyPair(5)})
			check(err)
			check(a.Sync(ctx))
		},
	}
	for i := range len(steps) {
		for name, step := range steps {
			if name[:2] != fmt.Sprintf("%02d", i+1) {
				continue
			}
			step()
			b.sync(t)
			want, _ := stored(t, a.db)
			for _, m := range []*member{a, b} {
				wantSame(t, name, m, want)
			}
		}
	}
}

// wantSame compares all copies of a member with the database.
func wantSame(t *testing.T, when string, m *member, want contents) {
	t.Helper()
	copied, at := stored(t, m.replica)
	if at != m.Position() {
		t.Errorf("%s: the replica of %s is at %+v, and memory at %+v", when, m.Name(), at, m.Position())
	}
	for what, got := range map[string]contents{"memory": m.memory(), "observers": m.model.told(), "replica": copied} {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s of %s:\n%+v\nwant\n%+v", when, what, m.Name(), got, want)
		}
	}
}

// TestRandomWrites: registries that write, follow and are killed at random end with what the
// database has.
func TestRandomWrites(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			random := rand.New(rand.NewPCG(seed, 0))
			configs := []Config{e.config("a"), e.config("b"), e.config("c")}
			members := make([]*member, len(configs))
			for i, cfg := range configs {
				members[i] = e.open(cfg)
			}
			for i := range 150 {
				k := random.IntN(len(members))
				switch random.IntN(12) {
				case 0:
					members[k].kill()
					members[k] = e.open(configs[k])
				case 1:
					e.exec(`DELETE FROM changes WHERE revision < (SELECT revision FROM registry_head)`)
				case 2, 3, 4:
					members[k].sync(t)
				default:
					write(t, members[k], random, i)
				}
			}
			for _, m := range members {
				m.sync(t)
			}
			want, _ := stored(t, members[0].db)
			for _, m := range members {
				wantSame(t, "at the end", m, want)
			}
		})
	}
}

// write makes a random change. Refusals are part of it.
func write(t *testing.T, m *member, random *rand.Rand, n int) {
	t.Helper()
	ctx := t.Context()
	name, other := alias.Name(fmt.Sprintf("n%d", random.IntN(4))), alias.Name(fmt.Sprintf("n%d", random.IntN(4)))
	var err error
	switch random.IntN(9) {
	case 0:
		_, err = m.CreateAlias(ctx, named(name, fmt.Sprintf("bucket-%d", n)), alias.CredentialRef{KeyPair: keyPair(n)})
	case 1:
		_, err = m.CreateAlias(ctx, named(name, fmt.Sprintf("bucket-%d", n)), alias.CredentialRef{Name: other})
	case 2:
		_, err = m.CreateAlias(ctx, named(name, fmt.Sprintf("bucket-%d", n)), alias.CredentialRef{Anonymous: true})
	case 3:
		_, err = m.UpdateAlias(ctx, name, 0, func(_ *alias.Alias, c *alias.CredentialRef) error { c.Name = other; return nil })
	case 4:
		_, err = m.RaiseEpoch(ctx, name)
	case 5:
		err = m.DeleteAlias(ctx, name, 0)
	case 6:
		err = m.DeleteCredential(ctx, name, 0)
	case 7:
		_, err = m.CreateCredential(ctx, name, alias.CredentialRef{KeyPair: keyPair(n)})
	case 8:
		_, err = m.ReplaceKeyPair(ctx, name, 0, *keyPair(n))
	}
	for _, refused := range []error{alias.ErrNotFound, alias.ErrExists, alias.ErrInUse, alias.ErrStale, alias.ErrNotStatic} {
		if errors.Is(err, refused) {
			return
		}
	}
	if _, invalid := errors.AsType[*alias.ValidationError](err); err != nil && !invalid {
		t.Error(err)
	}
}

// TestHistory: a log that does not go on from the position of a node.
func TestHistory(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"pruned":             `DELETE FROM changes WHERE revision < (SELECT revision FROM registry_head)`,
		"restored":           `DELETE FROM changes WHERE revision > 3; UPDATE registry_head SET revision = 3, tag = (SELECT max(tag) FROM changes WHERE revision = 3)`,
		"another":            `UPDATE changes SET tag = 'other'; UPDATE registry_head SET tag = 'other'`,
		"another, and later": `UPDATE changes SET tag = 'other'`,
		"a gap at the end":   `UPDATE registry_head SET revision = revision + 5, tag = 'other'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			a, b := e.node("a"), e.node("b")
			for i := range 3 {
				if _, err := a.CreateAlias(t.Context(), named(alias.Name(fmt.Sprintf("n%d", i)), "bucket"), alias.CredentialRef{KeyPair: keyPair(i)}); err != nil {
					t.Fatal(err)
				}
			}
			if name != "pruned" {
				b.sync(t)
			}
			// The same revision of a credential, with another key: the other history.
			e.exec(`UPDATE credentials SET version = version + 7 WHERE name = 'n0'`)
			e.exec(`INSERT INTO changes SELECT revision + 1, 0, 'later', 9e15, 'operation', 'n0', 'null' FROM registry_head;
				UPDATE registry_head SET revision = revision + 1, tag = 'later'`)
			e.exec("%s", change)
			b.model.changes = nil
			b.sync(t)
			want, at := stored(t, b.db)
			wantSame(t, name, b, want)
			if b.Position() != at {
				t.Errorf("position %+v, want %+v", b.Position(), at)
			}
			missed, reloaded := false, false
			for _, c := range b.model.changes {
				missed = missed || c.Missed
				reloaded = reloaded || c.Tokens
			}
			if !missed || !reloaded {
				t.Errorf("observers were told %+v", b.model.changes)
			}
		})
	}
}

// TestHistoryOfAnotherFleet: the database was replaced by that of another fleet. The node keeps
// what it has, refuses changes, and is no node there; with the own database it goes on.
func TestHistoryOfAnotherFleet(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ctx := t.Context()
	cfg := e.config("a")
	cfg.Every = 10 * time.Millisecond
	a := e.open(cfg)
	if _, err := a.CreateAlias(ctx, named("shop", "one"), alias.CredentialRef{KeyPair: keyPair(1)}); err != nil {
		t.Fatal(err)
	}
	var foreign atomic.Bool
	errForeign := errors.New("of another installation")
	err := a.Start(ctx, a.Registry, func(context.Context, alias.Store) error {
		if foreign.Load() {
			return errForeign
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	at := a.Position()
	foreign.Store(true)
	e.exec(`DELETE FROM aliases; UPDATE changes SET tag = 'other'; UPDATE registry_head SET tag = 'other'`)
	if _, err := a.CreateAlias(ctx, named("late", "two"), alias.CredentialRef{KeyPair: keyPair(2)}); !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("a change: got %v", err)
	}
	wait(t, func() bool { _, why := a.Stale(); return errors.Is(why, errForeign) })
	if _, ok := a.Lookup("shop"); !ok || a.Position() != at {
		t.Errorf("shop is there: %t; position %+v, want %+v", ok, a.Position(), at)
	}
	seen := func() string { return fmt.Sprint(e.exec(`SELECT seen_at FROM nodes`)) }
	var before string
	wait(t, func() bool { was := before; before = seen(); return was == before })
	foreign.Store(false)
	wait(t, func() bool { _, ok := a.Lookup("shop"); return !ok && !a.away() })
}

// wait polls until ok returns true.
func wait(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal("it did not happen")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestBehindWriterCatchesUp: what a write checks in memory holds for changes of other nodes.
func TestBehindWriterCatchesUp(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a, b := e.node("a"), e.node("b")
	ctx := t.Context()
	if _, err := a.CreateCredential(ctx, "source", alias.CredentialRef{KeyPair: keyPair(1)}); err != nil {
		t.Fatal(err)
	}
	b.sync(t)
	role := alias.Role{ARN: "arn:aws:iam::123456789012:role/pictures", Source: "source", Duration: time.Hour, SessionPolicy: alias.SessionPolicyAlias}
	if _, err := a.CreateCredential(ctx, "role", alias.CredentialRef{Temporary: role}); err != nil {
		t.Fatal(err)
	}
	err := b.DeleteCredential(ctx, "source", 0)
	if used, ok := errors.AsType[*alias.InUseError](err); !ok || len(used.Roles) != 1 {
		t.Errorf("delete the source of a role that another node has made: got %v", err)
	}
}
