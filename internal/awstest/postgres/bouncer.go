package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"ixmage/internal/awstest/process"
)

// ErrNoBouncer means that PgBouncer is not installed on this machine.
var ErrNoBouncer = errors.New("PgBouncer is not here: install the package pgbouncer")

// bouncer is PgBouncer in a child process.
type bouncer struct {
	addr  string
	dir   string
	child *process.Child
}

// Bouncer starts PgBouncer in front of a server for the time of the test, in pool mode transaction
// or session, and returns its host:port. All databases and roles of the server, later ones too, are
// reachable through it; see Through. Without PgBouncer it skips the test or, if
// IXMAGE_REQUIRE_POSTGRES is set, fails it.
func Bouncer(t testing.TB, s *Server, mode string) string {
	t.Helper()
	b := process.ServerOf(t, func(ctx context.Context, _ string) (*bouncer, error) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		program, err := findBouncer()
		if err != nil {
			return nil, err
		}
		return process.StartServer(ctx, func() (*bouncer, error) {
			b := &bouncer{}
			cmd, err := b.prepare(program, s, mode)
			if err == nil {
				err = b.start(ctx, cmd, s)
			}
			return b, err
		})
	}, ErrNoBouncer, requireVariable)
	return b.addr
}

// Through is the URL of a database with another host and port: of a PgBouncer or of a proxy with
// faults in front of the server.
func Through(t testing.TB, addr, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	return u.String()
}

// findBouncer also looks where a user's PATH may not.
func findBouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoBouncer
}

// config lets PgBouncer ask the server who has a role; all roles have one password.
const config = `[databases]
* = host=%s port=%s auth_user=%s

[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
pool_mode = %s
auth_type = scram-sha-256
auth_file = %s
auth_query = SELECT rolname, '%s' FROM pg_roles WHERE rolname = $1
max_client_conn = 1000
`

// prepare writes the configuration and returns the command.
func (b *bouncer) prepare(program string, s *Server, mode string) (cmd *exec.Cmd, err error) {
	if b.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	if b.dir, err = privateDir(); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(b.addr) // both addresses are our own
	serverHost, serverPort, _ := net.SplitHostPort(s.Addr)
	users := filepath.Join(b.dir, "users")
	err = errors.Join(
		write(users, fmt.Sprintf("%q %q\n", superuser, s.cluster.password)),
		write(filepath.Join(b.dir, "config"), fmt.Sprintf(config,
			serverHost, serverPort, superuser, host, port, mode, users, s.cluster.password)))
	if err != nil {
		return nil, err
	}
	return command(b.dir, program, filepath.Join(b.dir, "config"))
}

func (b *bouncer) start(ctx context.Context, cmd *exec.Cmd, s *Server) (err error) {
	if b.child, err = process.Start("pgbouncer", cmd); err != nil {
		return err
	}
	return b.child.WaitReady(ctx, func(ctx context.Context) bool {
		conn, err := pgconn.Connect(ctx, s.urlAt(b.addr, "postgres", superuser))
		return err == nil && conn.Close(ctx) == nil
	})
}

// Stop ends PgBouncer and its connections.
func (b *bouncer) Stop() error {
	var err error
	if b.child != nil {
		err = b.child.Stop()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}
