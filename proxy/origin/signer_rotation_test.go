package origin

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// A request with an outdated version is made again with the present one, if that
// is the same alias's and the same credential's.
func TestOutdatedVersion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		static bool
		change func(k *env, now *alias.Route) bool // false: nobody is found
		want   Outcome
		get    string
	}{
		{name: "newer version", want: OutcomeOK, get: "v1,v2"},
		{name: "newer version of a static one", static: true, want: OutcomeOK, get: "v1,v2"},
		{name: "same version", want: OutcomeBadCredential, get: "v1", change: func(k *env, now *alias.Route) bool {
			now.Credential = k.provisioned(now.Credential.ID, 1)
			return true
		}},
		{name: "older version", want: OutcomeBadCredential, get: "v1", change: func(k *env, now *alias.Route) bool {
			now.Credential = k.credential(now.Credential.ID, 0)
			k.s3.Allow(k.keyOf(now.Credential, 0), now.Alias.Bucket, "")
			return true
		}},
		{name: "newer secret of the same key id", static: true, want: OutcomeOK, get: "v1,v1", change: func(k *env, now *alias.Route) bool {
			kp := alias.KeyPair{AccessKeyID: k.keyOf(now.Credential, 1).AccessKeyID, SecretAccessKey: alias.NewSecret("pasted right")}
			k.secrets.put(now.Credential.ID, 2, kp)
			now.Credential.Provider = alias.Static{AccessKeyID: kp.AccessKeyID}
			k.s3.Allow(kp, now.Alias.Bucket, "")
			return true
		}},
		{name: "alias is gone", want: OutcomeBadCredential, get: "v1", change: func(*env, *alias.Route) bool { return false }},
		{name: "alias of the same name", want: OutcomeBadCredential, get: "v1", change: func(_ *env, now *alias.Route) bool {
			a := *now.Alias
			a.ID++
			now.Alias = &a
			return true
		}},
		{name: "alias has another credential", want: OutcomeBadCredential, get: "v1", change: func(k *env, now *alias.Route) bool {
			now.Credential = k.provisioned(4711, 2)
			k.s3.Allow(k.keyOf(now.Credential, 2), now.Alias.Bucket, "")
			return true
		}},
		{name: "present key does not open", want: OutcomeBadCredential, get: "v1", change: func(_ *env, now *alias.Route) bool {
			c := *now.Credential
			c.Version = 9
			now.Credential = &c
			return true
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var now alias.Route
			found := true
			k := newEnv(t, func(c *Config) {
				c.Lookup = func(name string) (alias.Route, bool) { return now, found && name == "shop" }
			})
			r := k.rotating(2)
			now = r.Route
			r.Route.Credential = k.provisioned(r.Route.Credential.ID, 1)
			if tc.static {
				now.Credential, r.Route.Credential = k.credential(now.Credential.ID, 2), k.credential(now.Credential.ID, 1)
			}
			if tc.change != nil {
				found = tc.change(k, &now)
			}
			_, err := k.read(t, r)
			if tc.want != OutcomeOK {
				wantOutcome(t, err, tc.want)
			} else if err != nil {
				t.Error(err)
			}
			if got := k.signed(); got != tc.get {
				t.Errorf("signed with %s, want %s", got, tc.get)
			}
			if n := k.rec.fellBack(); n != 0 {
				t.Errorf("counted %d fallbacks, want none: nothing is wrong with the rotation", n)
			}
			if _, err := k.Head(t.Context(), r); (err == nil) != (tc.want == OutcomeOK) {
				t.Errorf("HEAD: %v", err)
			}
		})
	}
}

