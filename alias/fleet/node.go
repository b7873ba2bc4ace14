// Package fleet makes a process one of the nodes that share a registry in PostgreSQL. A node
// follows the log of the registry, keeps a replica of it on its disk, tells the others how far
// it has followed, and takes leases for what only one of them may do. Nothing of this is
// needed to serve pictures.
package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
	"ixmage/internal/durable"
)

// Config configures a Node. Zero durations mean the defaults.
type Config struct {
	URL     string // of the database
	Dir     string // the data folder
	Name    string // of the node
	Version string // of the program

	Every time.Duration // between two beats; 5 s
	TTL   time.Duration // of leases, and of a node's being live; 15 s
	// Grace is how long a silent node holds up what waits for every node; 24 h.
	Grace time.Duration

	Log *slog.Logger // nil discards
}

func (c *Config) fill() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Every = cmp.Or(c.Every, 5*time.Second)
	c.TTL = cmp.Or(c.TTL, 15*time.Second)
	c.Grace = cmp.Or(c.Grace, 24*time.Hour)
}

// Node is this process in the fleet. All methods are safe for concurrent use.
type Node struct {
	cfg      Config
	id       string // of the data folder
	process  string // of this start
	db       *sqlstore.Postgres
	replica  *replica
	registry *alias.Registry                                // set by Start
	verify   func(ctx context.Context, s alias.Store) error // likewise
	verified bool                                           // only join and followOnce use it

	woken chan struct{} // holds one token: the log has grown
	stop  context.CancelFunc
	tasks sync.WaitGroup

	beating chan struct{} // holds a token during a beat: one at a time, so that the newest reply is kept

	mu       sync.Mutex // guards the fields below
	reply    *alias.BeatReply
	offset   time.Duration // the clock of the database minus that of this machine
	contact  time.Time     // the registry has every change from before it
	trouble  error         // of the last attempt; nil if it succeeded
	held     map[string]*Held
	uses     map[int64]time.Time // of previous keys, by the database's clock
	reported chan struct{}       // closed and replaced when nodes report positions
	told     alias.Position      // that the database knows of this node
}

// Open makes the node and connects. If the database is away, and the node has a replica, it
// goes on without: Stale tells. The caller calls Close.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg.fill()
	db, err := sqlstore.NewPostgres(cfg.URL)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, process: rand.Text(), db: db, woken: make(chan struct{}, 1), stop: func() {},
		held: map[string]*Held{}, uses: map[int64]time.Time{}, reported: make(chan struct{}),
		reply: &alias.BeatReply{}, beating: make(chan struct{}, 1),
	}
	if n.id, err = nodeID(cfg.Dir); err == nil {
		n.replica = openReplica(ctx, filepath.Join(cfg.Dir, replicaName), cfg.Log)
		n.replica.node = n
		err = n.first(ctx)
	}
	if err != nil {
		n.replica.close()
		return nil, errors.Join(err, db.Close())
	}
	return n, nil
}

// replicaName is the name of the replica in the data folder.
const replicaName = "replica.db"

// Used reports whether a node of a fleet has used a data folder.
func Used(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, replicaName))
	return err == nil
}

// nodeID returns the id of a data folder, which it makes once.
func nodeID(dir string) (string, error) {
	path := filepath.Join(dir, "node-id")
	b, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(b)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the id of this node: %w", err)
	}
	id := rand.Text()
	if err := durable.Create(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("store the id of this node: %w", err)
	}
	return id, nil
}

