package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// ownToken is the name of the token of the configuration.
const ownToken = "admin"

// principal is the holder of the token that admitted a request, directly or by a session.
type principal struct {
	alias.Token

	peer string // address of the client
	// valid reports whether the token, and the session, still admit a request.
	valid func() bool
}

// actor is the principal for the audit and the log.
func (p *principal) actor() string {
	host, _, _ := net.SplitHostPort(p.peer)
	return string(p.Name) + "@" + host
}

// restricted reports whether the token has bucket patterns.
func (p *principal) restricted() bool { return len(p.Buckets) > 0 }

// within reports whether the token is for a bucket.
func (p *principal) within(bucket string) bool {
	return !p.restricted() || policy.Allowed(p.Buckets, bucket)
}

// check returns an error unless p may make a call that needs one of roles and, with
// allBuckets, a token for all buckets.
func (p *principal) check(roles []alias.TokenRole, allBuckets bool) error {
	if !p.May(roles) {
		needs := make([]string, 0, len(roles)+1)
		for _, r := range append(slices.Clone(roles), alias.RoleAdmin) {
			needs = append(needs, string(r))
		}
		return failf(errForbidden, "this call needs a token with the role %s; the token %s has %s",
			strings.Join(needs, " or "), p.Name, joinRoles(p.Roles))
	}
	if allBuckets && p.restricted() {
		return failf(errForbidden, "this call needs a token for all buckets; the token %s is for %s",
			p.Name, strings.Join(p.Buckets, ", "))
	}
	return nil
}

func joinRoles(roles []alias.TokenRole) string {
	list := make([]string, len(roles))
	for i, r := range roles {
		list[i] = string(r)
	}
	return strings.Join(list, ", ")
}

// place is where an alias or a request for one wants to read, and what with.
type place struct {
	bucket     string     // empty: validation refuses it
	credential alias.Name // by which it is read, if it is named
	source     alias.Name // that assumes the role by which it is read, if it is named
	policy     alias.PolicyMode
	ofEndpoint bool // the request says at which endpoint
	reserves   bool // it takes more of the memory of the cache
	wide       bool // the credential reads more than the alias
}

// access decides what a token with bucket patterns sees and changes: the aliases of its
// buckets, and the credentials that can read nothing else.
type access struct{ registry *alias.Registry }

// place returns an error unless p may make or change an alias so that it reads from there.
// An endpoint of its choice would let it have requests signed and sent to any server.
func (g access) place(ctx context.Context, p *principal, at place) error {
	if !p.restricted() {
		return nil
	}
	if err := at.refusal(p); err != nil {
		return err
	}
	return cmp.Or(g.mayName(ctx, p, at.credential), g.mayName(ctx, p, at.source))
}

// mayName returns an error unless p sees the credential with a name, which may be empty for none.
func (g access) mayName(ctx context.Context, p *principal, name alias.Name) error {
	if name == "" {
		return nil
	}
	c, err := g.registry.Credential(ctx, name)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return err
	}
	if c != nil {
		if ok, err := g.credential(ctx, p, c); ok || err != nil {
			return err
		}
	}
	return failf(errForbidden, "there is no credential %s whose aliases are all in the buckets of the token %s",
		name, p.Name)
}

// sourceOf names the credential that assumes a role; empty for the server's own.
func sourceOf(p alias.Provider) alias.Name {
	if r, ok := p.(alias.Role); ok && r.Source != alias.SourceDefault {
		return r.Source
	}
	return ""
}

// refusal is why a token with bucket patterns may not read there, whatever the credential.
func (at place) refusal(p *principal) error {
	switch {
	case at.bucket != "" && !p.within(at.bucket):
		return failf(errForbidden, "the token %s is for the buckets %s, and not for %s",
			p.Name, strings.Join(p.Buckets, ", "), shorten(at.bucket))
	case at.ofEndpoint:
		return failf(errForbidden, "a token with bucket patterns may not set an endpoint")
	case at.policy == alias.PolicyReadOnly:
		return failf(errForbidden, "a token with bucket patterns may not give a user the policy %s, "+
			"which reads every bucket", alias.PolicyReadOnly)
	case at.wide:
		return failf(errForbidden, "a token with bucket patterns may only use a role with the session policy %s, whose "+
			"sessions read nothing but the location of their alias", alias.SessionPolicyAlias)
	case at.reserves: // the reservations of all aliases shrink if their sum is too large
		return failf(errForbidden, "a token with bucket patterns may not raise cache_min: aliases of other buckets "+
			"would lose that memory")
	}
	return nil
}

// shorten bounds a text of the client in a message.
func shorten(s string) string {
	const most = 80
	return fmt.Sprintf("%+q", s[:min(len(s), most)])
}

// alias reports whether p sees an alias.
func (g access) alias(p *principal, a *alias.Alias) bool { return p.within(a.Bucket) }

