package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect opens a connection that ends with the test.
func connect(t *testing.T, url string) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone
	return conn
}

// value runs statements and returns the first value of the last.
func value(t *testing.T, conn *pgconn.PgConn, sql string) string {
	t.Helper()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return string(results[len(results)-1].Rows[0][0])
}

// code is the SQLSTATE of an error of the server, "" for another error.
func code(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// TestDatabase: each call makes an empty database, whose role owns it and is no superuser.
func TestDatabase(t *testing.T) {
	t.Parallel()
	first, second := postgres.Database(t), postgres.Database(t)
	for _, url := range []string{first, second} {
		conn := connect(t, url)
		if got := value(t, conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
			t.Errorf("a fresh database has %s tables", got)
		}
		if got := value(t, conn, "SELECT usesuper FROM pg_user WHERE usename = current_user"); got != "f" {
			t.Errorf("usesuper is %s", got)
		}
		value(t, conn, "CREATE TABLE a (b int); INSERT INTO a VALUES (1) RETURNING b")
	}
}

// TestCopy: a copy has the content and the owner of its template.
func TestCopy(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	template := server.Database(t)
	conn := connect(t, template)
	value(t, conn, "CREATE TABLE a (b int); INSERT INTO a VALUES (7) RETURNING b")
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := value(t, connect(t, server.Copy(t, template)), "UPDATE a SET b = b + 1 RETURNING b"); got != "8" {
		t.Errorf("the copy has %s, want 8", got)
	}
}

// TestRefused: a wrong password, an unknown role and an unknown database are refused.
func TestRefused(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	role := server.Role(t)
	for _, tt := range []struct {
		name, url, want string
	}{
		{"password", strings.Replace(server.URL("postgres", role), role+":", role+":x", 1), "28P01"},
		{"role", server.URL("postgres", "nobody"), "28P01"},
		{"database", server.URL("none", role), "3D000"},
		{"right to create", "", "42501"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.url == "" {
				_, err := connect(t, server.URL("postgres", role)).Exec(t.Context(), "CREATE TABLE a ()").ReadAll()
				if got := code(err); got != tt.want {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				return
			}
			if _, err := pgconn.Connect(t.Context(), tt.url); code(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestRestart: a stopped and a killed server refuse connections, and keep their data and address.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	database := server.Database(t)
	name := postgres.Name(t, database)
	server.Exec(t, name, "CREATE TABLE a (b int)")
	for i, end := range []func(){
		func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		},
		server.Kill,
	} {
		conn := connect(t, database)
		server.Exec(t, name, "INSERT INTO a VALUES (1)")
		end()
		if _, err := conn.Exec(t.Context(), "SELECT 1").ReadAll(); err == nil {
			t.Error("a connection outlived its server")
		}
		if _, err := pgconn.Connect(t.Context(), database); err == nil {
			t.Error("a server that has ended accepts connections")
		}
		server.Restart(t)
		if got := server.Exec(t, name, "SELECT count(*) FROM a")[0][0]; got != []string{"1", "2"}[i] {
			t.Errorf("end %d: %s rows", i, got)
		}
	}
}

// TestPause: a paused server is silent on open and new connections, and goes on where it was.
func TestPause(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	database := server.Database(t)
	conn := connect(t, database)
	server.Pause()
	answer := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 1").ReadAll()
		answer <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pgconn.Connect(ctx, database); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("new connection: got %v, want silence", err)
	}
	select {
	case err := <-answer:
		t.Errorf("a paused server answered (%v)", err)
	default:
	}
	server.Resume()
	if err := <-answer; err != nil {
		t.Error(err)
	}
	server.Pause() // the test ends a paused server too
}

// TestBackup: a restored server has the data of the copy and not what came after.
func TestBackup(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	name := postgres.Name(t, server.Database(t))
	stop := func() {
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	server.Exec(t, name, "CREATE TABLE a (b int); INSERT INTO a VALUES (1)")
	stop()
	backup := server.Backup(t)
	server.Restart(t)
	server.Exec(t, name, "INSERT INTO a VALUES (2)")
	stop()
	server.Restore(t, backup)
	server.Restart(t)
	if got := server.Exec(t, name, "SELECT b FROM a"); len(got) != 1 || got[0][0] != "1" {
		t.Errorf("got rows %v, want that of the backup", got)
	}
}

// TestTLS: a server that requires TLS refuses a connection without.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{TLS: true})
	database := server.Database(t)
	if got := value(t, connect(t, database), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "t" {
		t.Errorf("ssl is %s", got)
	}
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "sslmode=disable"
	if _, err := pgconn.Connect(t.Context(), u.String()); code(err) != "28000" {
		t.Errorf("without TLS: got %v, want 28000", err)
	}
}

// TestThrough: a proxy with faults may stand in front of the server.
func TestThrough(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	proxy := netfault.New(t, server.Addr)
	through := postgres.Through(t, proxy.Addr, server.Database(t))
	conn := connect(t, through)
	if got := value(t, conn, "SELECT 1"); got != "1" {
		t.Errorf("got %s", got)
	}
	if err := proxy.Set(netfault.Refuse()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1").ReadAll(); err == nil {
		t.Error("the proxy did not cut the connection")
	}
}

// TestBouncer: in mode transaction the state of a session is lost, in mode session it is kept; a
// wrong password is refused in both.
func TestBouncer(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	database := server.Database(t)
	for mode, want := range map[string]bool{"transaction": false, "session": true} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			through := postgres.Through(t, postgres.Bouncer(t, server, mode), database)
			first, second := connect(t, through), connect(t, through)
			pids := []string{}
			for _, conn := range []*pgconn.PgConn{first, second} {
				pids = append(pids, value(t, conn, "SELECT pg_backend_pid()"))
			}
			if kept := pids[0] != pids[1]; kept != want {
				t.Errorf("two clients have the server processes %v", pids)
			}
			u, _ := url.Parse(through)
			wrong := strings.Replace(through, u.User.String(), u.User.Username()+":wrong", 1)
			if _, err := pgconn.Connect(t.Context(), wrong); code(err) == "" {
				t.Errorf("wrong password: got %v", err)
			}
		})
	}
}

// TestSharedEnds: the shared server and its folder go with the process that started it, however
// that ends.
func TestSharedEnds(t *testing.T) {
	if dir := os.Getenv("IXMAGE_TEST_SHARED"); dir != "" {
		url := postgres.Database(t)
		if err := os.WriteFile(filepath.Join(dir, "url"), []byte(url), 0o600); err != nil {
			t.Fatal(err)
		}
		select {} // until it is killed
	}
	t.Parallel()
	postgres.Shared(t) // or skip
	dir, tmp := t.TempDir(), sharedTemp(t)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestSharedEnds$")
	cmd.Env = append(os.Environ(), "IXMAGE_TEST_SHARED="+dir, "TMPDIR="+tmp)
	child, err := process.Start("the other process", cmd)
	if err != nil {
		t.Fatal(err)
	}
	var database []byte
	wait(t, func() bool {
		database, _ = os.ReadFile(filepath.Join(dir, "url")) // not written yet
		return len(database) > 0
	})
	child.Kill()
	wait(t, func() bool {
		left, err := os.ReadDir(tmp)
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "ixmage-postgres-") })
	})
	if _, err := pgconn.Connect(t.Context(), string(database)); err == nil {
		t.Error("the server outlived its process")
	}
}

// sharedTemp is a folder for temporary files that every user may enter.
func sharedTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ixmage-test-") //nolint:usetesting // other users may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the other process may write to it after a failure
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wait polls until is returns true.
func wait(t *testing.T, is func() bool) {
	t.Helper()
	for tick := time.Tick(10 * time.Millisecond); !is(); {
		select {
		case <-tick:
		case <-t.Context().Done():
			t.Fatal("the test ended first")
		}
	}
}

// TestMissing: a machine without PostgreSQL gets an error that says what to do.
func TestMissing(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{postgres.ErrMissing: "package postgresql", postgres.ErrNoBouncer: "package pgbouncer"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
}
