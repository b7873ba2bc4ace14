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
	// postgresTimeout bounds each call, of which some wait for other writers.
	postgresTimeout = 15 * time.Second
	// postgresPatience is how long a call may take before the database is asked whether it answers.
	postgresPatience = 2 * time.Second
	// postgresAnswerTime is how long it then has for the simplest of answers.
	postgresAnswerTime = 3 * time.Second
	// prepareTimeout bounds a migration, or the wait for that of another node.
	prepareTimeout = 2 * time.Minute
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
		config.ValidateConnect = writable
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
	answers := func(ctx context.Context) error { _, err := db.ExecContext(ctx, `SELECT 1`); return err }
	return &Postgres{config: config, Store: Store{reader: db, writer: db, dialect: dialect{
		goose:      goose.DialectPostgres,
		migrations: migrations,
		snapshot:   sql.LevelRepeatableRead,
		bind:       numbered,
		classify:   classifyPostgres,
		timeout:    postgresTimeout,
		answers:    answers,
		patience:   postgresPatience,
		answerTime: postgresAnswerTime,
		shared:     new(atomic.Bool),
		turn:       make(chan struct{}, 1),
	}}}, nil
}

// String names the database, without its user, password and parameters.
func (p *Postgres) String() string {
	u := url.URL{Scheme: "postgres", Path: "/" + p.config.Database}
	u.Host = net.JoinHostPort(p.config.Host, strconv.Itoa(int(p.config.Port)))
	return u.String()
}

var errEscape = errors.New("a character in its role, its password or its database must be escaped: " +
	"write % as %25, @ as %40, / as %2F, ? as %3F, # as %23 and a space as %20, " +
	"or give the password in PGPASSWORD or PGPASSFILE")

// parseURL parses a URL. Its errors do not quote the URL: in one that is malformed, it is
// unknown where the password ends.
func parseURL(text string) (*pgx.ConnConfig, error) {
	const form = "postgres://ROLE@HOST:PORT/DATABASE?sslmode=verify-full"
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New("it must be " + form)
	}
	user, server, found := strings.Cut(rest, "@")
	server, _, _ = strings.Cut(server, "?")
	if found && (strings.ContainsAny(user, "/?#") || strings.ContainsAny(server, "@#")) {
		return nil, errEscape
	}
	config, err := pgx.ParseConfig(text)
	if err != nil {
		cause := err.Error()
		cause = cause[strings.LastIndex(cause, "`: ")+len("`: "):]
		if strings.HasPrefix(cause, "failed to parse as URL") { // it quotes a part
			return nil, errEscape
		}
		return nil, fmt.Errorf("it must be %s: %s", form, cause)
	}
	return config, nil
}

// writable refuses a server that accepts no writes.
func writable(ctx context.Context, conn *pgconn.PgConn) error {
	if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
		return fmt.Errorf("the database must accept writes; a standby does not: %w", err)
	}
	return nil
}

// Prepare migrates the schema to the version of this program. It refuses a database with a
// newer version. Processes that call it at the same time wait for one another.
func (p *Postgres) Prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareTimeout, ErrSilent)
	defer cancel()
	if err := p.ping(ctx); err != nil { // a database that hangs is found before the longer wait
		return fmt.Errorf("connect: %w", err)
	}
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		if done, err := p.prepare(ctx); done || err != nil {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: another node migrates it: %w", alias.ErrUnavailable, ctx.Err())
		}
	}
}

// prepare migrates unless another process does. It does not wait for the lock, because those who
// wait would take all connections of a pool between, and the one that migrates needs a second. The
// lock is of a transaction, because such a pool may not keep a session.
func (p *Postgres) prepare(ctx context.Context) (done bool, err error) {
	const migrationLock = 0x69786d616765 // "ixmage"
	tx, err := p.writer.BeginTx(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("connect: %w", classifyPostgres(err))
	}
	defer tx.Rollback() //nolint:errcheck // it only holds the lock
	row := tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1)`, int64(migrationLock))
	if err := row.Scan(&done); err != nil {
		return false, fmt.Errorf("lock the schema: %w", classifyPostgres(err))
	}
	if !done {
		return false, nil
	}
	if err := p.migrate(ctx); err != nil {
		return false, err
	}
	p.dialect.shared.Store(true)
	return true, nil
}

func (p *Postgres) ping(ctx context.Context) error {
	ctx, cancel := p.dialect.bound(ctx)
	defer cancel()
	_, err := p.writer.ExecContext(ctx, `SELECT 1`)
	return p.dialect.failed(ctx, err)
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
	begin, cancel := context.WithTimeout(ctx, connectTimeout)
	_, err = conn.Exec(begin, `LISTEN `+channel)
	cancel()
	if err != nil {
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
	err = lineError{err}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return unreachable(err)
	}
	if say, ok := remedies[e.Code]; ok {
		return fmt.Errorf("%w: %s: %w", alias.ErrUnavailable, say, err)
	}
	switch e.Code {
	case "23505":
		return errUnique
	case "23503":
		return errForeign
	case "40001", "40P01":
		return fmt.Errorf("%w: %w", errRepeat, err)
	}
	switch e.Code[:min(2, len(e.Code))] { // what answers may not be PostgreSQL
	case "08", "28", "3D", "53", "57", "58": // connections, passwords, databases, resources, operators, system errors
		return fmt.Errorf("%w: %w", alias.ErrUnavailable, err)
	}
	return err
}

// unreachable is an error of the connection, or of the way to it.
func unreachable(err error) error {
	if strings.Contains(err.Error(), "server refused TLS connection") { // pgx has no value for it
		return fmt.Errorf("%w: the server has no TLS, which sslmode in its URL demands; turn on ssl in PostgreSQL, "+
			"or, in a network that you trust, set sslmode=disable: %w", alias.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", alias.ErrUnavailable, err)
}

// remedies say what to do about an error that an operator can end.
var remedies = map[string]string{
	"25006": "it is read-only, such as a standby; name one that accepts writes",
	"25P03": "the transaction was paused for too long",
	"28000": "it does not accept this connection; if it wants TLS, set sslmode=verify-full in its URL",
	"28P01": "the role or its password is wrong; give them in its URL, or the password in PGPASSWORD or PGPASSFILE",
	"3D000": "there is no such database; create it first",
	"42501": "the role lacks a right; connect as the owner of the database, or grant it CREATE on the schema " +
		"and all rights to its tables and sequences",
	"53300": "it has no free connection; raise its limit, or that of the role",
	"55P03": "another node holds the lock of the registry",
}

// lineError says an error in one line: pgx has a line for each address that it has tried, even if it
// has tried it twice.
type lineError struct{ error }

func (e lineError) Error() string {
	head, rest, found := strings.Cut(e.error.Error(), "\n")
	if !found {
		return head
	}
	lines := strings.Split(rest, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return head + " " + strings.Join(slices.Compact(lines), "; ")
}

func (e lineError) Unwrap() error { return e.error }
