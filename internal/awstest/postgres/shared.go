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
