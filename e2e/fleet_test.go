package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/s3"
)

// fleetDisk gives each node a disk tier.
var fleetDisk = []string{"--cache-memory", "8MiB", "--cache-disk", "64MiB"}

// scripted is a fleet in front of a scripted S3, with the alias shop on the folder web/ of the
// bucket media.
type scripted struct {
	*fleetEnv
	*s3.Server
}

func newScripted(t *testing.T, names []string, args ...string) *scripted {
	t.Helper()
	v := &scripted{newFleet(t, sharedDatabase(t), names, args...), s3.New(t)}
	v.CreateBucket("media", "")
	v.open(v.nodes[0], "shop")
	v.caughtUp(v.nodes...)
	return v
}

// open registers an alias. Only a purge makes a newer object seen.
func (v *scripted) open(n *node, name string) {
	v.t.Helper()
	n.create(map[string]any{
		"name": name, "bucket": "media", "prefix": "web/", "endpoint": v.URL, "path_style": true, "ttl": "24h0m0s",
		"stale_while_revalidate": "0s", "stale_if_error": "0s", "negative_ttl": "0s",
		"credential": map[string]string{"access_key_id": testPair.AccessKeyID, "secret_access_key": testPair.SecretAccessKey.Reveal()},
	})
}

func (v *scripted) put(key string, body []byte) {
	v.Put("media", "web/"+key, s3.Object{Body: body, ContentType: "image/png"})
}

// shows waits until a node serves this picture at a path, and says what it served before.
func (n *node) shows(path string, body []byte) {
	n.f.t.Helper()
	eventually(n.f.t, fmt.Sprintf("node %s serves the new %s", n.name, path), func() bool {
		status, got, _ := n.picture(path)
		return status == http.StatusOK && slices.Equal(got, body)
	})
}

// serves checks what a node serves now.
func (n *node) serves(path string, body []byte) {
	n.f.t.Helper()
	if status, got, from := n.picture(path); status != http.StatusOK || !slices.Equal(got, body) {
		n.f.t.Errorf("node %s, %s: %d, %d bytes that are not those wanted; %s", n.name, path, status, len(got), from)
	}
}

// ready is the readiness of a node.
func (n *node) ready() (int, string) {
	status, text := n.try(http.MethodGet, "/-/readyz", nil)
	return status, string(text)
}

// change patches the ttl of an alias at a node.
func (n *node) change(name string, ttl time.Duration) (int, []byte) {
	return n.try(http.MethodPatch, "/api/v1/aliases/"+name, map[string]any{"ttl": ttl.String()})
}

// says waits until the log of a node has a text, which may be a moment after what it tells of.
func (n *node) says(text string) {
	n.f.t.Helper()
	eventually(n.f.t, "node "+n.name+" says: "+text, func() bool { return strings.Contains(n.output(), text) })
}

// deleted deletes an alias at a node.
func (n *node) deleted(name string) {
	n.f.t.Helper()
	if status, text := n.try(http.MethodDelete, "/api/v1/aliases/"+name, nil); status != http.StatusNoContent {
		n.f.t.Fatalf("delete %s at %s: %d %s", name, n.name, status, text)
	}
}

// TestFleetChanges: what one node is told, all nodes do: an alias, a change of it, and its end.
// A node that was killed has it after its start, and one that is stopped leaves the list.
func TestFleetChanges(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc)
	a, b, c := v.nodes[0], v.nodes[1], v.nodes[2]
	body := png(2000, "one")
	v.put("a.png", body)
	v.each(func(n *node) { n.serves("/shop/a.png", body) })
	v.open(b, "other")
	v.each(func(n *node) { n.shows("/other/a.png", body) })
	c.kill()
	b.adminCall(http.MethodPatch, "/api/v1/aliases/other", map[string]any{"enabled": false}, http.StatusOK)
	b.deleted("shop")
	c.start()
	for _, path := range []string{"/other/a.png", "/shop/a.png"} {
		if status, _, _ := c.picture(path); status != http.StatusNotFound {
			t.Errorf("%s on the node that was down: %d", path, status)
		}
		eventually(t, "the other node has the change", func() bool {
			status, _, _ := a.picture(path)
			return status == http.StatusNotFound
		})
	}
	if got := a.names(); !slices.Equal(got, abc) {
		t.Errorf("nodes %v", got)
	}
	if code := c.stop(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if got := a.names(); !slices.Equal(got, abc[:2]) {
		t.Errorf("nodes %v after one was stopped", got)
	}
}