// Two credentials that are rotated at once, with keys that come and go: whatever
// is tried, a key signs for its own alias only.
func TestFallbackNeverMixesCredentials(t *testing.T) {
	t.Parallel()
	var routes sync.Map
	k := newEnv(t, func(c *Config) {
		c.Lookup = func(name string) (alias.Route, bool) {
			r, ok := routes.Load(name)
			return r.(alias.Route), ok
		}
	})
	a, b := k.route("a"), k.route("bb")
	b.Alias.Location = a.Alias.Location
	keys := map[string]string{} // key id to the object that it may sign for
	for _, r := range []*alias.Route{&a, &b} {
		key := string(r.Alias.Name) + "/x.png"
		k.s3.Put(r.Alias.Bucket, key, s3.Object{Body: noise(50_000)})
		r.Credential = k.provisioned(r.Credential.ID, 2)
		routes.Store(string(r.Alias.Name), alias.Route{Alias: r.Alias, Credential: k.provisioned(r.Credential.ID, 3)})
		for version := range int64(3) {
			keys[k.keyOf(r.Credential, version+1).AccessKeyID] = key
		}
	}
	k.s3.Hook(func(q *s3.Request) *s3.Fault {
		switch q.N % 5 {
		case 0, 3:
			return s3.Fail("InvalidAccessKeyId")
		case 1:
			return s3.CloseAfter(int64(q.N * 100))
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 80 {
		r := Request{Route: a, Key: "a/x.png"}
		if i%2 == 1 {
			r = Request{Route: b, Key: "bb/x.png"}
		}
		wg.Go(func() {
			if got, err := k.read(t, r); err == nil && !bytes.Equal(got, noise(50_000)) {
				t.Errorf("%s: body differs", r.Key)
			}
			_, _ = k.Head(t.Context(), r)
			if i%20 == 0 {
				k.Forget(r.Route.Credential.ID)
			}
		})
	}
	wg.Wait()
	for _, q := range k.s3.Requests() {
		if keys[q.AccessKeyID] != q.Key {
			t.Fatalf("%s %s was signed with %q", q.Method, q.Target, q.AccessKeyID)
		}
	}
}

// Requests go on all through rotations: some come before S3 knows the new key,
// some with a route from before the old key died.
func TestRotationLosesNoRequest(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[alias.Route]
	k := newEnv(t, func(c *Config) { c.Lookup = func(string) (alias.Route, bool) { return *now.Load(), true } })
	r := k.put("shop", "a.png", s3.Object{Body: noise(1000)})
	id := r.Route.Credential.ID
	swap := func(version int64) {
		now.Store(&alias.Route{Alias: r.Route.Alias, Credential: k.provisioned(id, version)})
	}
	allow := func(version int64) { k.s3.Allow(k.keyOf(now.Load().Credential, version), r.Route.Alias.Bucket, "") }
	swap(1)
	allow(1)

	const workers = 8
	var rounds [workers]atomic.Int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range workers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				q := Request{Route: *now.Load(), Key: "a.png"}
				_, err := k.read(t, q)
				if i%2 == 1 {
					_, err = k.Head(t.Context(), q)
				}
				if err != nil {
					t.Errorf("version %d: %v", q.Route.Credential.Version, err)
				}
				rounds[i].Add(1)
			}
		})
	}
	// soak returns when all requests of before are over.
	soak := func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := range rounds {
			for from := rounds[i].Load(); rounds[i].Load() < from+2 && !t.Failed(); {
				<-tick.C
			}
		}
	}
	for version := int64(2); version < 5; version++ {
		swap(version) // before S3 knows it
		soak()
		allow(version)
		soak()
		k.s3.Revoke(k.keyOf(now.Load().Credential, version-1).AccessKeyID)
	}
	fallbacks := k.rec.fellBack()
	for version := int64(5); version < 8; version++ {
		k.provisioned(id, version)
		allow(version)
		swap(version)
		k.s3.Revoke(k.keyOf(now.Load().Credential, version-1).AccessKeyID) // leaked: at once
		soak()
	}
	close(done)
	wg.Wait()
	if fallbacks == 0 || k.rec.fellBack() != fallbacks {
		t.Errorf("fell back %d times while S3 did not know the new key, and %d times after", fallbacks, k.rec.fellBack()-fallbacks)
	}
}
