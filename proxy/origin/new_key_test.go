package origin

import (
	"context"
	"errors"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// TestNewKey: a request with a key that some server of S3 does not know yet is repeated once,
// if the key is new.
func TestNewKey(t *testing.T) {
	t.Parallel()
	now := time.Now()
	fresh := now.Add(24 * time.Hour) // new whenever the machine gets to it
	for _, tc := range []struct {
		name     string
		change   func(*alias.Credential)
		fault    string
		refused  int // requests in a row
		requests int
		want     Outcome
	}{
		{"just opened", func(c *alias.Credential) { c.VerifiedAt = fresh }, "InvalidAccessKeyId", 1, 2, OutcomeOK},
		{"just rotated in an emergency", func(c *alias.Credential) { c.RotatedAt = fresh }, "InvalidAccessKeyId", 1, 2, OutcomeOK},
		{"refused twice", func(c *alias.Credential) { c.VerifiedAt = fresh }, "InvalidAccessKeyId", 2, 2, OutcomeBadCredential},
		{"a wrong signature", func(c *alias.Credential) { c.VerifiedAt = fresh }, "SignatureDoesNotMatch", 1, 1, OutcomeBadCredential},
		{"no right", func(c *alias.Credential) { c.VerifiedAt = fresh }, "AccessDenied", 1, 1, OutcomeDenied},
		{"opened a minute ago", func(c *alias.Credential) { c.VerifiedAt = now.Add(-newKeyTime) }, "InvalidAccessKeyId", 1, 1, OutcomeBadCredential},
		{"verified again after a rotation", func(c *alias.Credential) { c.VerifiedAt, c.RotatedAt = fresh, now.Add(-time.Hour) }, "InvalidAccessKeyId", 1, 1, OutcomeBadCredential},
		{"pasted", func(c *alias.Credential) {
			c.VerifiedAt, c.Provider = fresh, alias.Static{AccessKeyID: c.AccessKeyID()}
		}, "InvalidAccessKeyId", 1, 1, OutcomeBadCredential},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(1000)})
			r.Route.Credential = k.provisioned(r.Route.Credential.ID, 1)
			tc.change(r.Route.Credential)
			var faults []*s3.Fault
			for range tc.refused {
				faults = append(faults, &s3.Fault{Code: tc.fault})
			}
			k.next(r, faults...)
			_, err := k.read(t, r)
			if tc.want != OutcomeOK {
				wantOutcome(t, err, tc.want)
			} else if err != nil {
				t.Error(err)
			}
			if n, retries := len(k.s3.Requests()), k.rec.retried(); n != tc.requests || retries != n-1 {
				t.Errorf("%d requests and %d counted retries, want %d requests", n, retries, tc.requests)
			}
			if k.rec.fellBack() != 0 {
				t.Error("counted as a fallback on a previous key")
			}
		})
	}
}

// TestOutdated: an error tells that a refused key may have been replaced without this node knowing it.
func TestOutdated(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		fault string
		cfg   func(*Config)
		want  bool
	}{
		{"InvalidAccessKeyId", func(c *Config) { c.Outdated = func() bool { return true } }, true},
		{"InvalidAccessKeyId", func(c *Config) { c.Outdated = func() bool { return false } }, false},
		{"InvalidAccessKeyId", nil, false},
		{"AccessDenied", func(c *Config) { c.Outdated = func() bool { return true } }, false},
	} {
		k := newEnv(t, tc.cfg)
		r := k.put("shop", "a.png", s3.Object{Body: noise(1000)})
		k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(tc.fault) })
		for name, call := range map[string]func(context.Context, Request) (*Object, error){"Get": k.Get, "Head": k.Head} {
			_, err := call(t.Context(), r)
			if e, ok := errors.AsType[*Error](err); !ok || e.Outdated != tc.want {
				t.Errorf("%s, %s: got %v with %v, want %v", name, tc.fault, err, ok && e.Outdated, tc.want)
			}
		}
	}
}
