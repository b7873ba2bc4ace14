package postgres

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"ixmage/internal/awstest/process"
)

// Database is Shared(t).Database(t): the URL of an empty database with a role that owns it.
func Database(t testing.TB) string {
	t.Helper()
	return Shared(t).Database(t)
}

// template is a database of the shared server that Prepared copies. It ends with the process.
var template struct {
	once sync.Once
	url  string
	err  error
}

// Prepared is the URL of a copy of a database that prepare has filled, which the first call in the
// process does for all: to migrate a database for each test takes too long. prepare must leave no
// connection. The copy ends with the test.
func Prepared(t testing.TB, prepare func(ctx context.Context, url string) error) string {
	t.Helper()
	s := Shared(t)
	template.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		role, database := name("role"), name("db")
		template.url = s.URL(database, role)
		for _, sql := range []string{
			"CREATE ROLE " + role + " LOGIN PASSWORD '" + s.cluster.password + "'",
			"CREATE DATABASE " + database + " OWNER " + role + " TEMPLATE template0",
		} {
			if _, template.err = s.exec(ctx, "postgres", sql); template.err != nil {
				return
			}
		}
		template.err = prepare(ctx, template.url)
	})
	if template.err != nil {
		t.Fatal(template.err)
	}
	return s.Copy(t, template.url)
}

// Shared returns the server that all tests of this process share. It ends with the process; no
// test may stop it. Without PostgreSQL it skips the test or, if IXMAGE_REQUIRE_POSTGRES is set,
// fails it.
func Shared(t testing.TB) *Server {
	t.Helper()
	s, err := shared()
	if errors.Is(err, ErrMissing) && os.Getenv(requireVariable) == "" {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var shared = sync.OnceValues(func() (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c, err := newCluster(ctx, Options{})
	if err != nil {
		return nil, err
	}
	cmd, err := c.server()
	if err != nil {
		return nil, err
	}
	// QUIT ends it at once: its folder goes too.
	server, err := process.StartDetached("postgres", "QUIT", c.dir, cmd)
	if err != nil {
		return nil, err
	}
	s := newServer(c)
	return s, server.WaitReady(ctx, s.ready)
})
