package session

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/policy"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	r := e.route(1)
	r.Alias.Name, r.Alias.Prefix = "shop", "website-images/"
	role := alias.NewRole(testRole)
	role.ExternalID, role.Duration, role.SourceIdentity = "abc", 2*time.Hour, true
	r.Credential.Provider = role
	e.mustKeys(r)
	got := e.sts.last()
	for name, want := range map[string]string{
		"Action": "AssumeRole", "RoleArn": testRole, "RoleSessionName": "ixmage-i1-shop", "ExternalId": "abc",
		"DurationSeconds": "7200", "SourceIdentity": "ixmage-i1-shop", "host": "sts.eu-west-1.amazonaws.com",
		"Policy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject",` +
			`"Resource":"arn:aws:s3:::acme-media/website-images/*"}]}`,
	} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	if !strings.Contains(got.Get("signed"), "Credential=AKIASERVER/") {
		t.Errorf("signed by %s", got.Get("signed"))
	}
}

// Without more the request has no source identity and no external id, and lasts an hour.
func TestRequestDefaults(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.mustKeys(e.route(1))
	got := e.sts.last()
	if got.Has("SourceIdentity") || got.Has("ExternalId") || got.Get("DurationSeconds") != "3600" {
		t.Errorf("request %v", got)
	}
	if got.Get("Policy") == "" {
		t.Error("no session policy")
	}
}

// The session policy none sends none, and only where the flags allow it.
func TestWideSession(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(c *Config) { c.AllowWideScope = true })
	r := e.route(1)
	role := alias.NewRole(testRole)
	role.SessionPolicy = alias.SessionPolicyNone
	r.Credential.Provider = role
	e.mustKeys(r)
	if e.sts.last().Has("Policy") {
		t.Error("a policy was sent")
	}
}

// A role whose source is a session itself has an hour at most.
func TestChained(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(c *Config) {
		c.AWS.Credentials = credentials.NewStaticCredentialsProvider("ASIASERVER", "s", "t")
	})
	r := e.route(1)
	role := alias.NewRole(testRole)
	role.Duration = 12 * time.Hour
	r.Credential.Provider = role
	e.mustKeys(r)
	if got := e.sts.last().Get("DurationSeconds"); got != "3600" {
		t.Errorf("%s seconds", got)
	}
}

// A role takes external id and region of its account where it has none of its own.
func TestAccount(t *testing.T) {
	t.Parallel()
	list, problems := accounts.Parse("accounts.yaml", []byte(`accounts:
- {id: "123456789012", name: media, role: "arn:aws:iam::123456789012:role/power", external_id: tenant, region: eu-central-1, no_boundary: true}
- {id: "210987654321", name: other, role: "arn:aws:iam::210987654321:role/power", no_boundary: true}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, row := range map[string]struct {
		change     func(*alias.Role)
		externalID string
		host       string
		field      string // of the error
	}{
		"by name": {func(r *alias.Role) { r.Account = "media" }, "tenant", "sts.eu-central-1.amazonaws.com", ""},
		"by id":   {func(r *alias.Role) { r.Account = "123456789012" }, "tenant", "sts.eu-central-1.amazonaws.com", ""},
		"own":     {func(r *alias.Role) { r.Account, r.ExternalID, r.Region = "media", "mine", "eu-west-2" }, "mine", "sts.eu-west-2.amazonaws.com", ""},
		"another": {func(r *alias.Role) { r.Account = "other" }, "", "", "role_arn"},
		"unknown": {func(r *alias.Role) { r.Account = "nobody" }, "", "", "account"},
	} {
		e := newEnv(t, func(c *Config) { c.Accounts = list })
		role := alias.NewRole(testRole)
		row.change(&role)
		err := e.Try(t.Context(), role, nil)
		var v *alias.ValidationError
		if row.field != "" {
			if !errors.As(err, &v) || v.Problems[0].Field != row.field || e.sts.count() != 0 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || e.sts.last().Get("ExternalId") != row.externalID || e.sts.last().Get("host") != row.host {
			t.Errorf("%s: %v, %v", name, err, e.sts.last())
		}
	}
}

