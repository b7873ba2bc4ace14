package origin

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// signed are the key ids of the requests so far, as v1, v2 and so on.
func (k *env) signed() string {
	var all []string
	for _, q := range k.s3.Requests() {
		_, rest, _ := strings.Cut(q.AccessKeyID, "V")
		all = append(all, "v"+strings.TrimSuffix(rest, "EXAMPLE"))
	}
	return strings.Join(all, ",")
}

// rotating is a request whose credential has got version 2 and may fall back on
// version 1. Only the versions named work.
func (k *env) rotating(works ...int64) Request {
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	r.Route.Credential = k.provisioned(r.Route.Credential.ID, 2)
	k.s3.Allow(alias.KeyPair{AccessKeyID: "AKIANOBODY"}, "nowhere", "")
	for _, version := range works {
		k.s3.Allow(k.keyOf(r.Route.Credential, version), r.Route.Alias.Bucket, "")
	}
	return r
}

func TestFallback(t *testing.T) {
	t.Parallel()
	change := func(fn func(*alias.Credential, *alias.Provisioned)) func(*env, *Request) {
		return func(_ *env, r *Request) {
			p, _ := r.Route.Credential.Provisioned()
			fn(r.Route.Credential, p)
		}
	}
	always := func(code string) func(*env, *Request) {
		return func(k *env, _ *Request) {
			k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(code) })
		}
	}
	for _, tc := range []struct {
		name      string
		works     []int64
		change    func(*env, *Request)
		want      Outcome
		get, head string // the keys that signed
		fallbacks int
	}{
		{name: "new key works", works: []int64{1, 2}, want: OutcomeOK, get: "v2", head: "v2"},
		{name: "new key is unknown yet", works: []int64{1}, want: OutcomeOK, get: "v2,v1", head: "v2,v2,v1", fallbacks: 1},
		{name: "new key's secret is unknown yet", works: []int64{1}, want: OutcomeOK, get: "v2,v1", head: "v2,v2,v1", fallbacks: 1, change: func(k *env, r *Request) {
			k.s3.Allow(alias.KeyPair{AccessKeyID: k.keyOf(r.Route.Credential, 2).AccessKeyID, SecretAccessKey: alias.NewSecret("other")}, "nowhere", "")
		}},
		{name: "both are refused, asked once more only", want: OutcomeBadCredential, get: "v2,v1", head: "v2,v2,v1,v1", fallbacks: 1},
		{name: "window is over", works: []int64{1}, want: OutcomeBadCredential, get: "v2", head: "v2,v2", change: change(func(_ *alias.Credential, p *alias.Provisioned) { p.Previous.Until = time.Now() })},
		{name: "no previous key", works: []int64{1}, want: OutcomeBadCredential, get: "v2", head: "v2,v2", change: change(func(_ *alias.Credential, p *alias.Provisioned) { p.Previous = nil })},
		{name: "static", works: []int64{1}, want: OutcomeBadCredential, get: "v2", head: "v2,v2", change: change(func(c *alias.Credential, p *alias.Provisioned) { c.Provider = alias.Static{AccessKeyID: p.AccessKeyID} })},
		{name: "previous key does not open", works: []int64{1}, want: OutcomeBadCredential, get: "v2", head: "v2,v2", change: change(func(_ *alias.Credential, p *alias.Provisioned) { p.Previous.Version = 7 })},
		{name: "another key's sealed value", works: []int64{1}, want: OutcomeBadCredential, get: "v2", head: "v2,v2", change: change(func(_ *alias.Credential, p *alias.Provisioned) { p.Previous.Version = 2 })},
		{name: "denied", works: []int64{1}, want: OutcomeDenied, get: "v2", head: "v2,v2", change: always("AccessDenied")},
		{name: "missing", works: []int64{1}, want: OutcomeNotFound, get: "v2", head: "v2", change: always("NoSuchKey")},
		{name: "archived", works: []int64{1}, want: OutcomeError, get: "v2", head: "v2,v2", change: always("InvalidObjectState")},
		{name: "throttled", works: []int64{1}, want: OutcomeThrottled, get: "v2,v2", head: "v2,v2,v2,v2", change: always("SlowDown")},
	} {
		for _, method := range []string{"GET", "range", "HEAD"} {
			t.Run(tc.name+"/"+method, func(t *testing.T) {
				t.Parallel()
				var told atomic.Int64
				// One slot: falling back takes no second one.
				k := newEnv(t, func(c *Config) {
					c.Concurrency, c.AliasConcurrency = 1, 1
					c.PreviousKeyUsed = told.Store
				})
				r := k.rotating(tc.works...)
				if tc.change != nil {
					tc.change(k, &r)
				}
				want, outcome := tc.get, tc.want
				var err error
				switch method {
				case "HEAD":
					want = tc.head
					_, err = k.Head(t.Context(), r)
				case "range":
					r.Range = &Range{100, 299}
					fallthrough
				default:
					_, err = k.read(t, r)
				}
				if outcome != OutcomeOK {
					wantOutcome(t, err, outcome)
				} else if err != nil {
					t.Fatal(err)
				}
				if got := k.signed(); got != want {
					t.Errorf("signed with %s, want %s", got, want)
				}
				name := string(r.Route.Credential.Name)
				if k.rec.fallbacks[name] != tc.fallbacks || k.rec.fellBack() != tc.fallbacks {
					t.Errorf("counted %v, want %d of %s", k.rec.fallbacks, tc.fallbacks, name)
				}
				if got := told.Load(); (got == r.Route.Credential.ID) != (tc.fallbacks > 0) {
					t.Errorf("told of a fallback of credential %d", got)
				}
				k.rec.wantCounts(t, map[string]int{outcome.Label(): 1})
			})
		}
	}
}

