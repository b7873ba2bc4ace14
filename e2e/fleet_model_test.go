package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// chaosPlace is an alias on the real S3 server, with one object. Its model: the states that the
// alias may be in, which are many after a change without an answer, and for each node the oldest
// version of the object that it may serve, which a confirmed purge raises.
type chaosPlace struct {
	c            *chaos
	gw           *gateway.Server
	bucket, name string
	pair         alias.KeyPair
	states       []placeState // touched by its worker alone

	mu      sync.Mutex // guards the rest
	version int
	floor   map[string]int // by node
}

// placeState is an alias as its worker knows it.
type placeState struct {
	present bool
	ttl     time.Duration
}

func (w *chaosPlace) begin() {
	w.floor = map[string]int{}
	w.replace()
	if status, text := w.register(w.c.nodes[0], time.Hour); status != http.StatusCreated {
		w.c.t.Fatalf("register: %d %s", status, text)
	}
	w.states = []placeState{{true, time.Hour}}
}

func (w *chaosPlace) register(n *node, ttl time.Duration) (int, string) {
	return w.c.call(n, http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": w.name, "bucket": w.bucket, "prefix": w.name + "/", "region": w.gw.Region, "endpoint": w.gw.S3URL, "path_style": true,
		"ttl": ttl.String(), "stale_while_revalidate": "0s", "stale_if_error": "0s", "negative_ttl": "0s",
		"credential": map[string]any{"access_key_id": w.pair.AccessKeyID, "secret_access_key": w.pair.SecretAccessKey.Reveal()},
	})
}

// replace gives the object a new version.
func (w *chaosPlace) replace() {
	w.mu.Lock()
	next := w.version + 1
	w.mu.Unlock()
	obj := s3.Object{Body: w.body(next), ContentType: "image/png"}
	if err := w.gw.PutObject(w.c.t.Context(), w.bucket, w.name+"/in/a.png", obj); err != nil {
		w.c.t.Error(err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version = next
}

func (w *chaosPlace) body(version int) []byte {
	return append(png(3000, w.name), fmt.Sprintf("version %d of %s", version, w.name)...)
}

// act does the next thing of the sequence.
func (w *chaosPlace) act(rng *rand.Rand) {
	kind, n, ttl := rng.IntN(10), w.c.any(rng), time.Duration(1+rng.IntN(1<<20))*time.Second
	scope, hard := rng.IntN(3), rng.IntN(2) == 0
	<-time.After(time.Duration(rng.IntN(400)) * time.Millisecond)
	path := "/api/v1/aliases/" + w.name
	switch {
	case kind < 5:
		w.replace()
		w.purge(n, scope, hard)
	case kind == 5 && w.may(true):
		status, text := w.c.call(n, http.MethodDelete, path, nil)
		w.learn(n, "delete", status, text, placeState{})
	case w.may(false) && (kind == 6 || !w.may(true)):
		status, text := w.register(n, ttl)
		w.learn(n, "register", status, text, placeState{true, ttl})
	default:
		status, text := w.c.call(n, http.MethodPatch, path, map[string]any{"ttl": ttl.String()})
		w.learn(n, "patch", status, text, placeState{true, ttl})
	}
}

// may reports whether the alias may be present, or absent.
func (w *chaosPlace) may(present bool) bool {
	for _, s := range w.states {
		if s.present == present {
			return true
		}
	}
	return false
}

// learn notes what an answer says of the state.
func (w *chaosPlace) learn(n *node, what string, status int, text string, next placeState) {
	only := func(present bool) {
		var left []placeState
		for _, s := range w.states {
			if s.present == present {
				left = append(left, s)
			}
		}
		if left == nil {
			w.c.t.Errorf("%s %s of %s at %s: %d %s; the states were %v", stamp(), what, w.name, n.name, status, text, w.states)
			return
		}
		w.states = left
	}
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		w.states = []placeState{next}
	case http.StatusNotFound:
		only(false)
	case http.StatusConflict:
		if what == "register" {
			only(true)
		}
	case 0, http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusGatewayTimeout:
		w.states = append(w.states, next)
	default:
		w.c.t.Errorf("%s of %s at %s: %d %s", what, w.name, n.name, status, text)
	}
}

// purge purges the object. The nodes that have confirmed may not serve an older version any more.
func (w *chaosPlace) purge(n *node, scope int, hard bool) {
	call := map[string]any{"alias": w.name, "hard": hard}
	switch scope {
	case 0:
		call["key"] = "in/a.png"
	case 1:
		call["prefix"] = "in/"
	}
	w.mu.Lock()
	version := w.version
	w.mu.Unlock()
	status, text := w.c.call(n, http.MethodPost, "/api/v1/purge", call)
	if status != http.StatusOK {
		return
	}
	var got purgeAnswer
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Nodes.Confirmed) == 0 {
		w.c.t.Errorf("purge: %v: %s", err, text)
	}
	w.c.purges.Add(1)
	w.c.confirmations.Add(int64(len(got.Nodes.Confirmed)))
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range got.Nodes.Confirmed {
		w.floor[name] = max(w.floor[name], version)
	}
}