// Calls for credentials that are not registered yet obey the limit too.
func TestTryIsLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, nil)
		var wg sync.WaitGroup
		for range 3 * callsAtOnce {
			wg.Go(func() {
				if err := e.Try(t.Context(), alias.NewRole(testRole), nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most := mostPerSecond(e.sts.times); most > callsPerSecond+callsAtOnce {
			t.Errorf("%d calls in a second", most)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := e.Try(ctx, alias.NewRole(testRole), nil); !errors.Is(err, alias.ErrSTS) {
			t.Errorf("error %v", err)
		}
	})
}

// Try asks for a session that may do nothing if there is no alias yet.
func TestTry(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	if err := e.Try(context.Background(), alias.NewRole(testRole), nil); err != nil {
		t.Fatal(err)
	}
	if got := e.sts.last(); got.Get("Policy") != policy.DenyAll || got.Get("RoleSessionName") != "ixmage-i1" {
		t.Errorf("request %v", got)
	}
	if n, _ := e.Stats(); n != 0 {
		t.Errorf("%d sessions are kept", n)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("i", 32)
	seen := map[string]bool{}
	for _, row := range []struct{ install, alias, want string }{
		{"i1", "shop", "ixmage-i1-shop"},
		{long, "shop", "ixmage-" + long + "-shop"},
		{long, strings.Repeat("a", 63), ""},
		{long, strings.Repeat("a", 62) + "b", ""},
		{"i1", strings.Repeat("a", 63), ""},
	} {
		s := &Sessions{cfg: Config{InstallID: row.install}}
		got := s.name(alias.Name(row.alias))
		if row.want != "" && got != row.want || len(got) > maxName || seen[got] || !strings.HasPrefix(got, "ixmage-"+row.install[:2]) {
			t.Errorf("%s of %s: %s", row.alias, row.install, got)
		}
		seen[got] = true
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	kms := alias.NewRole(testRole)
	kms.KMSKeyARN = "arn:aws:kms:eu-west-1:123456789012:key/k"
	china := alias.NewRole("arn:aws-cn:iam::123456789012:role/ixmage/pictures")
	for name, row := range map[string]struct {
		role  alias.Role
		at    alias.Location
		want  string // in the policy
		field string // of the error
	}{
		"whole bucket":    {role: alias.NewRole(testRole), at: alias.Location{Bucket: "acme", Region: "eu-west-1"}, want: `"arn:aws:s3:::acme/*"`},
		"key":             {role: kms, at: alias.Location{Bucket: "acme", Region: "eu-west-1"}, want: `"Action":"kms:Decrypt","Resource":"arn:aws:kms:eu-west-1:123456789012:key/k"`},
		"partition":       {role: china, at: alias.Location{Bucket: "acme", Region: "cn-north-1"}, want: `"arn:aws-cn:s3:::acme/*"`},
		"other partition": {role: china, at: alias.Location{Bucket: "acme", Region: "eu-west-1"}, field: "session_policy"},
		"longest":         {role: kms, want: `\u00e9/*"`, at: alias.Location{Bucket: strings.Repeat("b", 63), Region: "eu-west-1", Prefix: strings.Repeat("é", 255) + "/"}},
		"wildcard":        {role: alias.NewRole(testRole), at: alias.Location{Bucket: "acme", Region: "eu-west-1", Prefix: "a*/"}, field: "session_policy"},
	} {
		got, err := Policy(row.role, row.at)
		e := asError(err)
		if len(got) > 2048 {
			t.Errorf("%s: %d characters", name, len(got))
		}
		if row.field == "" && (err != nil || !strings.Contains(got, row.want)) || row.field != "" && (e == nil || e.Field != row.field) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestWalls(t *testing.T) {
	t.Parallel()
	wide := alias.NewRole(testRole)
	wide.SessionPolicy = alias.SessionPolicyNone
	for name, row := range map[string]struct {
		cfg     Config
		is      alias.Provider
		allowed bool
	}{
		"no pattern":      {Config{}, alias.NewRole(testRole), false},
		"exact":           {Config{AssumeRoles: []string{testRole}}, alias.NewRole(testRole), true},
		"pattern":         {Config{AssumeRoles: []string{"arn:aws:iam::123456789012:role/ixmage/*"}}, alias.NewRole(testRole), true},
		"other account":   {Config{AssumeRoles: []string{"arn:aws:iam::210987654321:role/ixmage/*"}}, alias.NewRole(testRole), false},
		"other name":      {Config{AssumeRoles: []string{"arn:aws:iam::123456789012:role/ixmage/x*"}}, alias.NewRole(testRole), false},
		"wide":            {Config{AssumeRoles: []string{"arn:*:iam::*:role/*"}}, wide, false},
		"wide allowed":    {Config{AssumeRoles: []string{"arn:*:iam::*:role/*"}, AllowWideScope: true}, wide, true},
		"default":         {Config{AssumeRoles: []string{"arn:*:iam::*:role/*"}, AllowWideScope: true}, alias.Default{}, false},
		"default allowed": {Config{AllowDefault: true}, alias.Default{}, true},
	} {
		row.cfg.Recorder = &outcomes{}
		s := New(row.cfg)
		err := s.Allowed(row.is)
		if (err == nil) != row.allowed || err != nil && !errors.Is(err, alias.ErrForbidden) {
			t.Errorf("%s: %v", name, err)
		}
		r := alias.Route{Alias: alias.New(), Credential: &alias.Credential{Provider: row.is}}
		if _, err := s.Provider(r).Retrieve(t.Context()); errors.Is(err, alias.ErrForbidden) == row.allowed {
			t.Errorf("%s: Provider gives %v", name, err)
		}
		s.Close()
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		status        int
		code, message string
		field         string // empty: it is not known
		outcome       string
		says          string
	}{
		"trust": {403, "AccessDenied", "User: x is not authorized to perform: sts:AssumeRole on resource: y", "role_arn", outcomeDenied, "trust policy"},
		"duration": {400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
			"duration", outcomeDenied, "maximum session duration"},
		"other validation": {400, "ValidationError", "1 validation error detected: Value at 'roleArn'", "role_arn", outcomeDenied, "ValidationError"},
		"packed":           {400, "PackedPolicyTooLarge", "Packed size 120 %", "session_policy", outcomeDenied, "shorter prefix"},
		"malformed":        {400, "MalformedPolicyDocument", "no", "session_policy", outcomeDenied, "does not accept"},
		"region":           {403, "RegionDisabledException", "STS is not activated", "region", outcomeDenied, "activate it"},
		"key":              {403, "InvalidClientTokenId", "the key AKIASERVER", "source", outcomeDenied, "refuses the key"},
		"signature":        {403, "SignatureDoesNotMatch", "no", "source", outcomeDenied, "refuses the key"},
		"expired":          {400, "ExpiredToken", "no", "source", outcomeDenied, "refuses the key"},
		"no such call":     {400, "InvalidAction", "no", "role_arn", outcomeDenied, "does not give sessions"},
		"throttled":        {400, "Throttling", "Rate exceeded", "", outcomeThrottled, "throttles"},
		"failing":          {500, "InternalFailure", "no", "", outcomeError, "fails"},
		"unknown":          {400, "Surprise", "no", "role_arn", outcomeDenied, "Surprise"},
	} {
		e := newEnv(t, nil)
		e.sts.answer = func(int) (int, string, string) { return row.status, row.code, row.message }
		err := e.Try(context.Background(), alias.NewRole(testRole), nil)
		var v *alias.ValidationError
		switch {
		case row.field == "" && !errors.Is(err, alias.ErrSTS), row.field != "" && (!errors.As(err, &v) || v.Problems[0].Field != row.field):
			t.Errorf("%s: %v", name, err)
		case !strings.Contains(err.Error(), row.says), strings.Contains(err.Error(), "AKIASERVER"):
			t.Errorf("%s says %s", name, err)
		}
		if e.outcomes.count(row.outcome) != 1 {
			t.Errorf("%s counts as %v", name, e.outcomes.n)
		}
	}
}

// An STS that cannot be reached says nothing about the credential.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(c *Config) { c.AWS.HTTPClient = broken{}; c.AWS.RetryMaxAttempts = 1 })
	if err := e.Try(context.Background(), alias.NewRole(testRole), nil); !errors.Is(err, alias.ErrSTS) {
		t.Error(err)
	}
	if e.outcomes.count(outcomeNetwork) != 1 {
		t.Error(e.outcomes.n)
	}
}

type broken struct{}

func (broken) Do(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// The kind default signs with the server's own keys, and says so when there are none.
func TestOwnCredentials(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		chain aws.CredentialsProvider
		field string
	}{
		"long-lived": {chain: credentials.NewStaticCredentialsProvider("AKIASERVER", "s", "")},
		"temporary":  {chain: chain{keys: aws.Credentials{AccessKeyID: "ASIASERVER", CanExpire: true, Expires: time.Now().Add(time.Hour)}}},
		"none":       {field: "kind"},
		"failing":    {chain: chain{err: errors.New("no EC2 IMDS role found")}, field: "kind"},
	} {
		e := newEnv(t, func(c *Config) { c.AllowDefault, c.AWS.Credentials = true, row.chain })
		r := e.route(1)
		r.Credential.Provider = alias.Default{}
		keys, err := e.keys(r)
		if row.field != "" {
			if e := asError(err); e == nil || e.Field != row.field {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || !strings.HasSuffix(keys.AccessKeyID, "SERVER") || e.sts.count() != 0 {
			t.Errorf("%s: %+v, %v", name, keys, err)
		}
		if again, _ := e.keys(e.routeDefault(2)); again != keys {
			t.Errorf("%s: two aliases have two sessions", name)
		}
	}
}

func (e *env) routeDefault(n int64) alias.Route {
	r := e.route(n)
	r.Credential.Provider = alias.Default{}
	return r
}

type chain struct {
	keys aws.Credentials
	err  error
}

func (c chain) Retrieve(context.Context) (aws.Credentials, error) { return c.keys, c.err }
