package admin

import (
	"errors"
	"time"

	"ixmage/alias"
)

// registryState says how new the registry of this node is.
type registryState struct {
	fleet   Nodes // nil: the registry is not shared, and never stale
	started time.Time
}

// registryJSON is a registryState as the API shows it.
type registryJSON struct {
	Revision int64   `json:"revision" description:"The revision up to which this node has applied every change."`
	Lag      int64   `json:"lag" description:"How many changes of other nodes it has not applied yet."`
	Stale    bool    `json:"stale" description:"Whether the database cannot be used, so that changes of other nodes do not arrive."`
	Since    *string `json:"since" description:"Since when changes may be missing; null if the registry is not stale."`
	Detail   string  `json:"detail" description:"What that means; empty if the registry is not stale."`
}

func (s registryState) show() *registryJSON {
	if s.fleet == nil {
		return nil
	}
	applied, head := s.fleet.Revision()
	out := &registryJSON{Revision: applied, Lag: max(0, head-applied), Detail: s.detail()}
	if since, why := s.fleet.Stale(); why != nil {
		out.Stale, out.Since = true, timestampOrNull(since)
	}
	return out
}

// detail says since when the registry is stale, and what that means; empty if it is not. It has
// no text of the database, because /-/readyz needs no token.
func (s registryState) detail() string {
	if s.fleet == nil {
		return ""
	}
	since, why := s.fleet.Stale()
	if why == nil {
		return ""
	}
	text := "the registry is stale since " + since.UTC().Format(time.RFC3339) +
		": the database (--store) cannot be used, and the log says why"
	if since.Before(s.started) {
		text += "; this node was started from the copy in its data folder"
	}
	return text + ". Pictures are served, within --max-registry-age; changes are refused, and changes and purges of " +
		"other nodes do not arrive. The node catches up by itself"
}

// explain says of an error of the database that the nodes share what to do.
func (s registryState) explain(err error) error {
	if _, ok := errors.AsType[*failure](err); ok || s.fleet == nil || !errors.Is(err, alias.ErrUnavailable) {
		return err
	}
	text := "the database (--store) did not answer in time, or refused: the server's log has the cause under this " +
		"request_id"
	if since, why := s.fleet.Stale(); why != nil {
		text = "the database (--store) cannot be used since " + since.UTC().Format(time.RFC3339) +
			": the server's log says why"
	}
	return &explained{failf(alias.ErrUnavailable, "%s; correct it and try again. Pictures, aliases and credentials are "+
		"served from the copy of this node meanwhile", text), err}
}

// explained is an error that the client sees as a failure, and the log as it is.
type explained struct {
	failure *failure
	error
}

func (e *explained) Unwrap() []error { return []error{e.failure, e.error} }