// read requests the object of a node and checks its version.
func (w *chaosPlace) read(n *node) {
	w.mu.Lock()
	floor := w.floor[n.name]
	w.mu.Unlock()
	resp, body := request(n, "/"+w.name+"/in/a.png")
	if resp == nil || resp.StatusCode != http.StatusOK {
		return
	}
	w.c.pictures.Add(1)
	from := resp.Header.Get("Cache-Status")
	if strings.Contains(from, "detail=disk") {
		w.c.fromDisk.Add(1)
	}
	_, text, _ := bytes.Cut(body, []byte("version "))
	version := 0
	if _, err := fmt.Sscanf(string(text), "%d of "+w.name, &version); err != nil || !bytes.Equal(body, w.body(version)) {
		w.c.t.Errorf("%s at %s: wrong bytes: %q", w.name, n.name, text)
		return
	}
	if version < floor {
		w.c.t.Errorf("%s %s at %s: version %d, though it has confirmed the purge of those before %d; %s", stamp(), w.name, n.name, version, floor, from)
	}
}

// request is a GET of the public listener; nil if there was no whole answer.
func request(n *node, path string) (*http.Response, []byte) {
	resp, err := impatient.Get("http://" + n.public + path)
	if err != nil {
		return nil, nil
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return nil, nil
	}
	return resp, body.Bytes()
}

// compare checks the state on every node and in the database.
func (w *chaosPlace) compare() {
	t := w.c.t
	t.Helper()
	fits := func(got placeState) bool {
		for _, s := range w.states {
			if s == got || !s.present && !got.present {
				return true
			}
		}
		return false
	}
	found := map[string]placeState{}
	for _, n := range w.c.nodes {
		status, text := n.try(http.MethodGet, "/api/v1/aliases/"+w.name, nil)
		var a struct{ TTL string }
		got := placeState{present: status == http.StatusOK}
		if got.present {
			if err := json.Unmarshal(text, &a); err != nil {
				t.Fatal(err)
			}
			got.ttl, _ = time.ParseDuration(a.TTL)
		}
		found["the database through "+n.name] = got
		resp, _ := request(n, "/"+w.name+"/in/a.png")
		if resp == nil {
			t.Errorf("no answer of %s", n.name)
			continue
		}
		got = placeState{present: resp.StatusCode == http.StatusOK}
		if got.present {
			seconds := 0
			_, age, _ := strings.Cut(resp.Header.Get("Cache-Control"), "max-age=")
			_, _ = fmt.Sscan(age, &seconds)
			got.ttl = time.Duration(seconds) * time.Second
		}
		found["the memory of "+n.name] = got
	}
	one := found["the database through a"]
	for where, got := range found {
		if !fits(got) || got != one {
			t.Errorf("%s has %s as %v; the model has %v, the database through a has %v", where, w.name, got, w.states, one)
		}
	}
}

// chaosUser is an alias whose user in IAM the fleet makes, rotates and removes. Its model: from
// which moment on each node must serve it. Only an emergency and a removal may break that.
type chaosUser struct {
	c    *chaos
	name string
	body []byte
	made bool // touched by its worker alone

	mu   sync.Mutex
	open bool            // must be served by the nodes in sure
	turn int             // counts the changes of open
	sure map[string]bool // nodes that have served it since it is open
}