// Falling back does not drop the new version's client, nor does its coming back
// drop the previous one's; both go with the version.
func TestFallbackKeepsClients(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.rotating(1)
	id := r.Route.Credential.ID
	for range 5 {
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
	}
	if n, kept := k.secrets.revealed(), k.clients.versions(id); n != 2 || !slices.Equal(kept, []int64{2, 2}) {
		t.Errorf("secrets were opened %d times for clients of versions %d, want 2 times for two of version 2", n, kept)
	}
	k.s3.Allow(k.keyOf(r.Route.Credential, 2), r.Route.Alias.Bucket, "")
	if _, err := k.read(t, r); err != nil || k.rec.fellBack() != 5 {
		t.Errorf("after S3 has learnt of the new key: %v, fell back %d times, want 5", err, k.rec.fellBack())
	}
	next := r
	next.Route.Credential = k.provisioned(id, 3)
	k.s3.Allow(k.keyOf(next.Route.Credential, 3), next.Route.Alias.Bucket, "")
	if _, err := k.read(t, next); err != nil {
		t.Error(err)
	}
	if kept := k.clients.versions(id); !slices.Equal(kept, []int64{3}) {
		t.Errorf("kept clients of versions %d, want one of version 3", kept)
	}
	// Late ones of version 2 work and bring nothing back.
	k.s3.Revoke(k.keyOf(r.Route.Credential, 2).AccessKeyID)
	if _, err := k.read(t, r); err != nil || k.clients.lru.Len() != 1 {
		t.Errorf("a late request: %v, %d clients", err, k.clients.lru.Len())
	}
	k.Forget(id)
	if k.clients.lru.Len() != 0 {
		t.Error("a client is left")
	}
}

