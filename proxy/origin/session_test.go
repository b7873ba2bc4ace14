package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// sessions gives each alias and location keys of its own, and lets them read what it says.
type sessions struct {
	allow func(kp alias.KeyPair, r alias.Route) // nil: S3 knows none of the keys
	err   error                                 // there are none
	hold  chan struct{}                         // not nil: there are none before it is closed
	asked chan struct{}                         // has one element for each request that waits for hold

	mu       sync.Mutex
	now      map[string]int // by alias and prefix: which keys sign
	renewals int
}

func (s *sessions) Provider(r alias.Route) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		if s.hold != nil {
			s.asked <- struct{}{}
			select {
			case <-s.hold:
			case <-ctx.Done():
				return aws.Credentials{}, ctx.Err()
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			return aws.Credentials{}, s.err
		}
		kp := keysOf(r, s.now[placeOf(r)])
		return aws.Credentials{
			AccessKeyID: kp.AccessKeyID, SecretAccessKey: kp.SecretAccessKey.Reveal(), SessionToken: "token of " + kp.AccessKeyID,
		}, nil
	})
}

func (s *sessions) Renew(_ context.Context, r alias.Route, keyID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if keysOf(r, s.now[placeOf(r)]).AccessKeyID != keyID {
		return true
	}
	if s.now[placeOf(r)] > 0 { // as after a renewal a moment ago
		return false
	}
	s.now[placeOf(r)]++
	s.renewals++
	if s.allow != nil {
		s.allow(keysOf(r, s.now[placeOf(r)]), r)
	}
	return true
}

func placeOf(r alias.Route) string {
	return fmt.Sprintf("%d/%s%s", r.Alias.ID, r.Alias.Bucket, r.Alias.Prefix)
}

func keysOf(r alias.Route, n int) alias.KeyPair {
	return alias.KeyPair{
		AccessKeyID: fmt.Sprintf("ASIA-%d-%s-%d", r.Alias.ID, bytes.TrimRight([]byte(r.Alias.Prefix), "/"), n), SecretAccessKey: alias.NewSecret("of " + placeOf(r)),
	}
}

// role gives a route a credential that is a role.
func role(r alias.Route) alias.Route {
	r.Credential = &alias.Credential{
		ID: 7, Name: "pictures", Version: 1, Provider: alias.NewRole("arn:aws:iam::123456789012:role/pictures"),
	}
	return r
}

func newSessionEnv(t *testing.T) (*env, *sessions) {
	t.Helper()
	s := &sessions{now: map[string]int{}}
	k := newEnv(t, func(c *Config) { c.Sessions = s })
	s.allow = func(kp alias.KeyPair, r alias.Route) { k.s3.Allow(kp, r.Alias.Bucket, r.Alias.Prefix) }
	return k, s
}

// A hundred aliases in one bucket with one role: no request for one is ever signed with the session
// of another, whatever S3 does in between, and none reads what another may.
func TestSessionsNeverMix(t *testing.T) {
	t.Parallel()
	k, s := newSessionEnv(t)
	const aliases = 100
	routes := make([]alias.Route, aliases)
	for i := range routes {
		r := role(k.route("shop"))
		a := *r.Alias
		a.ID, a.Prefix = int64(i+1), fmt.Sprintf("p%d/", i)
		r.Alias = &a
		routes[i] = r
		k.s3.Put(a.Bucket, a.Prefix+"x.png", s3.Object{Body: noise(100)})
		s.allow(keysOf(r, 0), r)
	}
	k.s3.Hook(func(q *s3.Request) *s3.Fault {
		if q.N%5 == 1 {
			return s3.CloseAfter(50)
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 10 * aliases {
		r := routes[i%aliases]
		wg.Go(func() {
			_, _ = k.read(t, Request{Route: r, Key: r.Alias.Prefix + "x.png"})
			_, _ = k.Head(t.Context(), Request{Route: r, Key: r.Alias.Prefix + "x.png"})
		})
	}
	wg.Wait()
	for _, q := range k.s3.Requests() {
		var n int
		if _, err := fmt.Sscanf(q.Key, "p%d/x.png", &n); err != nil || q.AccessKeyID != keysOf(routes[n], 0).AccessKeyID {
			t.Fatalf("%s %s was signed with %q", q.Method, q.Target, q.AccessKeyID)
		}
		if q.Header.Get("X-Amz-Security-Token") != "token of "+q.AccessKeyID {
			t.Fatalf("%s %s has the token %q", q.Method, q.Target, q.Header.Get("X-Amz-Security-Token"))
		}
	}
	k.s3.Hook(nil)
	_, err := k.read(t, Request{Route: routes[0], Key: routes[1].Alias.Prefix + "x.png"})
	wantOutcome(t, err, OutcomeDenied)
}

// An alias that moves signs with another session, and late requests for the old place with the old
// one.
func TestSessionOfAMovedAlias(t *testing.T) {
	t.Parallel()
	k, s := newSessionEnv(t)
	old := role(k.route("shop"))
	old.Alias.Prefix = "old/"
	moved := old
	a := *old.Alias
	a.Prefix = "new/"
	moved.Alias = &a
	for _, r := range []alias.Route{old, moved} {
		k.s3.Put(r.Alias.Bucket, r.Alias.Prefix+"x.png", s3.Object{Body: noise(10)})
		s.allow(keysOf(r, 0), r)
	}
	for _, r := range []alias.Route{old, moved, old, moved} {
		if _, err := k.read(t, Request{Route: r, Key: r.Alias.Prefix + "x.png"}); err != nil {
			t.Fatal(err)
		}
	}
	for i, q := range k.s3.Requests() {
		if want := keysOf([]alias.Route{old, moved}[i%2], 0).AccessKeyID; q.AccessKeyID != want {
			t.Errorf("request %d was signed with %s, want %s", i, q.AccessKeyID, want)
		}
	}
}

// A refused session is renewed once and the request repeated: of a GET, a HEAD, and the rest of a
// body.
func TestRefusedSession(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"ExpiredToken", "InvalidToken", "InvalidAccessKeyId"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			k, s := newSessionEnv(t)
			want := noise(bodySize)
			r := k.put("shop", "a.png", s3.Object{Body: want})
			r.Route = role(r.Route)
			s.allow(keysOf(r.Route, 0), r.Route)
			k.next(r, s3.Fail(code))
			if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) || s.renewals != 1 {
				t.Fatalf("GET: %d bytes, %v, %d renewals", len(got), err, s.renewals)
			}
			s.now = map[string]int{}
			k.next(r, s3.Fail(code), s3.Fail(code)) // the second for the GET that a HEAD without a code leads to
			if _, err := k.Head(t.Context(), r); err != nil || s.renewals != 2 {
				t.Fatalf("HEAD: %v, %d renewals", err, s.renewals)
			}
			s.now = map[string]int{}
			k.next(r, s3.CloseAfter(1000), s3.Fail(code))
			if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) || s.renewals != 3 {
				t.Fatalf("rest of a body: %d bytes, %v, %d renewals", len(got), err, s.renewals)
			}
		})
	}
}

