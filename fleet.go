package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/datadir"
	"ixmage/alias/fleet"
	"ixmage/alias/provision"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// registryStore is where the registry is, and what else this process needs of that.
type registryStore struct {
	alias.Store

	copier copier
	node   *fleet.Node // nil: no other process uses the registry
	local  settings
}

// copier makes an SQLite file of a registry.
type copier interface {
	Copy(ctx context.Context, dir, pattern string) (path string, err error)
}

// close closes the store, or leaves the fleet.
func (r *registryStore) close() {
	if r.node == nil {
		r.Close()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeAfter)
	defer cancel()
	r.node.Close(ctx)
}

// nodes are the nodes for the admin API; nil without a fleet.
func (r *registryStore) nodes() admin.Nodes { //nolint:ireturn // nil is not a nil *fleet.Node
	if r.node == nil {
		return nil
	}
	return r.node
}

// open opens the registry.
func (r *registryStore) open(ctx context.Context, o alias.Options) (*alias.Registry, error) {
	if r.node == nil {
		return alias.OpenReplica(ctx, r, nil, o)
	}
	return alias.OpenReplica(ctx, r, r.node.Replica(), o)
}

// fresh reports whether a missing key set may be made: the registry has no secret, and no other
// node has a key set for it.
func (r *registryStore) fresh(ctx context.Context, sealed int) (bool, error) {
	if sealed > 0 || r.node == nil {
		return sealed == 0, nil
	}
	_, err := r.Meta(ctx, alias.MetaKeyCheck)
	if errors.Is(err, alias.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// explainKeyset adds to an error about the key set what a node of a fleet needs.
func (r *registryStore) explainKeyset(err error) error {
	if r.node == nil || !errors.Is(err, seal.ErrMissing) && !errors.Is(err, alias.ErrWrongKey) {
		return err
	}
	return fmt.Errorf("all nodes need the same key set: copy that of another node, or name it with --master-key: %w", err)
}

// joinFleet makes this process a node of a fleet.
func (s *serveCmd) joinFleet(ctx context.Context, log *slog.Logger) (*registryStore, error) {
	place, err := datadir.ParsePlace(s.Store)
	if err == nil && place.HasPassword() && os.Getenv(envName("store")) == "" {
		log.Warn("the password in --store is visible in the list of processes; " +
			"use IXMAGE_STORE, PGPASSWORD or PGPASSFILE instead")
	}
	node, err := fleet.Open(ctx, fleet.Config{
		URL: s.Store, Dir: s.Data, Name: s.Node, Version: version,
		Every: s.beat(), TTL: s.NodeLease, Grace: s.NodeGrace, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("open the registry database (--store): %w", err)
	}
	store := node.Store()
	log.Info("the registry is in PostgreSQL", "store", store.String(), "node", node.Name())
	return &registryStore{Store: store, copier: store, node: node, local: node.Settings()}, nil
}

// follow starts to follow the registry, if it is shared. It returns when memory and the cache
// have all that happened while this process did not run.
func (s *serveCmd) follow(ctx context.Context, store *registryStore, d fleetDeps) error {
	if store.node == nil {
		return nil
	}
	err := store.node.Start(ctx, d.registry, func(ctx context.Context, db alias.Store) error {
		id, err := db.Meta(ctx, alias.MetaInstallID)
		if err != nil && !errors.Is(err, alias.ErrNotFound) { // an empty database has none
			return err
		}
		if err := sameInstallation(string(id), d.installID); err != nil {
			return err
		}
		check, err := db.Meta(ctx, alias.MetaKeyCheck)
		if err == nil && !alias.OpensKeyCheck(d.keys, check) {
			err = alias.ErrWrongKey
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("follow the registry: %w", store.explainKeyset(err))
	}
	return nil
}

// fleetDeps are the parts that a node compares with the database whenever it has joined it.
type fleetDeps struct {
	registry  *alias.Registry
	keys      alias.Sealer
	installID string
}

func sameInstallation(there, here string) error {
	switch there {
	case here:
		return nil
	case "":
		return fmt.Errorf("the registry in --store is empty, and this node has followed that of the installation %s: "+
			"name its database, or restore it; to begin anew, delete replica.db in the data folder", here)
	}
	return fmt.Errorf("the registry in --store is that of the installation %s, and this node is of %s (--install-id): "+
		"two fleets must not share a database; name another database, or leave --install-id out", there, here)
}

// emptied returns an error if the database is empty and the replica of this node is not.
func (r *registryStore) emptied(ctx context.Context) error {
	if r.node == nil {
		return nil
	}
	id, err := r.local.Meta(ctx, alias.MetaInstallID)
	if errors.Is(err, alias.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = sameInstallation("", string(id))
	}
	return err
}

// minRegistryAge has room for some beats, of which one may be slow.
const minRegistryAge = time.Second

// beat is the interval of beats. Several of them are within --max-registry-age, so that the
// registry does not become too old between two.
func (s *serveCmd) beat() time.Duration {
	if s.MaxRegistryAge == 0 {
		return s.NodeBeat
	}
	return min(s.NodeBeat, s.MaxRegistryAge/4)
}

// expired reports whether the registry is older than --max-registry-age; nil without the flag.
func (s *serveCmd) expired(store *registryStore) func() bool {
	if s.MaxRegistryAge == 0 || store.node == nil {
		return nil
	}
	return func() bool { return store.node.Age() > s.MaxRegistryAge }
}

var nodeForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)

// checkFleet validates the flags of a fleet, and gives the node its default name.
func (s *serveCmd) checkFleet(errs *configErrors) {
	if s.Store != "" {
		switch scheme, _, _ := strings.Cut(s.Store, "://"); {
		case scheme != "postgres" && scheme != "postgresql":
			errs.addf("store", "must be a URL like postgres://ixmage@db.example.com/ixmage?sslmode=verify-full; "+
				"leave it out for SQLite in the data folder")
		default:
			if err := sqlstore.ValidateURL(s.Store); err != nil {
				errs.addf("store", "%v", err)
			}
		}
	}
	if s.Node == "" {
		s.Node = hostName()
	}
	if !nodeForm.MatchString(s.Node) {
		errs.addf("node", "%q must be 1 to 64 of letters, digits, dot, hyphen and underscore", s.Node)
	}
	if s.NodeLease < 3*s.NodeBeat {
		errs.addf("node-lease", "%s is less than three times --node-beat %s", s.NodeLease, s.NodeBeat)
	}
	if s.MaxRegistryAge > 0 && s.MaxRegistryAge < minRegistryAge {
		errs.addf("max-registry-age", "%s is less than %s", s.MaxRegistryAge, minRegistryAge)
	}
}

// hostName is a name for a node that was given none.
func hostName() string {
	name, err := os.Hostname()
	if name = strings.Trim(name, ".-_"); err != nil || !nodeForm.MatchString(name) {
		return "node"
	}
	return name
}

// provisionFleet is a node for provisioning; neither package imports the other.
type provisionFleet struct{ *fleet.Node }

func (f provisionFleet) Try(ctx context.Context, name string) (provision.Lease, error) { //nolint:ireturn // see above
	held, err := f.Node.Try(ctx, name)
	if err != nil {
		return nil, err
	}
	return held, nil
}

// fleetClock is the clock of the machine, corrected by that of the database: nodes compare times
// that another one has stored.
type fleetClock struct {
	provision.SystemClock

	node *fleet.Node
}

func (c fleetClock) Now() time.Time { return c.node.Now() }

// now is the corrected clock; nil for that of the machine.
func (r *registryStore) now() func() time.Time {
	if r.node == nil {
		return nil
	}
	return r.node.Now
}

// outdated reports whether the registry may lack changes; nil for that of one process.
func (r *registryStore) outdated() func() bool {
	if r.node == nil {
		return nil
	}
	return func() bool { _, why := r.node.Stale(); return why != nil }
}

// nodes are those that share the canaries out; nil for one process.
func (d provisioningDeps) nodes() func() (own string, live []string) {
	if d.node == nil {
		return nil
	}
	return func() (string, []string) { return d.node.Name(), d.node.Live() }
}
