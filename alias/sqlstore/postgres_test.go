package sqlstore

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/storetest"
	"ixmage/internal/awstest/postgres"
)

// openPostgres opens a store that ends with the test, and prepares it.
func openPostgres(t *testing.T, url string) *Postgres {
	t.Helper()
	p := newPostgres(t, url)
	if err := p.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// newPostgres opens a store that ends with the test. It gives a database on a busy machine more time
// than the program does.
func newPostgres(t *testing.T, text string) *Postgres {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if query := u.Query(); !query.Has("connect_timeout") {
		query.Set("connect_timeout", "60")
		u.RawQuery = query.Encode()
	}
	p, err := NewPostgres(u.String())
	if err != nil {
		t.Fatal(err)
	}
	p.dialect.timeout, p.dialect.answerTime = time.Minute, time.Minute
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return p
}

// TestPostgresLimits: a writer that waits for a paused one outlasts it, and learns so from the database, and a
// database that does not answer is found, before the limit of a call.
func TestPostgresLimits(t *testing.T) {
	t.Parallel()
	if idleInTransaction >= lockWait || lockWait >= postgresTimeout || postgresPatience+postgresAnswerTime >= lockWait {
		t.Errorf("the limits are %v, %v, %v, and %v with %v",
			idleInTransaction, lockWait, postgresTimeout, postgresPatience, postgresAnswerTime)
	}
}

// migrated is a database with the whole schema. Nobody is connected to it.
func migrated(t *testing.T) string {
	t.Helper()
	return postgres.Prepared(t, func(ctx context.Context, url string) error {
		p, err := NewPostgres(url)
		if err != nil {
			return err
		}
		return errors.Join(p.Prepare(ctx), p.Close())
	})
}

func TestPostgresConforms(t *testing.T) {
	t.Parallel()
	server, template := postgres.Shared(t), migrated(t)
	storetest.Test(t, func(t *testing.T) alias.Store {
		return openPostgres(t, server.Copy(t, template))
	})
}

// TestPgBouncerConforms: in pool mode transaction each transaction may get another session.
func TestPgBouncerConforms(t *testing.T) {
	t.Parallel()
	server, template := postgres.Shared(t), migrated(t)
	bouncer := postgres.Bouncer(t, server, "transaction")
	storetest.Test(t, func(t *testing.T) alias.Store {
		return openPostgres(t, postgres.Through(t, bouncer, server.Copy(t, template)))
	})
}