// If S3 refuses the next session too, the credential is broken: there is no third request.
func TestSessionRefusedTwice(t *testing.T) {
	t.Parallel()
	k, s := newSessionEnv(t)
	s.allow = nil
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	r.Route = role(r.Route)
	k.s3.Allow(alias.KeyPair{AccessKeyID: "another"}, r.Route.Alias.Bucket, "")
	_, err := k.read(t, r)
	wantOutcome(t, err, OutcomeBadCredential)
	if n := len(k.s3.Requests()); n != 2 || s.renewals != 1 {
		t.Errorf("%d requests, %d renewals; want 2 and 1", n, s.renewals)
	}
}

// Without a session S3 is not asked, and the error says why.
func TestNoSession(t *testing.T) {
	t.Parallel()
	k, s := newSessionEnv(t)
	s.err = errors.New("STS cannot be reached")
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	r.Route = role(r.Route)
	for _, ask := range []func() error{
		func() error { _, err := k.read(t, r); return err },
		func() error { _, err := k.Head(t.Context(), r); return err },
	} {
		e := wantOutcome(t, ask(), OutcomeBadCredential)
		if !errors.Is(e, ErrNoSession) || !errors.Is(e.brief(), ErrNoSession) || !errors.Is(e, s.err) {
			t.Errorf("error %v", e)
		}
	}
	if n := len(k.s3.Requests()); n != 0 {
		t.Errorf("%d requests without a session", n)
	}
	without := newEnv(t, nil)
	_, err := without.read(t, Request{Route: role(without.route("shop")), Key: "a.png"})
	wantOutcome(t, err, OutcomeBadCredential)
}

// Requests that wait for a session hold no slot: an STS that hangs leaves the other aliases theirs.
func TestSessionWaitsWithoutSlot(t *testing.T) {
	t.Parallel()
	s := &sessions{now: map[string]int{}, hold: make(chan struct{}), asked: make(chan struct{}, 100)}
	k := newEnv(t, func(c *Config) { c.Sessions, c.Concurrency, c.AliasConcurrency, c.Queue = s, 1, 1, 1 })
	s.allow = func(kp alias.KeyPair, r alias.Route) { k.s3.Allow(kp, r.Alias.Bucket, r.Alias.Prefix) }
	cold := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	cold.Route = role(cold.Route)
	s.allow(keysOf(cold.Route, 0), cold.Route)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := k.read(t, cold); err != nil && outcomeOf(err) != OutcomeOverloaded { // one place in the queue
				t.Error(err)
			}
		})
	}
	<-s.asked
	other := k.put("press", "b.png", s3.Object{Body: noise(10)})
	kp, err := k.secrets.Reveal(other.Route.Credential)
	if err != nil {
		t.Fatal(err)
	}
	k.s3.Allow(kp, other.Route.Alias.Bucket, "")
	for range 5 {
		if _, err := k.read(t, other); err != nil {
			t.Errorf("an alias with a key of its own: %v", err)
		}
	}
	close(s.hold)
	wg.Wait()
}