// act does the next thing of the sequence.
func (u *chaosUser) act(rng *rand.Rand) {
	kind, n := rng.IntN(8), u.c.any(rng)
	<-time.After(time.Duration(rng.IntN(500)) * time.Millisecond)
	switch {
	case !u.made:
		if u.run(n, http.MethodPost, "/api/v1/provision", map[string]any{
			"alias": u.name, "bucket": "prov-chaos", "prefix": u.name + "/", "region": "us-east-1", "endpoint": u.c.iam.S3URL, "path_style": true,
			"probe": map[string]any{"inside": u.name + "/a.png", "outside": "private/p.png"},
		}) {
			u.made = true
			u.hasten(n)
			u.set(true)
		}
	case kind == 0:
		u.remove()
	case kind == 1:
		u.set(false)
		if u.run(n, http.MethodPost, "/api/v1/credentials/"+u.name+"/rotate", map[string]any{"emergency": true}) {
			u.set(true)
		}
	default:
		if u.run(n, http.MethodPost, "/api/v1/credentials/"+u.name+"/rotate", nil) && !u.isOpen() {
			u.set(true)
		}
	}
}

// hasten makes every request go to S3.
func (u *chaosUser) hasten(n *node) {
	u.again(n, "a short lifetime", func(n *node) bool {
		status, _ := u.c.call(n, http.MethodPatch, "/api/v1/aliases/"+u.name, map[string]any{
			"ttl": "1ms", "stale_while_revalidate": "0s", "stale_if_error": "0s", "negative_ttl": "0s",
		})
		return status == http.StatusOK
	})
}

// again tries one node after the other until one does it.
func (u *chaosUser) again(n *node, what string, do func(n *node) bool) {
	at := 0
	for i, other := range u.c.nodes {
		if other == n {
			at = i
		}
	}
	eventually(u.c.t, fmt.Sprintf("%s of %s", what, u.name), func() bool {
		at++
		return do(u.c.nodes[(at-1)%len(u.c.nodes)])
	})
}

// run begins an operation, waits for its end, and reports whether it did what it should.
func (u *chaosUser) run(n *node, method, path string, body map[string]any) bool {
	var op operation
	gone := false
	u.again(n, method+" "+path, func(n *node) bool {
		status, text := u.c.call(n, method, path, body)
		switch status {
		case http.StatusOK, http.StatusAccepted:
			op = parseOperation(u.c.t, []byte(text))
			return true
		case http.StatusNotFound:
			gone = method == http.MethodDelete
		case 0, http.StatusServiceUnavailable:
		case http.StatusConflict: // the operation of a lost answer runs
		default:
			u.c.t.Errorf("%s %s at %s: %d %s", method, path, n.name, status, text)
		}
		return gone
	})
	if gone {
		return true
	}
	u.c.operations.Add(1)
	u.again(n, "the end of operation "+op.ID, func(n *node) bool {
		status, text := n.tryWith(impatient, http.MethodGet, "/api/v1/operations/"+op.ID, nil)
		if status != http.StatusOK {
			return false
		}
		op = parseOperation(u.c.t, text)
		return op.State != "running"
	})
	if op.State == "failed" {
		u.c.t.Logf("%s operation %s %s of %s failed: %+v", stamp(), op.ID, op.Kind, u.name, op.Error)
	}
	return op.State == "done"
}

// remove removes the alias and the user.
func (u *chaosUser) remove() {
	u.set(false)
	n := u.c.nodes[0]
	u.again(n, "deleting the alias", func(n *node) bool {
		status, _ := u.c.call(n, http.MethodDelete, "/api/v1/aliases/"+u.name, nil)
		return status == http.StatusNoContent || status == http.StatusNotFound
	})
	u.again(n, "removing the user", func(n *node) bool {
		return u.run(n, http.MethodDelete, "/api/v1/credentials/"+u.name, nil)
	})
	u.made = false
}

// set says whether the alias must be served from now on.
func (u *chaosUser) set(open bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open = open
	u.turn++
	clear(u.sure)
}

func (u *chaosUser) isOpen() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open
}

// unsure is for a node that was started again, maybe from a replica without the alias.
func (u *chaosUser) unsure(n *node) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sure, n.name)
}

// must reports whether a request of now must succeed at a node.
func (u *chaosUser) must(n *node) (must bool, turn int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open && u.sure[n.name], u.turn
}

func (u *chaosUser) read(n *node) {
	before, turn := u.must(n)
	resp, body := request(n, "/"+u.name+"/a.png")
	if resp == nil {
		return
	}
	u.c.pictures.Add(1)
	if resp.StatusCode == http.StatusOK {
		if !bytes.Equal(body, u.body) {
			u.c.t.Errorf("%s at %s: wrong bytes", u.name, n.name)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.open && u.turn == turn {
			u.sure[n.name] = true
		}
		return
	}
	if must, now := u.must(n); before && must && now == turn {
		u.c.t.Errorf("%s %s at %s: %d %s", stamp(), u.name, n.name, resp.StatusCode, body)
	}
}
