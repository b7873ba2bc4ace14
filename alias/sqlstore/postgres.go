package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"ixmage/alias"
)

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

const (
	// postgresConns bounds the connections of a node, beside the one that listens.
	postgresConns = 6
	// postgresTimeout bounds each call.
	postgresTimeout = 15 * time.Second
	// connectTimeout is used if the URL has none.
	connectTimeout = 5 * time.Second
)

// Postgres is a Store that many nodes share. Until Prepare has returned nil, its other methods
// return alias.ErrUnavailable.
type Postgres struct {
	Store

	config *pgx.ConnConfig
}

// ValidateURL checks the form of the URL of NewPostgres. The error does not have the password.
func ValidateURL(text string) error {
	_, err := parseURL(text)
	return err
}

// parseURL returns errors without the password. That of an invalid URL has none of its text:
// what is the password in it depends on where it is wrong.
func parseURL(text string) (*pgx.ConnConfig, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is not a valid URL; in the password, write special characters like %40 for @ and %2F for /")
	}
	config, err := pgx.ParseConfig(text)
	if err == nil {
		return config, nil
	}
	password, _ := u.User.Password()
	for _, secret := range append(slices.Concat(u.Query()["password"], u.Query()["sslpassword"]), password) {
		if secret != "" && strings.Contains(err.Error(), secret) {
			return nil, errors.New("its host or its parameters are not valid")
		}
	}
	return nil, err
}

// NewPostgres makes a store from a URL, postgres://…, whose parameters are those of libpq. It
// does not connect. The error does not have the password.
func NewPostgres(text string) (*Postgres, error) {
	config, err := parseURL(text)
	if err != nil {
		return nil, fmt.Errorf("the URL of the database: %w", err)
	}
	// Pools between, such as PgBouncer, may give every transaction another session, so nothing
	// may depend on one.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.DescriptionCacheCapacity, config.StatementCacheCapacity = 0, 0
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "ixmage"
	}
	if config.ValidateConnect == nil { // a URL may name many servers
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	config.DialFunc = dialer.DialContext
	migrations, err := fs.Sub(postgresMigrations, "migrations/postgres")
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Postgres{config: config, Store: Store{reader: db, writer: db, dialect: dialect{
		goose:      goose.DialectPostgres,
		migrations: migrations,
		snapshot:   sql.LevelRepeatableRead,
		bind:       numbered,
		classify:   classifyPostgres,
		timeout:    postgresTimeout,
		shared:     new(atomic.Bool),
	}}}, nil
}

// String names the database, without its user, password and parameters.
func (p *Postgres) String() string {
	u := url.URL{Scheme: "postgres", Path: "/" + p.config.Database}
	u.Host = net.JoinHostPort(p.config.Host, strconv.Itoa(int(p.config.Port)))
	return u.String()
}

// Prepare migrates the schema to the version of this program. It refuses a database with a
// newer version. Processes that call it at the same time wait for one another.
func (p *Postgres) Prepare(ctx context.Context) error {
	// The lock is of a transaction, because a pool between may not keep a session.
	const migrationLock = 0x69786d616765 // "ixmage"
	tx, err := p.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("connect: %w", classifyPostgres(err))
	}
	defer tx.Rollback() //nolint:errcheck // it only holds the lock
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
		return fmt.Errorf("wait for the migration of another node: %w", classifyPostgres(err))
	}
	if err := p.migrate(ctx); err != nil {
		return err
	}
	p.dialect.shared.Store(true)
	return nil
}

// Prepared reports whether Prepare has returned nil.
func (p *Postgres) Prepared() bool { return p.dialect.shared.Load() }

// Listen calls wake when it is connected and after each notification.
func (p *Postgres) Listen(ctx context.Context, wake func(what string)) error {
	conn, err := pgx.ConnectConfig(ctx, p.config)
	if err != nil {
		return fmt.Errorf("connect: %w", classifyPostgres(err))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return fmt.Errorf("listen: %w", classifyPostgres(err))
	}
	for what := alias.WakeLog; ; {
		wake(what)
		if what, err = waitNotification(ctx, conn); err != nil {
			return err
		}
	}
}

// pingEvery is how long Listen waits before it tries whether its connection still works: a
// network that was cut does not tell.
const pingEvery = 30 * time.Second

// waitNotification returns the next notification.
func waitNotification(ctx context.Context, conn *pgx.Conn) (string, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, pingEvery)
		got, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			return got.Payload, nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case !pgconn.Timeout(err):
			return "", fmt.Errorf("listen: %w", classifyPostgres(err))
		}
		ping, cancel := context.WithTimeout(ctx, connectTimeout)
		err = conn.Ping(ping)
		cancel()
		if err != nil {
			return "", fmt.Errorf("listen: %w", classifyPostgres(err))
		}
	}
}

// numbered replaces the question marks of a query with $1, $2 and so on. No query has one in a
// text.
func numbered(query string) string {
	parts := strings.Split(query, "?")
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	return b.String()
}

// classifyPostgres uses codes, because texts are not a contract.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func classifyPostgres(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrNoRows) {
		return err
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("%w: %w", alias.ErrUnavailable, err) // the connection, or the way to it
	}
	switch e.Code {
	case "23505":
		return errUnique
	case "23503":
		return errForeign
	case "40001", "40P01":
		return fmt.Errorf("%w: %w", errRepeat, err)
	case "25P03":
		return fmt.Errorf("%w: the transaction was paused for too long: %w", alias.ErrUnavailable, err)
	case "25006":
		return fmt.Errorf("%w: it is read-only, such as a standby: %w", alias.ErrUnavailable, err)
	case "55P03":
		return fmt.Errorf("%w: another node holds the lock of the registry: %w", alias.ErrUnavailable, err)
	}
	switch e.Code[:2] {
	case "08", "28", "3D", "53", "57", "58": // connections, passwords, databases, resources, operators, system errors
		return fmt.Errorf("%w: %w", alias.ErrUnavailable, err)
	}
	return err
}