// first connects to the database, or finds the replica good enough to begin with.
func (n *Node) first(ctx context.Context) error {
	n.contact = time.Now()
	err := n.join(ctx)
	if err == nil || !errors.Is(err, alias.ErrUnavailable) {
		return err
	}
	state := n.replica.state
	if state.Position == (alias.Position{}) {
		return fmt.Errorf("%w; this node has no replica of the registry to begin with", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	// The clock of the database is not known, but how far off this one was.
	n.trouble, n.offset = err, state.ClockOffset
	n.contact = time.Now().Add(-max(0, time.Now().Add(n.offset).Sub(state.At)))
	n.cfg.Log.Error("the database of the registry is away: this node serves its replica and refuses changes "+
		"until it answers", "revision", state.Position.Revision, "as_of", state.At, "error", err)
	return nil
}

// join prepares the database and makes the node known in it, before the node reads the registry:
// from then on whatever waits for every node waits for this one. The name of a live node is
// refused; one that was killed leaves a row that seems to live for a while.
func (n *Node) join(ctx context.Context) error {
	if !n.db.Prepared() {
		if err := n.db.Prepare(ctx); err != nil {
			return err
		}
	}
	if n.unverified() { // before others see this node, and wait for it
		if err := n.verify(ctx, n.db); err != nil {
			return err
		}
		n.verified = true
	}
	deadline := time.Now().Add(n.cfg.TTL + n.cfg.Every)
	var seen time.Time
	for {
		err := n.beat(ctx)
		if !errors.Is(err, alias.ErrExists) {
			return err
		}
		row, rowErr := n.row(ctx)
		if rowErr != nil {
			return rowErr
		}
		if !seen.IsZero() && !row.SeenAt.Equal(seen) || time.Now().After(deadline) {
			return n.nameTaken()
		}
		seen = row.SeenAt
		if err := sleep(ctx, n.cfg.Every/5); err != nil {
			return err
		}
	}
}

// row reads the row with the name of this node.
func (n *Node) row(ctx context.Context) (*alias.Node, error) {
	nodes, err := n.db.Nodes(ctx, n.cfg.TTL)
	if err != nil {
		return nil, err
	}
	for _, row := range nodes {
		if row.Name == n.cfg.Name {
			return row, nil
		}
	}
	return &alias.Node{}, nil
}

// Start follows the log for a registry that was opened with Store and Replica, and returns when
// the registry has all changes, or at once if the database is away. verify is called with the
// database before the node joins it, and before it follows another history: a database of another
// fleet may have come into the place of the own one. Its error keeps the node apart.
func (n *Node) Start(ctx context.Context, r *alias.Registry, verify func(context.Context, alias.Store) error) error {
	n.registry, n.verify = r, verify
	n.replica.copyRestSoon() // some settings were made after the registry was opened
	if !n.away() {
		err := n.follow(ctx)
		if err != nil && !errors.Is(err, alias.ErrUnavailable) {
			return err
		}
	}
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx)) // it ends with Close: the node serves while it drains
	n.tasks.Go(func() { n.run(ctx) })
	n.tasks.Go(func() { n.listen(ctx) })
	n.tasks.Go(func() { n.keepReplica(ctx) })
	n.tasks.Go(func() { n.keepHouse(ctx) })
	return nil
}

// Close ends following, gives up all leases and makes the node unknown, so that nothing waits
// for it. The registry must not be written any more.
func (n *Node) Close(ctx context.Context) {
	n.stop()
	n.tasks.Wait()
	n.leave(ctx)
	n.replica.close()
	n.db.Close()
}

// leave deletes the row of this process, also after a start that failed half-way.
func (n *Node) leave(ctx context.Context) {
	n.mu.Lock()
	trouble := n.trouble
	n.mu.Unlock()
	if !n.joined() || errors.Is(trouble, alias.ErrUnavailable) {
		return
	}
	err := n.db.RemoveNode(ctx, n.cfg.Name, n.process, n.cfg.TTL)
	if err != nil && !errors.Is(err, alias.ErrNotFound) && !errors.Is(err, alias.ErrInUse) {
		n.cfg.Log.Warn("this node is not removed from the registry; see ixmage node rm", "node", n.cfg.Name, "error", err)
	}
}

// retryEvery is the interval between attempts while the database is away.
const retryEvery = time.Second

// run follows the log until ctx ends.
func (n *Node) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := n.cfg.Every
		if err := n.follow(ctx); err != nil && ctx.Err() == nil {
			wait = min(wait, retryEvery)
		}
		timer := time.NewTimer(wait)
		select {
		case <-n.woken:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// follow joins the database if necessary, beats, and applies what the registry lacks; then it
// reports the new position at once, because others wait for it.
func (n *Node) follow(ctx context.Context) error {
	began := time.Now()
	err := n.followOnce(ctx)
	if ctx.Err() != nil { // an attempt that Close has ended says nothing of the database
		return err
	}
	n.note(err, began)
	return err
}

// note keeps the result of an attempt to follow the database that began at a time.
func (n *Node) note(err error, began time.Time) {
	n.mu.Lock()
	was := n.trouble
	n.trouble = err
	if err == nil { // an answer of a database that is not followed makes nothing newer
		n.contact = began
	}
	n.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		n.cfg.Log.Error("the registry cannot be followed: this node serves what it has and refuses changes",
			"revision", n.registry.Position().Revision, "error", err)
	case err == nil && was != nil:
		n.cfg.Log.Info("the registry is followed again", "revision", n.registry.Position().Revision)
	}
}

// heard is told the result of a call of the database. If that does not answer, the node is known to
// be cut off before its next beat, so that no further call waits.
func (n *Node) heard(err error) {
	if n.registry == nil || !errors.Is(err, sqlstore.ErrSilent) {
		return
	}
	n.mu.Lock()
	known := n.trouble != nil
	n.mu.Unlock()
	if !known {
		n.note(err, time.Time{})
		n.wake(alias.WakeLog)
	}
}

