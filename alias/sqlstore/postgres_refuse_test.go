package sqlstore

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"ixmage/alias"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// checkError checks the words of an error, that it is one line and that it does not have a secret.
func checkError(t *testing.T, err error, secret string, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has a secret or more than one line", err)
	}
}

// TestNewPostgresRefuses: an error of a malformed URL has no part of the password, wherever the
// password is and whatever characters it has.
func TestNewPostgresRefuses(t *testing.T) {
	t.Parallel()
	const secret = "SeCrEt"
	form, part := []string{"postgres://ROLE@HOST:PORT/DATABASE"}, []string{"%40", "%2F", "%23", "%3F", "%25", "PGPASSFILE"}
	for _, tt := range []struct {
		url  string
		want []string
	}{
		{"", form},
		{secret, form},
		{"registry.db", form},
		{"mysql://me:" + secret + "@127.0.0.1/db", form},
		{"Postgres://me:" + secret + "@127.0.0.1/db", form},
		{"postgres:me:" + secret + "@127.0.0.1/db", form},
		{"host=127.0.0.1 password=" + secret, form},
		{"postgres://me:" + secret + "%zz@127.0.0.1/db", part},
		{"postgres://me:%" + secret + "@127.0.0.1/db", part},
		{"postgres://127.0.0.1/db?password=%" + secret, part},
		{"postgres://me:" + secret + " x@127.0.0.1/db", part},
		{"postgres://me:" + secret + "@127.0.0.1/db%4", part},
		{"postgres://me:" + secret + "@127.0.0.1:port/db", append(form, "port")},
		{"postgres://127.0.0.1:port/db?password=" + secret, append(form, "port")},
		{"postgres://127.0.0.1/db?sslmode=yes&password=" + secret, append(form, "sslmode")},
		{"postgres://127.0.0.1/db?sslmode=yes&sslpassword=" + secret, append(form, "sslmode")},
		{"postgres://me:" + secret + "/x@127.0.0.1/db", part},
		{"postgres://me:12/" + secret + "@127.0.0.1/db", part},
		{"postgres://me:x#" + secret + "@127.0.0.1/db", part},
		{"postgres://me:x?" + secret + "@127.0.0.1/db", part},
		{"postgres://me:x@" + secret + "@127.0.0.1/db", part},
		{"postgres://me:x@" + secret + "@127.0.0.1:port/db", part},
		{"postgres://me:x@12#" + secret + "@127.0.0.1/db", part},
		{"postgres://me:" + secret + "@127.0.0.1/db#x", part},
	} {
		t.Run(tt.url, func(t *testing.T) {
			t.Parallel()
			p, err := NewPostgres(tt.url)
			if err == nil {
				p.Close()
			}
			checkError(t, err, secret, append(tt.want, "the URL of the database")...)
		})
	}
	for _, url := range []string{
		"postgres://", "postgresql://me@[::1]/db", "postgres://me:a%40b%2Fc@one:5432,two:5433/db?target_session_attrs=primary",
	} {
		p, err := NewPostgres(url)
		if err != nil {
			t.Errorf("%s: got %v", url, err)
			continue
		}
		p.Close()
	}
}

// FuzzNewPostgres: no error has the password of a URL.
func FuzzNewPostgres(f *testing.F) {
	for _, seed := range [][2]string{{"", "@127.0.0.1/db"}, {"@", "/@:x"}, {"x#", "?@h:port"}, {"%", "&sslmode=no"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "SeCrEt"
		p, err := NewPostgres("postgres://me:" + before + secret + after)
		if err == nil {
			p.Close()
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error has the password: %v", err)
		}
	})
}

// refusal is a database that Prepare refuses.
type refusal struct {
	name string
	url  func(*testing.T, *postgres.Server) string
	want []string
	// permanent: the error is not alias.ErrUnavailable, because waiting does not help.
	permanent bool
}

