package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"ixmage/alias"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/postgres"
)

// insert stores a credential.
func insert(t *testing.T, s alias.Store, id int64) error {
	t.Helper()
	return s.Update(t.Context(), func(tx alias.Tx) error {
		return tx.InsertCredential(someCredential(id, alias.Name(fmt.Sprint("c", id))))
	})
}

// TestPrepareRace: processes that migrate one empty database at once all succeed, also through a
// pool with fewer connections than they would hold if they waited for one another in it.
func TestPrepareRace(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	for name, through := range map[string]func(string) string{
		"direct":    func(url string) string { return url },
		"PgBouncer": func(url string) string { return postgres.Through(t, postgres.Bouncer(t, server, "transaction"), url) },
	} {
		t.Run(name, func(t *testing.T) {
			url := server.Database(t)
			stores := make([]*Postgres, 24)
			for i := range stores {
				stores[i] = newPostgres(t, through(url))
			}
			var running sync.WaitGroup
			for _, s := range stores {
				running.Go(func() {
					if err := s.Prepare(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
			got := server.Exec(t, postgres.Name(t, url), `SELECT count(*), max(version_id) FROM goose_db_version WHERE version_id > 0`)
			if got[0][0] != got[0][1] {
				t.Errorf("got %s migrations up to version %s", got[0][0], got[0][1])
			}
			if err := insert(t, stores[0], 1); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCommitCut cuts the connection of a write at every byte of the answers to it. The caller may
// not know whether the write is there; then it is there or not, and a second try says which.
func TestCommitCut(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	url := migrated(t)
	proxy := netfault.New(t, server.Addr)
	s, direct := openPostgres(t, postgres.Through(t, proxy.Addr, url)), openPostgres(t, url)
	outcomes := map[string]int{}
	for id, bytes := int64(1), int64(0); ; id, bytes = id+1, bytes+5 {
		err := s.Update(t.Context(), func(tx alias.Tx) error {
			if err := tx.InsertCredential(someCredential(id, alias.Name(fmt.Sprint("c", id)))); err != nil {
				return err
			}
			return proxy.Set(netfault.CutRST(bytes))
		})
		if err := proxy.Set(netfault.Pass()); err != nil {
			t.Fatal(err)
		}
		_, readErr := direct.Credential(t.Context(), alias.Name(fmt.Sprint("c", id)))
		there := readErr == nil
		if !there && !errors.Is(readErr, alias.ErrNotFound) {
			t.Fatal(readErr)
		}
		if err == nil {
			if !there {
				t.Errorf("cut after %d bytes: an acknowledged write is lost", bytes)
			}
			break
		}
		if !errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("cut after %d bytes: got %v, want %v", bytes, err, alias.ErrUnavailable)
		}
		again := insert(t, s, id)
		if there && !errors.Is(again, alias.ErrExists) || !there && again != nil {
			t.Errorf("cut after %d bytes: the write is there: %v; tried again: %v", bytes, there, again)
		}
		outcomes[fmt.Sprint("there: ", there)]++
	}
	if len(outcomes) != 2 {
		t.Errorf("outcomes %v: want some writes there and some not", outcomes)
	}
}

// TestCommitSilent: a server that does not answer is given up.
func TestCommitSilent(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	url := migrated(t)
	proxy := netfault.New(t, server.Addr)
	s := openPostgres(t, postgres.Through(t, proxy.Addr, url))
	s.dialect.timeout = time.Second
	err := s.Update(t.Context(), func(tx alias.Tx) error {
		if err := tx.SetMeta("key", nil); err != nil {
			return err
		}
		return proxy.Set(netfault.Hang())
	})
	if !errors.Is(err, alias.ErrUnavailable) || !errors.Is(err, ErrSilent) {
		t.Errorf("got %v, want %v", err, alias.ErrUnavailable)
	}
	if err := proxy.Set(netfault.Pass()); err != nil {
		t.Fatal(err)
	}
	s.dialect.timeout = time.Minute // the lost transaction may hold the lock for some seconds
	if err := insert(t, s, 1); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSilentServer: a server that stops to answer is given up before the limit of a call, whatever it
// waits for.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	url := migrated(t)
	proxy := netfault.New(t, server.Addr)
	s := openPostgres(t, postgres.Through(t, proxy.Addr, url))
	s.dialect.timeout, s.dialect.patience, s.dialect.answerTime = time.Hour, 100*time.Millisecond, 100*time.Millisecond
	if err := proxy.Set(netfault.Hang()); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"write": func() error { return insert(t, s, 1) },
		"read":  func() error { _, err := s.Meta(t.Context(), "key"); return err },
	} {
		if err := call(); !errors.Is(err, alias.ErrUnavailable) || !errors.Is(err, ErrSilent) {
			t.Errorf("%s: got %v, want %v", name, err, ErrSilent)
		}
	}
}

// TestRestartedServer: the connections of a pool end with the server, and the next call makes new
// ones.
func TestRestartedServer(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t, postgres.Options{})
	s := openPostgres(t, server.Database(t))
	for id, end := range []func(){func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}, server.Kill} {
		if err := insert(t, s, int64(id+1)); err != nil {
			t.Fatal(err)
		}
		end()
		if err := insert(t, s, 9); !errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, alias.ErrUnavailable)
		}
		if _, err := s.Credential(t.Context(), "c1"); !errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, alias.ErrUnavailable)
		}
		server.Restart(t)
		if list, err := s.Credentials(t.Context(), "", 9); err != nil || len(list) != id+1 {
			t.Errorf("got %d credentials, %v", len(list), err)
		}
	}
}