func (n *Node) followOnce(ctx context.Context) error {
	if err := n.beatOrJoin(ctx); err != nil {
		return err
	}
	stop := n.keepBeating(ctx)
	defer stop()
	if n.Head() != n.registry.Position() {
		if err := n.registry.Sync(ctx); err != nil {
			// No further beat in the database of another fleet.
			n.verified = n.verified && !errors.Is(err, errOther)
			return err
		}
	}
	if n.registry.Position() == n.toldPosition() {
		return nil
	}
	return n.beat(ctx)
}

// beatOrJoin is the first part of followOnce.
func (n *Node) beatOrJoin(ctx context.Context) error {
	if !n.joined() || n.unverified() {
		return n.join(ctx)
	}
	return n.overtaken(n.beat(ctx))
}

func (n *Node) unverified() bool { return n.verify != nil && !n.verified }

func (n *Node) toldPosition() alias.Position {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told
}

func (n *Node) nameTaken() error {
	return fmt.Errorf("a live node with another data folder has the name %s: "+
		"give each node a name of its own with --node", n.cfg.Name)
}

// beat tells the database of this node, and reads what the others told.
func (n *Node) beat(ctx context.Context) error {
	select {
	case n.beating <- struct{}{}:
		defer func() { <-n.beating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	held := n.leases()
	b := alias.Beat{
		Joined: n.joined(),
		Node: alias.Node{
			Name: n.cfg.Name, ID: n.id, Process: n.process, Version: n.cfg.Version,
			ClockOffset: -n.clockOffset(), PreviousUses: n.previousUses(),
		},
		Held: held, TTL: n.cfg.TTL,
	}
	if n.registry != nil {
		b.At = n.registry.Position()
	}
	began := time.Now()
	reply, err := n.db.Beat(ctx, b)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.told, n.reply = b.At, reply
	n.offset = offsetWithin(n.offset, time.Until(reply.Now), reply.Now.Sub(began))
	n.mu.Unlock()
	for _, l := range held {
		n.settle(l, slices.Contains(reply.Renewed, l), began)
	}
	return nil
}

// offsetWithin is the clock of the database minus that of this machine, of which an answer gives the
// limits. They are wide if the answer took long, because the database or this process was paused:
// then what was known before is more exact.
func offsetWithin(before, least, most time.Duration) time.Duration {
	if before < least || before > most {
		return least + (most-least)/2
	}
	return before
}

// joined reports whether the database knows this process.
func (n *Node) joined() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.reply.Now.IsZero()
}

// overtaken says of an error of a beat what it means that another process has the name.
func (n *Node) overtaken(err error) error {
	if !errors.Is(err, alias.ErrExists) {
		return err
	}
	return fmt.Errorf("another process runs as the node %s, perhaps with a copy of this data folder: "+
		"stop one of them, and give each node a data folder and a name (--node) of its own: %w", n.cfg.Name, err)
}

// keepReplica fills the replica, and dates it while the database answers.
func (n *Node) keepReplica(ctx context.Context) {
	for {
		if !n.away() {
			n.replica.keep(ctx, n.registry)
		}
		if sleep(ctx, n.cfg.Every) != nil {
			return
		}
	}
}

// keepBeating beats until the returned function is called: what follow waits for, such as a write
// under way or everything to be read again, may take longer than leases last.
func (n *Node) keepBeating(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beats sync.WaitGroup
	beats.Go(func() {
		for sleep(ctx, n.cfg.Every) == nil {
			_ = n.beat(ctx) // follow reports it
		}
	})
	return func() { cancel(); beats.Wait() }
}

// listen wakes the node when the log grows.
func (n *Node) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.db.Listen(ctx, n.wake)
		if ctx.Err() != nil {
			return
		}
		n.cfg.Log.Debug("notifications of the database ended; changes are polled for", "error", err)
		_ = sleep(ctx, retryEvery)
	}
}

func (n *Node) wake(what string) {
	if what == alias.WakeNodes {
		n.mu.Lock()
		defer n.mu.Unlock()
		close(n.reported)
		n.reported = make(chan struct{})
		return
	}
	select {
	case n.woken <- struct{}{}:
	default:
	}
}

// logKept is how long the log keeps changes: a node that was away for longer reads everything
// again, and drops what it has cached.
const logKept = 7 * 24 * time.Hour

// keepHouse deletes what is too old, on one node of the fleet.
func (n *Node) keepHouse(ctx context.Context) {
	for sleep(ctx, time.Hour) == nil {
		h, err := n.Try(ctx, "housekeeping")
		if err != nil {
			continue
		}
		if err := n.db.Prune(ctx, logKept, n.cfg.Grace); err != nil {
			n.cfg.Log.Warn("old entries of the registry are not deleted", "error", err)
		}
		h.Release() //nolint:contextcheck // also when ctx has ended
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
