package proxy

import (
	"github.com/gofiber/fiber/v2/utils"
	lru "github.com/hashicorp/golang-lru/v2"

	"ixmage/alias"
	"ixmage/proxy/transform"
)

// parsedQuery is what a query asks of an alias.
type parsedQuery struct {
	options transform.Options
	version string   // of the workers
	names   []string // of the variants, by what the client takes; nil: not made yet
}

// name returns the name of the variant for a client.
func (q *parsedQuery) name(a transform.Accepts) string {
	if q.names != nil {
		return q.names[a]
	}
	return nameVariant(q.options, a, q.version)
}

// queries remembers parsed queries, because pages ask for many pictures with few queries. It is safe
// for concurrent use.
type queries struct {
	version string // of the workers
	known   *lru.Cache[queryKey, *parsedQuery]
}

// queryKey is a query to one state of an alias: a change of the alias makes another one.
type queryKey struct {
	alias *alias.Alias
	query string
	free  bool
}

const (
	maxQueries = 1024
	// maxQuery is the longest query that is remembered, in bytes. Signed ones are not: each object has
	// others.
	maxQuery = 128
)

func newQueries(version string) queries {
	known, err := lru.New[queryKey, *parsedQuery](maxQueries)
	if err != nil { // the size is positive
		panic(err) //nolint:forbidigo // see above
	}
	return queries{version, known}
}

// of returns what a query asks of an alias; free says that it may use all options.
func (s queries) of(a *alias.Alias, query []byte, free bool) (*parsedQuery, error) {
	remember := len(query) <= maxQuery && !hasSignature(query)
	key := queryKey{a, "", free}
	if remember {
		key.query = utils.UnsafeString(query) // Get does not keep it
		if q, ok := s.known.Get(key); ok {
			return q, nil
		}
	}
	o, err := wanted(a, query, free)
	if err != nil {
		return nil, err
	}
	q := &parsedQuery{options: o, version: s.version}
	if remember {
		q.names = variantNames(o, s.version)
		key.query = string(query)
		s.known.Add(key, q)
	}
	return q, nil
}

// variantNames returns the names of the variants for all clients.
func variantNames(o transform.Options, version string) []string {
	if !o.Negotiable() {
		return []string{nameVariant(o, 0, version)}
	}
	names := make([]string, transform.AllAccepts+1)
	for a := range names {
		names[a] = nameVariant(o, transform.Accepts(a), version)
	}
	return names
}
