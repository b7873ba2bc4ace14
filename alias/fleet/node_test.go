package fleet

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// TestConfirmed: it waits for live nodes only, and no longer than its context lasts.
func TestConfirmed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a, b := e.node("a"), e.node("b")
	if _, err := a.CreateAlias(t.Context(), named("shop", "one"), alias.CredentialRef{Anonymous: true}); err != nil {
		t.Fatal(err)
	}
	at := a.Position().Revision
	type answer struct{ confirmed, pending []string }
	ask := func(ctx context.Context) answer {
		confirmed, pending := a.Confirmed(ctx, at)
		return answer{confirmed, pending}
	}
	want := func(when string, got, want answer) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", when, got, want)
		}
	}
	onlyA, both := answer{[]string{"a"}, []string{"b"}}, answer{[]string{"a", "b"}, nil}
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan answer, 1)
	go func() { answers <- ask(ctx) }()
	cancel()
	want("after its context has ended", <-answers, onlyA)

	e.exec(`UPDATE nodes SET seen_at = 0 WHERE name = 'b'`)
	want("of a silent node", ask(t.Context()), onlyA)

	if err := b.beat(t.Context()); err != nil { // it lives, and lacks the change
		t.Fatal(err)
	}
	go func() { answers <- ask(t.Context()) }()
	b.sync(t)
	if err := b.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.wake(alias.WakeNodes)
	want("after the node has reported", <-answers, both)
}

// TestBehind: a silent node holds up what waits for all nodes, until it was silent for the grace.
func TestBehind(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	cfg := e.config("a")
	cfg.Grace = time.Hour
	a := e.open(cfg)
	e.node("b")
	if _, err := a.CreateAlias(t.Context(), named("shop", "one"), alias.CredentialRef{Anonymous: true}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		silent   time.Duration
		revision int64
		want     []string
	}{
		{0, a.Position().Revision, []string{"b"}},
		{0, 0, nil},
		{50 * time.Minute, a.Position().Revision, []string{"b"}},
		{70 * time.Minute, a.Position().Revision, nil},
	} {
		e.exec(`UPDATE nodes SET seen_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - %d WHERE name = 'b'`,
			tt.silent.Microseconds())
		got, err := a.Behind(t.Context(), tt.revision)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("silent for %v, revision %d: got %v, %v, want %v", tt.silent, tt.revision, got, err, tt.want)
		}
	}
}