// TestUnnoticedEnd: connections that broke while nobody used them do not fail the next call.
func TestUnnoticedEnd(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	url := migrated(t)
	s := openPostgres(t, url)
	for id := range int64(3) {
		if err := insert(t, s, id+1); err != nil {
			t.Fatal(err)
		}
		server.Exec(t, "postgres", `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
			WHERE datname = '`+postgres.Name(t, url)+`'`)
	}
	if list, err := s.Credentials(t.Context(), "", 9); err != nil || len(list) != 3 {
		t.Errorf("got %d credentials, %v", len(list), err)
	}
}

// TestPausedWriter: a process that is paused while it holds the lock of the registry is cut by the
// database, before those that wait give up.
func TestPausedWriter(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	paused, other := openPostgres(t, url), openPostgres(t, url)
	locked, resume, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- paused.Update(t.Context(), func(tx alias.Tx) error {
			close(locked)
			<-resume
			return tx.InsertCredential(someCredential(1, "c1"))
		})
	}()
	select {
	case <-locked:
	case err := <-done:
		t.Fatal(err)
	}
	if _, err := other.Credentials(t.Context(), "", 9); err != nil {
		t.Errorf("reading meanwhile: %v", err)
	}
	if err := insert(t, other, 2); err != nil {
		t.Errorf("a writer that waited: %v", err)
	}
	close(resume)
	if err := <-done; !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("the paused writer: got %v, want %v", err, alias.ErrUnavailable)
	}
	if list, err := other.Credentials(t.Context(), "", 9); err != nil || len(list) != 1 || list[0].Name != "c2" {
		t.Errorf("got %d credentials, %v, want that of the writer that waited", len(list), err)
	}
	if err := insert(t, paused, 1); err != nil {
		t.Errorf("the paused writer afterwards: %v", err)
	}
}

// TestForeignLock: a lock that the database does not end, such as that of an administrator's open
// transaction, makes writers give up, and not readers.
func TestForeignLock(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	s := openPostgres(t, url)
	conn, err := pgconn.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test is over
	if _, err := conn.Exec(t.Context(), `BEGIN; SELECT revision FROM registry_head FOR UPDATE`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	err = insert(t, s, 1)
	checkError(t, err, password(t, url), "another node holds the lock")
	if !errors.Is(err, alias.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, alias.ErrUnavailable)
	}
	if _, err := s.Credentials(t.Context(), "", 9); err != nil {
		t.Errorf("reading meanwhile: %v", err)
	}
	if _, err := conn.Exec(t.Context(), `ROLLBACK`).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := insert(t, s, 1); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