// A body that breaks goes on with the key that opened it, and with another of
// the credential's when that one is refused by then.
func TestFallbackOfResumedBody(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		works []int64
		first int64 // version that the request comes with
		then  func(*env, *alias.Credential)
		want  string
	}{
		{"opened with the previous key", []int64{1}, 2, nil, "v2,v1,v1"},
		{"opened with the previous key, which is refused then", []int64{1}, 2, func(k *env, c *alias.Credential) {
			k.s3.Allow(k.keyOf(c, 2), "bucket-shop", "")
			k.s3.Revoke(k.keyOf(c, 1).AccessKeyID)
		}, "v2,v1,v1,v2"},
		{"new key is refused then", []int64{1, 2}, 2, func(k *env, c *alias.Credential) {
			k.s3.Revoke(k.keyOf(c, 2).AccessKeyID)
		}, "v2,v2,v1"},
		{"opened with the old version, whose key is refused then", []int64{1, 2}, 1, func(k *env, c *alias.Credential) {
			k.s3.Revoke(k.keyOf(c, 1).AccessKeyID)
		}, "v1,v1,v2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var now atomic.Pointer[alias.Route]
			k := newEnv(t, func(c *Config) { c.Lookup = func(string) (alias.Route, bool) { return *now.Load(), true } })
			r := k.rotating(tc.works...)
			now.Store(&alias.Route{Alias: r.Route.Alias, Credential: r.Route.Credential})
			if tc.first == 1 {
				r.Route.Credential = k.provisioned(r.Route.Credential.ID, 1)
			}
			k.s3.Hook(func(q *s3.Request) *s3.Fault {
				if q.Header.Get("Range") == "" {
					return s3.CloseAfter(100_000)
				}
				return nil
			})
			obj, err := k.Get(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if tc.then != nil {
				tc.then(k, r.Route.Credential)
			}
			got, err := readAll(t, obj)
			if err != nil || !bytes.Equal(got, noise(bodySize)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if got := k.signed(); got != tc.want {
				t.Errorf("signed with %s, want %s", got, tc.want)
			}
		})
	}
}

// Both attempts together may take what one call may.
func TestFallbackWithinDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newBubbleEnv(t, func(c *Config) { c.CallTimeout = 400 * time.Millisecond })
		r := k.rotating(1)
		k.s3.Hook(func(q *s3.Request) *s3.Fault {
			f := s3.DelayHeaders(250 * time.Millisecond)
			if q.AccessKeyID != k.keyOf(r.Route.Credential, 1).AccessKeyID {
				f.Code = "InvalidAccessKeyId"
			}
			return f
		})
		_, err := k.read(t, r)
		wantOutcome(t, err, OutcomeTimeout)
		_, err = k.Head(t.Context(), r)
		wantOutcome(t, err, OutcomeTimeout)
	})
}

// A rotation that has ended meanwhile has taken the previous key back.
func TestFallbackEndsWithRotation(t *testing.T) {
	t.Parallel()
	var now alias.Route
	k := newEnv(t, func(c *Config) { c.Lookup = func(string) (alias.Route, bool) { return now, true } })
	r := k.rotating(1)
	ended := *r.Route.Credential
	ended.Provider = &alias.Provisioned{AccessKeyID: ended.AccessKeyID()}
	now = alias.Route{Alias: r.Route.Alias, Credential: &ended}
	_, err := k.read(t, r)
	wantOutcome(t, err, OutcomeBadCredential)
	if got := k.signed(); got != "v2" || k.rec.fellBack() != 0 {
		t.Errorf("signed with %s and fell back %d times, want v2 and none", got, k.rec.fellBack())
	}
}

func TestProvisionedSigns(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	r.Route.Credential = k.provisioned(r.Route.Credential.ID, 1)
	k.s3.Allow(k.secrets.pair(r.Route.Credential), r.Route.Alias.Bucket, "")
	for range 2 {
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
	}
	if n := k.secrets.revealed(); n != 1 || k.signed() != "v1,v1" {
		t.Errorf("secret was opened %d times, signed with %s", n, k.signed())
	}
	r.Route.Credential = &alias.Credential{ID: 99, Version: 1, Provider: &alias.Provisioned{}}
	_, err := k.read(t, r)
	wantOutcome(t, err, OutcomeBadCredential)
	if n := k.s3.Total(); n != 2 {
		t.Errorf("a credential without a key sent %d requests", n-2)
	}
}

// TestFallbackClock: the end of a previous key is a time of the clock that the nodes share.
func TestFallbackClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		ahead time.Duration // of the machine's clock
		want  string
	}{{"machine is right", 0, "v2,v1"}, {"machine is ahead", 10 * time.Minute, "v2,v1"}, {"window is over", -10 * time.Minute, "v2"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(-tt.ahead) } })
			r := k.rotating(1)
			p, _ := r.Route.Credential.Provisioned()
			p.Previous.Until = time.Now().Add(-tt.ahead + time.Minute)
			if tt.ahead < 0 {
				p.Previous.Until = time.Now().Add(time.Minute)
			}
			_, _ = k.read(t, r)
			if got := k.signed(); got != tt.want {
				t.Errorf("signed with %s, want %s", got, tt.want)
			}
		})
	}
}
