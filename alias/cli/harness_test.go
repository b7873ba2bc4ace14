package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/client"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore/sqltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken  = "canary-token-0123456789abcdef"
	testSecret = "canary-secret-AbCdEf/0123456789+xyz"
)

// env is a server with the admin API, and a folder for files.
type env struct {
	t        *testing.T
	registry *alias.Registry
	client   *client.Client
	folder   string
}

func newEnv(t *testing.T, edit ...func(*admin.Config)) *env {
	t.Helper()
	dir := t.TempDir()
	store := sqltest.Open(t, filepath.Join(dir, "registry.db"))
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := alias.Open(t.Context(), store, keys, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := admin.Config{
		Registry: registry, Token: alias.NewSecret(testToken), Sessions: testSessions{}, Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range edit {
		f(&cfg)
	}
	server := admin.New(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	api, err := client.New("http://"+ln.Addr().String(), alias.NewSecret(testToken))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		api.CloseIdle()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
	})
	return &env{t: t, registry: registry, client: api, folder: dir}
}

// testRole begins the ARN of a role that may be assumed.
const testRole = "arn:aws:iam::123456789012:role/ixmage-"

// testSessions gives a session of every role that may be assumed.
type testSessions struct{}

func (testSessions) Allowed(p alias.Provider) error {
	if r, ok := p.(alias.Role); ok && !strings.HasPrefix(r.ARN, testRole) {
		return fmt.Errorf("%w: the role %s is not among --assume-roles", alias.ErrForbidden, r.ARN)
	}
	return nil
}

func (testSessions) Try(context.Context, alias.Provider, *alias.Alias) error { return nil }

func (testSessions) Prepare(context.Context, alias.Route) error { return nil }

// checkOptions knows one option. The program has proxy/transform for it.
func checkOptions(query string) error {
	if strings.Contains(query, "w=wide") {
		return errors.New("w is a number")
	}
	return nil
}

// ran is what a command printed, and its exit status.
type ran struct {
	code     int
	out, err string
}

// session makes a session that prints to the buffers.
func (e *env) session(format, stdin string) (s *session, out, errs *bytes.Buffer) {
	e.t.Helper()
	in, err := os.CreateTemp(e.t.TempDir(), "stdin")
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { in.Close() })
	if _, err := in.WriteString(stdin); err != nil {
		e.t.Fatal(err)
	}
	if _, err := in.Seek(0, 0); err != nil {
		e.t.Fatal(err)
	}
	out, errs = &bytes.Buffer{}, &bytes.Buffer{}
	s = &session{
		ctx: e.t.Context(), flags: &Connection{Output: format}, term: newTerminal(e.t.Context(), in, out, errs), out: newOutput(out, format),
		dialed: e.client, checkOptions: checkOptions,
	}
	return s, out, errs
}

// run runs a command without a terminal.
func (e *env) run(c command, format, stdin string) ran {
	e.t.Helper()
	s, out, errs := e.session(format, stdin)
	err := c.Run(s)
	s.out.Flush()
	r := ran{s.report(err), out.String(), errs.String()}
	if strings.Contains(r.out+r.err, testSecret) || strings.Contains(r.out+r.err, "\x1b") {
		e.t.Errorf("the output has a secret or an escape sequence:\n%s\n%s", r.out, r.err)
	}
	return r
}

// file writes a file of the folder and returns its path.
func (e *env) file(name, text string) string {
	e.t.Helper()
	path := filepath.Join(e.folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	return path
}

// call calls the API, and wants it to succeed.
func (e *env) call(method string, body any, path ...string) client.Value {
	e.t.Helper()
	resp, err := e.client.Do(e.t.Context(), client.Request{Method: method, Path: client.Path(path...), Body: body})
	if err != nil {
		e.t.Fatal(err)
	}
	if len(resp.Body) == 0 {
		return client.Value{}
	}
	v, err := resp.Value()
	if err != nil {
		e.t.Fatal(err)
	}
	return v
}

// state is all that the server has, as the API shows it.
func (e *env) state() string {
	e.t.Helper()
	var b strings.Builder
	for _, noun := range []string{"aliases", "credentials"} {
		text, err := e.call(http.MethodGet, nil, noun).MarshalJSON()
		if err != nil {
			e.t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

// keyFile is a file with a key pair.
func (e *env) keyFile(name, id string) string {
	e.t.Helper()
	return e.file(name, `{"access_key_id":"`+id+`","secret_access_key":"`+testSecret+`"}`)
}