// TestFleetPurge: after the answer no node that has confirmed serves what was purged, by key, by
// prefix and by alias, hard and soft, from memory and from disk.
func TestFleetPurge(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc, fleetDisk...)
	fetch := func(body []byte) {
		v.each(func(n *node) {
			for range 2 { // the second request has it written to disk
				n.serves("/shop/in/a.png", body)
			}
		})
	}
	body := png(3000, "0")
	v.put("in/a.png", body)
	for i, call := range []map[string]any{
		{"key": "in/a.png", "hard": true}, {"prefix": "in/", "hard": true}, {"hard": true},
		{"key": "in/a.png"}, {"prefix": "in/"}, {},
	} {
		fetch(body)
		body = png(3000, fmt.Sprint(i+1))
		v.put("in/a.png", body)
		call["alias"] = "shop"
		got, ok := v.nodes[i%3].purge(call, "Prefer", "wait=60")
		if !ok {
			t.Fatalf("purge %v", call)
		}
		wantNodes(t, got, abc, []string{})
		fetch(body)
	}
	got, _ := v.nodes[0].purge(map[string]any{"alias": "shop", "key": "in/a.png"}, "Prefer", "wait=60")
	wantNodes(t, got, abc, []string{})
	v.each(func(n *node) {
		n.restart()
		n.serves("/shop/in/a.png", body)
	})
}

// TestFleetPurgeMissed: a node that was down, paused or without the database during a purge is
// pending, and does not serve the purged object when it is back.
func TestFleetPurgeMissed(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc[:2], fleetDisk...)
	a, b := v.nodes[0], v.nodes[1]
	body := png(3000, "0")
	v.put("a.png", body)
	purge := func(next string) {
		t.Helper()
		for range 2 {
			b.serves("/shop/a.png", body)
		}
		eventually(t, "the object is on disk", func() bool { return b.metric(`ixmage_cache_entries{tier="disk"}`) > 0 })
		body = png(3000, next)
		v.put("a.png", body)
	}

	purge("down")
	b.kill()
	got, _ := a.purge(map[string]any{"alias": "shop", "key": "a.png", "hard": true}, "Prefer", "wait=1")
	wantNodes(t, got, []string{"a"}, []string{"b"})
	b.start()
	b.serves("/shop/a.png", body)

	purge("paused")
	b.pause()
	got, _ = a.purge(map[string]any{"alias": "shop", "prefix": "a", "hard": true}, "Prefer", "wait=1")
	wantNodes(t, got, []string{"a"}, []string{"b"})
	b.resume()
	b.shows("/shop/a.png", body)

	purge("partitioned")
	b.partition()
	old := b.output()
	got, _ = a.purge(map[string]any{"alias": "shop", "key": "a.png"}, "Prefer", "wait=1")
	wantNodes(t, got, []string{"a"}, []string{"b"})
	b.restart() // it knows nothing of the purge and has not confirmed it
	if status, _, _ := b.picture("/shop/a.png"); status != http.StatusOK {
		t.Errorf("without the database: %d", status)
	}
	b.heal()
	b.shows("/shop/a.png", body)
	v.caughtUp(a, b)
	if strings.Contains(old+b.output(), "all cached objects are dropped") {
		t.Error("the whole cache was dropped for one purge")
	}
}