var refusals = []refusal{
	{name: "newer schema", url: newerPostgres, permanent: true, want: []string{
		"schema version 999", "versions up to ", "newer ixmage", "run that one", "backup",
	}},
	{name: "no right to create", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		return s.URL(postgres.Name(t, s.Database(t)), s.Role(t))
	}, want: []string{"lacks a right", "grant it CREATE", "owner"}},
	{name: "no right to read", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		return s.URL(postgres.Name(t, migrated(t)), s.Role(t))
	}, want: []string{"lacks a right", "grant it CREATE", "all rights"}},
	{name: "read-only", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		url := s.Database(t)
		s.Exec(t, "postgres", "ALTER DATABASE "+postgres.Name(t, url)+" SET default_transaction_read_only = on")
		return url
	}, want: []string{"must accept writes", "standby"}},
	{name: "no connection left", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		role := s.Role(t)
		s.Exec(t, "postgres", "ALTER ROLE "+role+" CONNECTION LIMIT 0")
		return s.URL("postgres", role)
	}, want: []string{"no free connection", "limit"}},
	{name: "unknown host", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper() // no resolver asks for a name with an empty label
		return postgres.Through(t, "nowhere..invalid:5432", s.URL("postgres", "me"))
	}, want: []string{"nowhere..invalid"}},
	{name: "nothing listens", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper() // it tries TLS first, and fails twice
		return postgres.Through(t, netfault.Refused(t), strings.Replace(s.URL("postgres", "me"), "disable", "prefer", 1))
	}, want: []string{"connection refused"}},
	{name: "no answer", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		proxy := netfault.New(t, s.Addr)
		if err := proxy.Set(netfault.Hang()); err != nil {
			t.Fatal(err)
		}
		return postgres.Through(t, proxy.Addr, s.URL("postgres", "me")) + "&connect_timeout=1"
	}, want: []string{"timeout"}},
	{name: "another server", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		web := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(web.Close)
		return postgres.Through(t, web.Listener.Addr().String(), s.URL("postgres", "me")) + "&connect_timeout=1"
	}, want: []string{"timeout"}},
	{name: "unknown database", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		return s.URL("nothing", s.Role(t))
	}, want: []string{`database "nothing" does not exist`, "create it first"}},
	{name: "unknown role", url: func(_ *testing.T, s *postgres.Server) string { return s.URL("postgres", "nobody") }, want: []string{
		"password is wrong", "PGPASSWORD", "nobody",
	}},
	{name: "wrong password", url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		role := s.Role(t)
		return strings.Replace(s.URL("postgres", role), role+":", role+":x", 1)
	}, want: []string{"password is wrong", "PGPASSFILE"}},
	{name: "no TLS", url: func(_ *testing.T, s *postgres.Server) string {
		return strings.Replace(s.URL("postgres", "me"), "disable", "require", 1)
	}, want: []string{"refused TLS"}},
	{name: "unknown parameter", permanent: true, url: func(t *testing.T, s *postgres.Server) string {
		t.Helper()
		return s.URL("postgres", s.Role(t)) + "&sslmod=require"
	}, want: []string{`"sslmod"`}},
}

func newerPostgres(t *testing.T, s *postgres.Server) string {
	t.Helper()
	url := migrated(t)
	s.Exec(t, postgres.Name(t, url), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, true)`)
	return url
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := tt.url(t, server)
			err := newPostgres(t, url).Prepare(t.Context())
			checkError(t, err, password(t, url), tt.want...)
			if errors.Is(err, alias.ErrUnavailable) == tt.permanent {
				t.Errorf("%v is %v: %v", err, alias.ErrUnavailable, !tt.permanent)
			}
		})
	}
}

// TestPrepareTLS: a server that requires TLS is refused without, and without its authority.
func TestPrepareTLS(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{TLS: true})
	url := server.Database(t)
	openPostgres(t, url)
	base, _, _ := strings.Cut(url, "?")
	for mode, want := range map[string]string{
		"disable": "set sslmode=verify-full", "verify-full": "unknown authority", "verify-ca": "unknown authority",
	} {
		err := newPostgres(t, base+"?sslmode="+mode).Prepare(t.Context())
		checkError(t, err, password(t, url), want)
		if !errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("%s: got %v", mode, err)
		}
	}
}

// password is that of a URL.
func password(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	return secret
}

// TestErrorWithoutCode: a server that is not PostgreSQL may send an error without a code.
func TestErrorWithoutCode(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"", "0"} {
		if err := classifyPostgres(&pgconn.PgError{Code: code, Message: "no"}); err == nil || errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("code %q: got %v", code, err)
		}
	}
}
