package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/s3"
)

// TestFleetMany measures a fleet with many aliases: how long a node takes that follows the log of
// all of them, one that starts without a replica, and one that starts with it; and how long after
// its answer a change is served by the other nodes. The figures are for docs/benchmarks.md: no
// time decides the test. IXMAGE_MANY is the number of aliases.
func TestFleetMany(t *testing.T) {
	t.Parallel()
	many, changes := 500, 10
	if n, err := strconv.Atoi(os.Getenv("IXMAGE_MANY")); err == nil {
		many, changes = n, 200
	}
	server := postgres.Shared(t)
	v := &scripted{newFleet(t, server.Database(t), abc[:1]), s3.New(t)}
	v.CreateBucket("media", "")
	a := v.nodes[0]
	v.open(a, "shop")
	body := png(3000, "0")
	v.put("a.png", body)
	last := fmt.Sprintf("/many-%d/a.png", many)
	took := func(what string, since time.Time) {
		t.Logf("%d aliases: %s takes %s", many, what, time.Since(since).Round(time.Millisecond))
	}

	v.multiply(server, "shop", many)
	began := time.Now()
	a.shows(last, body)
	took("to follow the log of all", began)
	for _, name := range abc[1:] {
		n := v.add(name)
		began = time.Now()
		n.start()
		took("a start without a replica", began)
		n.serves(last, body)
	}
	b := v.nodes[1]
	b.replicated("has every change", func(at alias.Position) bool { return at.Revision > int64(many) })
	if code := b.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	began = time.Now()
	b.start()
	took("a start with a replica", began)
	b.serves(last, body)
	b.kill()
	b.partition()
	began = time.Now()
	b.start()
	took("a start without the database", began)
	b.serves(last, body)
	b.heal()
	v.caughtUp(v.nodes...)

	var lags []time.Duration
	for i := range changes {
		lags = append(lags, v.spread(v.nodes[i%3], i%2 == 1)...)
	}
	slices.Sort(lags)
	at := func(share float64) time.Duration {
		return lags[int(share*float64(len(lags)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d aliases: a change is served by another node %s (median), %s (p99), %s (at most) after its answer",
		many, at(0.5), at(0.99), at(1))
}

// multiply makes copies of an alias, with the log of it, as if each had been registered.
func (v *scripted) multiply(server *postgres.Server, name string, n int) {
	v.t.Helper()
	database := postgres.Name(v.t, v.url)
	var columns []string
	for _, row := range server.Exec(v.t, database, `SELECT column_name FROM information_schema.columns WHERE table_name = 'aliases'`) {
		if row[0] != "id" && row[0] != "name" {
			columns = append(columns, row[0])
		}
	}
	list := strings.Join(columns, ", ")
	server.Exec(v.t, database, fmt.Sprintf(`BEGIN;
		SELECT revision FROM registry_head FOR UPDATE;
		INSERT INTO aliases (id, name, %[1]s) SELECT n, 'many-' || n, %[1]s FROM aliases, generate_series(1, %[2]d) AS n WHERE name = '%[3]s';
		INSERT INTO changes (revision, part, tag, at, kind, name, purge)
			SELECT revision + n, 0, md5(n::text), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 'alias', 'many-' || n, 'null'
			FROM registry_head, generate_series(1, %[2]d) AS n;
		UPDATE registry_head SET revision = revision + %[2]d, tag = md5('%[2]d');
		SELECT pg_notify('ixmage', 'log');
		COMMIT`, list, n, name))
}

// spread changes the alias shop at a node, and returns how long after the answer each other node
// served it so.
func (v *scripted) spread(at *node, enabled bool) []time.Duration {
	v.t.Helper()
	want := http.StatusNotFound
	if enabled {
		want = http.StatusOK
	}
	var answered sync.WaitGroup
	answered.Add(1)
	var when time.Time
	var others sync.WaitGroup
	var mu sync.Mutex
	var lags []time.Duration
	for _, n := range v.nodes {
		if n == at {
			continue
		}
		c := client(v.t)
		others.Go(func() {
			eventuallySoon(v.t, "the change is at "+n.name, func() bool {
				r := fetch(c, http.MethodGet, "http://"+n.public+"/shop/a.png")
				return r != nil && r.StatusCode == want
			})
			seen := time.Now()
			answered.Wait()
			mu.Lock()
			defer mu.Unlock()
			lags = append(lags, max(0, seen.Sub(when)))
		})
	}
	status, text := at.try(http.MethodPatch, "/api/v1/aliases/shop", map[string]any{"enabled": enabled})
	when = time.Now()
	answered.Done()
	if status != http.StatusOK {
		v.t.Errorf("change: %d %s", status, text)
	}
	others.Wait()
	return lags
}

// eventuallySoon is eventually that looks every millisecond, to measure.
func eventuallySoon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("never happened: %s", what)
			return
		}
	}
}