// TestFleetWithoutDatabase: without the database all nodes serve, refuse changes with 503 and
// Retry-After, and say so. One that is started meanwhile serves what it had. When the database is
// back, they catch up by themselves.
func TestFleetWithoutDatabase(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc[:2], fleetDisk...)
	a, b := v.nodes[0], v.nodes[1]
	body := png(3000, "0")
	v.put("a.png", body)
	v.put("b.png", body)
	v.each(func(n *node) { n.serves("/shop/a.png", body) })
	for _, away := range []func(n *node){(*node).partition, (*node).silence} {
		v.each(away)
		v.each(func(n *node) {
			eventually(t, "node "+n.name+" says that the database is away", func() bool {
				status, text := n.ready()
				return status == http.StatusOK && strings.Contains(text, "stale")
			})
			n.serves("/shop/a.png", body)
			n.serves("/shop/b.png", body)
			r := n.api(http.MethodPatch, "/api/v1/aliases/shop", `{"ttl":"1h0m0s"}`)
			wantProblem(t, r, http.StatusServiceUnavailable, "unavailable")
			if r.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			n.says("this node serves what it has and refuses changes")
			if n.samples()["ixmage_registry_stale_seconds"] == 0 {
				t.Error("ixmage_registry_stale_seconds is 0")
			}
		})
		b.restart()
		b.serves("/shop/a.png", body)
		if status, text := b.ready(); status != http.StatusOK || !strings.Contains(text, "started from the copy") {
			t.Errorf("readiness after a start without the database: %d %s", status, text)
		}
		wantAll(t, "the log", b.output(), "this node serves its replica")
		v.each((*node).heal)
		v.caughtUp(a, b)
		if status, text := a.change("shop", 2*time.Hour); status != http.StatusOK {
			t.Errorf("a change when the database is back: %d %s", status, text)
		}
		v.caughtUp(a, b)
		v.each(func(n *node) {
			if status, text := n.ready(); status != http.StatusOK || strings.Contains(text, "stale") {
				t.Errorf("readiness when the database is back: %d %s", status, text)
			}
			n.says("the registry is followed again")
			if n.samples()["ixmage_registry_stale_seconds"] != 0 {
				t.Error("ixmage_registry_stale_seconds is not 0")
			}
		})
	}
}

// TestFleetKeyReplacedMeanwhile: a node that was stopped cleanly waits for nothing and nothing waits for
// it. If the key of an alias was replaced since, and it is started without the database, it says that it may be
// outdated, and it heals by itself.
func TestFleetKeyReplacedMeanwhile(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc[:2])
	a, b := v.nodes[0], v.nodes[1]
	v.Allow(testPair, "media", "web/")
	body := png(3000, "0")
	for _, key := range []string{"a.png", "b.png", "c.png"} {
		v.put(key, body)
	}
	b.serves("/shop/a.png", body)
	if code := b.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	next := alias.KeyPair{AccessKeyID: "AKIAI44QH8DHBEXAMPLE", SecretAccessKey: alias.NewSecret("je7MtGbClwBF-2Zp9Utk-h3yCo8nvbEXAMPLEKEY")}
	v.Allow(next, "media", "web/")
	a.adminCall(http.MethodPut, "/api/v1/credentials/shop", map[string]any{
		"access_key_id": next.AccessKeyID, "secret_access_key": next.SecretAccessKey.Reveal(),
	}, http.StatusOK)
	v.Revoke(testPair.AccessKeyID)
	a.serves("/shop/b.png", body)

	b.partition()
	b.start()
	r := b.get("/shop/b.png")
	wantProblem(t, r, http.StatusServiceUnavailable, "registry-stale")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if out := b.runClient(nil, "explain", "/shop/c.png", "--probe"); !strings.Contains(out.stdout, "may have been rotated or replaced since") {
		t.Errorf("explain: %+v", out)
	}
	b.heal()
	b.shows("/shop/b.png", body)
}

// TestFleetMaxAge: a node whose registry is older than --max-registry-age is not ready and serves
// no pictures, until it has caught up.
func TestFleetMaxAge(t *testing.T) {
	t.Parallel()
	v := newScripted(t, abc[:1], "--max-registry-age", (2 * nodeLease).String())
	a := v.nodes[0]
	body := png(3000, "0")
	v.put("a.png", body)
	a.serves("/shop/a.png", body)
	a.partition()
	eventually(t, "pictures are refused", func() bool {
		status, _, _ := a.picture("/shop/a.png")
		return status == http.StatusServiceUnavailable
	})
	wantProblem(t, a.get("/shop/a.png"), http.StatusServiceUnavailable, "registry-stale")
	if status, _ := a.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("readiness %d", status)
	}
	a.heal()
	a.shows("/shop/a.png", body)
	if status, _ := a.ready(); status != http.StatusOK {
		t.Errorf("readiness %d", status)
	}
}