// aliases reads a page of the aliases that p sees.
func (g access) aliases(ctx context.Context, p *principal, at page) ([]*alias.Alias, error) {
	return seen(at.limit, func(last **alias.Alias, limit int) ([]*alias.Alias, error) {
		after := at.after
		if last != nil {
			after = (*last).Name
		}
		return g.registry.Aliases(ctx, after, limit)
	}, func(a *alias.Alias) (bool, error) { return g.alias(p, a), nil })
}

// named reports whether p sees the alias with a name, from memory. It sees no alias that
// does not exist.
func (g access) named(p *principal, name alias.Name) bool {
	route, ok := g.registry.Lookup(string(name))
	return ok && g.alias(p, route.Alias)
}

// credential reports whether p sees a credential: what it can read must be within the
// buckets of p. That is unknown of a static one without aliases.
func (g access) credential(ctx context.Context, p *principal, c *alias.Credential) (bool, error) {
	if !p.restricted() {
		return true, nil
	}
	granted := false
	if user, ok := c.Provisioned(); ok {
		outside := func(grant alias.Grant) bool { return !p.within(grant.Bucket) }
		if user.Mode == alias.PolicyReadOnly || slices.ContainsFunc(user.Grants, outside) {
			return false, nil
		}
		granted = len(user.Grants) > 0
	}
	if isWide(c.Provider) {
		return false, nil
	}
	names, err := g.registry.AliasesOf(ctx, c.ID)
	if err != nil {
		return false, err
	}
	outside := func(n alias.Name) bool { return !g.named(p, n) }
	return (granted || len(names) > 0) && !slices.ContainsFunc(names, outside), nil
}

// isWide reports whether a credential is meant to read more than the locations of its aliases.
func isWide(p alias.Provider) bool {
	switch p := p.(type) {
	case alias.Static:
		return p.Expect == alias.PolicyReadOnly
	case alias.Role:
		return p.SessionPolicy != alias.SessionPolicyAlias
	case alias.Default:
		return true
	}
	return false
}

// operation reports whether p sees an operation: that of an alias or a credential that it
// sees, or one that it has started, because a removal leaves neither.
func (g access) operation(ctx context.Context, p *principal, o *alias.Operation) (bool, error) {
	return g.past(ctx, p, pastEvent{o.CreatedAt, o.Actor, o.Alias, o.Credential})
}

// pastEvent is what an actor did to an alias or a credential.
type pastEvent struct {
	at                time.Time
	actor             string
	alias, credential alias.Name
}

// past reports whether p sees an event. Events are kept with names, and a name may be used
// again after a deletion: an event from before is of another token, alias or credential.
func (g access) past(ctx context.Context, p *principal, e pastEvent) (bool, error) {
	if !p.restricted() || strings.HasPrefix(e.actor, string(p.Name)+"@") && !e.at.Before(p.CreatedAt) {
		return true, nil
	}
	if e.alias != "" {
		route, ok := g.registry.Lookup(string(e.alias))
		return ok && g.alias(p, route.Alias) && !e.at.Before(route.Alias.CreatedAt), nil
	}
	if e.credential == "" {
		return false, nil
	}
	c, err := g.registry.Credential(ctx, e.credential)
	switch {
	case errors.Is(err, alias.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case e.at.Before(c.CreatedAt):
		return false, nil
	}
	return g.credential(ctx, p, c)
}

// target reports whether p sees the resource that the path of a call names. A resource that
// does not exist is for the call to find.
func (g access) target(ctx context.Context, p *principal, resource, name string) (bool, error) {
	if !p.restricted() || name == "" {
		return true, nil
	}
	var ok bool
	var err error
	switch resource {
	case "alias":
		var a *alias.Alias
		if a, err = g.registry.Alias(ctx, alias.Name(name)); err == nil {
			ok = g.alias(p, a)
		}
	case "credential":
		var c *alias.Credential
		if c, err = g.registry.Credential(ctx, alias.Name(name)); err == nil {
			ok, err = g.credential(ctx, p, c)
		}
	case "operation":
		var o *alias.Operation
		if o, err = g.registry.History().Operation(ctx, name); err == nil {
			ok, err = g.operation(ctx, p, o)
		}
	default: // its calls are for tokens of all buckets
	}
	if errors.Is(err, alias.ErrNotFound) {
		return true, nil
	}
	return ok, err
}

// seen pages through a list until it has limit entries that visible accepts, or the list
// ends. next returns the entries behind last, which is nil at first.
func seen[T any](limit int, next func(last *T, limit int) ([]T, error), visible func(T) (bool, error)) ([]T, error) {
	list := make([]T, 0, min(limit, maxPageSize))
	var last *T
	for {
		some, err := next(last, limit)
		if err != nil {
			return nil, err
		}
		for _, v := range some {
			ok, err := visible(v)
			if err != nil {
				return nil, err
			}
			if ok {
				list = append(list, v)
			}
			if len(list) == limit {
				return list, nil
			}
		}
		if len(some) < limit {
			return list, nil
		}
		last = &some[len(some)-1]
	}
}
