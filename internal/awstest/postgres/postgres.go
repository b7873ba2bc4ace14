// Package postgres runs a real PostgreSQL server, and PgBouncer in front of it, in child
// processes. Both listen on loopback only and ask for a password.
package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ixmage/internal/awstest/process"
)

const (
	superuser    = "postgres"
	startTimeout = 5 * time.Minute // it is long, for a busy machine
	// requireVariable makes the absence of a program fail the test.
	requireVariable = "IXMAGE_REQUIRE_POSTGRES"
)

// Options of a Server.
type Options struct {
	TLS bool // refuse connections without TLS
}

// Server is a PostgreSQL server with a data folder of its own. Its methods that stop and start it
// must not run at the same time.
type Server struct {
	Addr string // host:port

	cluster *cluster
	child   *process.Child // nil for the shared server
}

// Start starts a Server that ends with the test, for tests that stop it, restore its data or need
// Options; all others share one, see Database. Without PostgreSQL it skips the test or, if
// IXMAGE_REQUIRE_POSTGRES is set, fails it.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	return process.ServerOf(t, func(ctx context.Context, _ string) (*Server, error) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		if _, err := findBin(); err != nil {
			return nil, err
		}
		return process.StartServer(ctx, func() (*Server, error) {
			c, err := newCluster(ctx, opts)
			s := newServer(c)
			t.Cleanup(func() { // after Stop
				if err := os.RemoveAll(s.cluster.dir); err != nil {
					t.Error(err)
				}
			})
			if err == nil {
				err = s.start(ctx)
			}
			return s, err
		})
	}, ErrMissing, requireVariable)
}

func newServer(c *cluster) *Server {
	if c == nil {
		c = &cluster{}
	}
	return &Server{Addr: c.addr, cluster: c}
}

func (s *Server) start(ctx context.Context) error {
	cmd, err := s.cluster.server()
	if err != nil {
		return err
	}
	if s.child, err = process.Start("postgres", cmd); err != nil {
		return err
	}
	return s.child.WaitReady(ctx, s.ready)
}

// ready reports whether our own server answers: another one may have taken the port, but refuses
// our password.
func (s *Server) ready(ctx context.Context) bool {
	_, err := s.exec(ctx, "postgres", "SELECT 1")
	return err == nil
}

// URL is the address of a database for a role. Under TLS the URL names the authority of the
// server's certificate.
func (s *Server) URL(database, role string) string { return s.urlAt(s.Addr, database, role) }

func (s *Server) urlAt(addr, database, role string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, s.cluster.password), Host: addr, Path: database}
	u.RawQuery = "sslmode=disable"
	if s.cluster.tls {
		u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.cluster.certificate()}}.Encode()
	}
	return u.String()
}

// Exec runs statements as the superuser and returns the rows of the last one as text.
func (s *Server) Exec(t testing.TB, database, sql string) [][]string {
	t.Helper()
	rows, err := s.exec(context.Background(), database, sql) // a cleanup may call it
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func (s *Server) exec(ctx context.Context, database, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, s.URL(database, superuser))
	if err != nil {
		return nil, err
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err := errors.Join(err, conn.Close(ctx)); err != nil || len(results) == 0 {
		return nil, err
	}
	var rows [][]string
	for _, row := range results[len(results)-1].Rows {
		text := make([]string, len(row))
		for i, value := range row {
			text[i] = string(value)
		}
		rows = append(rows, text)
	}
	return rows, nil
}

// Role makes a role that may log in and do nothing else, and returns its name.
func (s *Server) Role(t testing.TB) string {
	t.Helper()
	role := name("role")
	s.Exec(t, "postgres", "CREATE ROLE "+role+" LOGIN PASSWORD '"+s.cluster.password+"'")
	return role
}

// Database makes an empty database with a role that owns it, and returns its URL. The database
// ends with the test.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return s.createDatabase(t, "template0", s.Role(t))
}

// Copy makes a copy of a database, to which nobody may be connected, with the same owner, and
// returns its URL. The copy ends with the test.
func (s *Server) Copy(t testing.TB, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return s.createDatabase(t, Name(t, database), u.User.Username())
}

func (s *Server) createDatabase(t testing.TB, template, owner string) string {
	t.Helper()
	database := name("db")
	s.Exec(t, "postgres", "CREATE DATABASE "+database+" OWNER "+owner+" TEMPLATE "+template)
	if s.child == nil { // the databases of a test's own server go with it
		t.Cleanup(func() { s.Exec(t, "postgres", "DROP DATABASE "+database+" WITH (FORCE)") })
	}
	return s.URL(database, owner)
}

// Name is the name of the database of a URL.
func Name(t testing.TB, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

// name returns a name that no other database or role has.
func name(kind string) string { return kind + "_" + strings.ToLower(rand.Text()) }

// Stop ends the server in order, connections of clients too. It may be called more than once.
func (s *Server) Stop() error {
	if s.child == nil {
		return nil
	}
	_ = s.child.Signal(os.Interrupt) // SIGTERM alone waits for the clients to leave
	s.Resume()
	return s.child.Stop()
}

// Kill ends the server and its connections as a power cut would.
func (s *Server) Kill() {
	s.child.KillTree()
}

// Pause stops all processes of the server: connections stay open and silent.
func (s *Server) Pause() { s.child.SignalTree(syscall.SIGSTOP) }

// Resume ends Pause.
func (s *Server) Resume() { s.child.SignalTree(syscall.SIGCONT) }

// Restart starts the server again on its address after Stop or Kill.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		t.Fatal(err)
	}
}

// Backup copies the data folder and returns the copy. The server must be stopped.
func (s *Server) Backup(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	copyDir(t, s.cluster.data(), dir)
	return dir
}

// Restore replaces the data folder by a copy that Backup made. The server must be stopped.
func (s *Server) Restore(t testing.TB, backup string) {
	t.Helper()
	if err := os.RemoveAll(s.cluster.data()); err != nil {
		t.Fatal(err)
	}
	copyDir(t, backup+"/data", s.cluster.dir)
}

// copyDir copies a folder into another with owners and modes, which PostgreSQL checks.
func copyDir(t testing.TB, from, into string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, into).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}