// TestFleetBouncer: through PgBouncer in transaction mode no notification arrives, and the beat
// finds the changes.
func TestFleetBouncer(t *testing.T) {
	t.Parallel()
	server := postgres.Shared(t)
	url := postgres.Through(t, postgres.Bouncer(t, server, "transaction"), server.Database(t))
	v := &scripted{newFleet(t, url, abc[:2]), s3.New(t)}
	v.CreateBucket("media", "")
	a, b := v.nodes[0], v.nodes[1]
	body := png(3000, "0")
	v.put("a.png", body)
	for i := range 5 {
		name := fmt.Sprintf("shop-%d", i)
		v.open(a, name)
		b.shows("/"+name+"/a.png", body)
		got, _ := b.purge(map[string]any{"alias": name, "key": "a.png", "hard": true}, "Prefer", "wait=60")
		wantNodes(t, got, abc[:2], []string{})
	}
}

// TestFleetTokens: a token that was made at one node holds at all, and one that was deleted at
// none.
func TestFleetTokens(t *testing.T) {
	t.Parallel()
	f := newFleet(t, sharedDatabase(t), abc[:2])
	a, b := f.nodes[0], f.nodes[1]
	status, text := a.try(http.MethodPost, "/api/v1/tokens", `{"name":"reader","roles":["read"]}`)
	var made struct{ Token string }
	if err := json.Unmarshal(text, &made); status != http.StatusCreated || err != nil {
		t.Fatalf("%d %s", status, text)
	}
	with := func(n *node) int {
		status, _ := n.try(http.MethodGet, "/api/v1/aliases", nil, "Authorization", "Bearer "+made.Token)
		return status
	}
	for _, n := range f.nodes {
		eventually(t, "the token holds at "+n.name, func() bool { return with(n) == http.StatusOK })
	}
	f.reported()
	b.partition()
	b.restart()
	if got := with(b); got != http.StatusOK {
		t.Errorf("at a node that was started without the database: %d", got)
	}
	if status, text := a.try(http.MethodDelete, "/api/v1/tokens/reader", nil); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
	b.heal()
	for _, n := range f.nodes {
		eventually(t, "the token is refused at "+n.name, func() bool { return with(n) == http.StatusUnauthorized })
	}
}

// TestFleetNames: a second live node with the name of another is refused at its start. A node that
// was killed can be removed when it is silent, and not before.
func TestFleetNames(t *testing.T) {
	t.Parallel()
	f := newFleet(t, sharedDatabase(t), abc[:2])
	a, b := f.nodes[0], f.nodes[1]
	twin := f.add("b")
	err := twin.tryStart()
	if err == nil || !strings.Contains(err.Error(), "--node") || twin.process.State().ExitCode() != 1 {
		t.Errorf("a second node b: %v", err)
	}
	if status, text := a.try(http.MethodDelete, "/api/v1/nodes/b", nil); status != http.StatusConflict {
		t.Errorf("remove a node that lives: %d %s", status, text)
	}
	b.kill()
	eventually(t, "the node is silent", func() bool {
		rows, _ := a.list()
		return len(rows) == 2 && rows[1].State == "silent"
	})
	if out := a.runClient(nil, "node", "ls"); out.code != 0 || !strings.Contains(out.stdout, "silent") {
		t.Errorf("node ls: %+v", out)
	}
	if out := a.runClient(nil, "node", "rm", "b", "--yes"); out.code != 0 {
		t.Errorf("node rm: %+v", out)
	}
	if got := a.names(); !slices.Equal(got, abc[:1]) {
		t.Errorf("nodes %v", got)
	}
	twin.start() // the name is free
	if got := a.names(); !slices.Equal(got, abc[:2]) {
		t.Errorf("nodes %v", got)
	}
}
