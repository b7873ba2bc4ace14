package session

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/alias"
)

// machine gives the server keys for six hours, as EC2 does, unless it is away.
type machine struct {
	away  error
	calls int
}

func (m *machine) Retrieve(context.Context) (aws.Credentials, error) {
	m.calls++
	if m.away != nil {
		return aws.Credentials{}, m.away
	}
	return aws.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "s", SessionToken: "t", CanExpire: true,
		Expires: time.Now().Add(6 * time.Hour)}, nil
}

func defaultRoute(e *env) alias.Route {
	r := e.route(100)
	r.Credential = &alias.Credential{ID: 2, Name: "own", Version: 1, Provider: alias.Default{}}
	return r
}

// While the issuer of the server's own credentials is away, the renewal of a credential of the kind
// default leaves those that are alive to the roles whose source they are.
func TestRenewalOfOwnLeavesTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		e := newEnv(t, func(c *Config) {
			c.AllowDefault = true
			c.AWS.Credentials = aws.NewCredentialsCache(m, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 5 * time.Minute })
		})
		e.mustKeys(defaultRoute(e))
		m.away = errors.New("IMDS cannot be reached")
		elapse(4*time.Hour + 45*time.Minute) // behind the renewal, before the end
		e.mustKeys(defaultRoute(e))
		synctest.Wait()
		e.mustKeys(e.route(1))
		// Keys that S3 refused are dropped: the next ones are others.
		m.away = nil
		before := m.calls
		if !e.Renew(t.Context(), defaultRoute(e), "ASIA") || m.calls != before+1 {
			t.Errorf("%d calls for other keys", m.calls-before)
		}
		// All of the life, with a request every minute, there are keys, and few calls.
		before = m.calls
		for range 6 * 60 {
			elapse(time.Minute)
			e.mustKeys(defaultRoute(e))
			synctest.Wait()
		}
		if got := m.calls - before; got < 1 || got > 3 {
			t.Errorf("%d calls in six hours", got)
		}
	})
}

// The server's own credentials come from STS too where it has a web identity. Whether a role is
// right is not known while that STS is away.
func TestOwnCredentialsFromSTSAway(t *testing.T) {
	t.Parallel()
	fromSTS := func(status int, code string) error {
		return &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRoleWithWebIdentity", Err: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code},
		}}
	}
	for name, row := range map[string]struct {
		err     error
		unknown bool
	}{
		"STS away":   {fromSTS(503, "ServiceUnavailable"), true},
		"throttled":  {fromSTS(400, "Throttling"), true},
		"no trust":   {fromSTS(403, "AccessDenied"), false},
		"no machine": {errors.New("no EC2 IMDS role found"), false},
	} {
		e := newEnv(t, func(c *Config) { c.AWS.Credentials = &machine{away: row.err} })
		err := e.Try(t.Context(), alias.NewRole(testRole), nil)
		if got := errors.Is(err, alias.ErrSTS); got != row.unknown {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A request that finds no keys just before a fetch for another one ends takes the keys of that, and
// starts none of its own.
func TestLateWaiterStartsNoFetch(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.mustKeys(e.route(1))
	x, err := e.session(e.route(1))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := x.wait(t.Context()); err != nil || l.keys.AccessKeyID == "" || e.sts.count() != 1 {
		t.Errorf("%d calls, %v", e.sts.count(), err)
	}
}