// TestPrune: what is too old goes, but for the last change; a node that comes back later reads
// everything again, and is known again.
func TestPrune(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a, b := e.node("a"), e.node("b")
	for _, name := range []alias.Name{"one", "two"} {
		if _, err := a.CreateAlias(t.Context(), named(name, "bucket"), alias.CredentialRef{Anonymous: true}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Try(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	count := func() string {
		return e.exec(`SELECT (SELECT count(DISTINCT revision) FROM changes) || ' changes, ' ||
			(SELECT count(*) FROM nodes) || ' nodes, ' || (SELECT count(*) FROM leases) || ' leases'`)[0][0]
	}
	prune := func(want string) {
		t.Helper()
		if err := a.db.Prune(t.Context(), logKept, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := count(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	prune(count())
	e.exec(`UPDATE changes SET at = 0; UPDATE nodes SET seen_at = 0 WHERE name = 'b'; UPDATE leases SET expires_at = 0`)
	prune("1 changes, 1 nodes, 0 leases")
	b.model.changes = nil
	b.sync(t)
	want, _ := stored(t, a.db)
	wantSame(t, "after the log was pruned", b, want)
	if n := len(b.model.changes); n == 0 || !b.model.changes[n-1].Missed {
		t.Errorf("observers were told %+v", b.model.changes)
	}
	if err := b.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	prune("1 changes, 2 nodes, 0 leases")
}

// TestSilentDatabase: a database that keeps connections and does not answer makes a running node
// stale, one that is away makes it refuse changes, and the node heals by itself.
func TestSilentDatabase(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	line := netfault.New(t, postgres.Shared(t).Addr)
	cfg := e.config("b")
	cfg.URL, cfg.Every, cfg.TTL = postgres.Through(t, line.Addr, e.url), 50*time.Millisecond, time.Second
	a, b := e.node("a"), e.open(cfg)
	if err := b.Start(t.Context(), b.Registry, nil); err != nil {
		t.Fatal(err)
	}
	until := func(is func() bool) {
		t.Helper()
		poll := time.NewTicker(10 * time.Millisecond)
		defer poll.Stop()
		for !is() {
			select {
			case <-poll.C:
			case <-t.Context().Done():
				t.Fatal(t.Context().Err())
			}
		}
	}
	set := func(m netfault.Mode) {
		t.Helper()
		if err := line.Set(m); err != nil {
			t.Fatal(err)
		}
	}
	stale := func() bool { _, why := b.Stale(); return errors.Is(why, alias.ErrUnavailable) }
	set(netfault.Hang())
	until(stale)
	if _, err := a.CreateAlias(t.Context(), named("shop", "one"), alias.CredentialRef{Anonymous: true}); err != nil {
		t.Fatal(err)
	}
	set(netfault.Refuse())
	until(b.away)
	if _, err := b.CreateAlias(t.Context(), named("blog", "one"), alias.CredentialRef{Anonymous: true}); !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("a change while the database is away: got %v, want ErrUnavailable", err)
	}
	if _, err := b.Try(t.Context(), "x"); !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("a lease while the database is away: got %v, want ErrUnavailable", err)
	}
	set(netfault.Pass())
	until(func() bool { return !stale() && b.Position() == a.Position() })
	want, _ := stored(t, a.db)
	wantSame(t, "after the outage", b, want)
}

// TestFirstChangeOfSilence: the first change while the database does not answer is refused before its
// own limit, and every further one at once, though no beat has found out.
func TestFirstChangeOfSilence(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	line := netfault.New(t, postgres.Shared(t).Addr)
	cfg := e.config("b")
	cfg.URL = postgres.Through(t, line.Addr, e.url)
	b := e.open(cfg)
	if err := b.Start(t.Context(), b.Registry, nil); err != nil {
		t.Fatal(err)
	}
	if err := line.Set(netfault.Hang()); err != nil {
		t.Fatal(err)
	}
	for _, known := range []bool{false, true} {
		if b.away() != known {
			t.Fatalf("before the change the node is away: %v, want %v", !known, known)
		}
		began := time.Now()
		_, err := b.CreateAlias(t.Context(), named("blog", "one"), alias.CredentialRef{Anonymous: true})
		if took := time.Since(began); !errors.Is(err, alias.ErrUnavailable) || took > 14*time.Second { // a call may take 15
			t.Errorf("a change got %v after %s, want ErrUnavailable", err, took)
		}
	}
	if err := line.Set(netfault.Pass()); err != nil {
		t.Fatal(err)
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for b.away() {
		select {
		case <-poll.C:
		case <-t.Context().Done():
			t.Fatal("the node does not heal")
		}
	}
	if _, err := b.CreateAlias(t.Context(), named("blog", "one"), alias.CredentialRef{Anonymous: true}); err != nil {
		t.Errorf("a change after the silence: %v", err)
	}
}

// TestOffsetWithin: an answer that took long says little about a clock, and that is all it changes.
func TestOffsetWithin(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tt := range []struct{ before, least, most, want time.Duration }{
		{0, -s / 100, s / 100, 0},
		{0, 60 * s, 61 * s, 60*s + s/2},
		{0, -60 * s, s / 100, 0},       // this process was paused for a minute
		{60 * s, -s, 70 * s, 60 * s},   // the database was
		{60 * s, -s / 100, s / 100, 0}, // the clock was set right
		{-3 * s, -s, 0, -s / 2},
	} {
		if got := offsetWithin(tt.before, tt.least, tt.most); got != tt.want {
			t.Errorf("%v within %v and %v: got %v, want %v", tt.before, tt.least, tt.most, got, tt.want)
		}
	}
}

// TestOpenEnds: a start that waits because its name is taken ends with its context.
func TestOpenEnds(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	a := e.node("a")
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() {
		n, err := Open(ctx, e.config("a"))
		if err == nil {
			n.Close(context.WithoutCancel(ctx))
		}
		opened <- err
	}()
	cancel()
	if err := <-opened; err == nil {
		t.Error("the name of a live node is given to another")
	}
	if nodes, err := a.Nodes(t.Context()); err != nil || len(nodes) != 1 || nodes[0].Process != a.process {
		t.Errorf("got %+v, %v", nodes, err)
	}
}
