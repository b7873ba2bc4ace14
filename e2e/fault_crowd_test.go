package e2e

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// patientOrigin has deadlines that only a silent body exceeds.
var patientOrigin = []string{"--origin-idle-timeout", "5s", "--origin-queue-timeout", "2m", "--cache-object-max", "32MiB"}

const crowdSize = 50

// held delays the first request for an object until gate is closed.
func held(gate <-chan struct{}, s script) script {
	f := s3.Fault{}
	if s.faults[0] != nil {
		f = *s.faults[0]
	}
	f.Stall = &s3.Stall{After: s3.BeforeHeaders, Release: gate}
	s.faults = append([]*s3.Fault{&f}, s.faults[1:]...)
	return s
}

// TestFaultyCrowd has many clients wait for one object that S3 fails to deliver.
// Each gets the answer that a single client would get, and S3 gets the requests of a
// single client.
func TestFaultyCrowd(t *testing.T) {
	t.Parallel()
	broken := s3.CloseAfter(50_000)
	gatherAll(t, []string{"--origin-queue-timeout", "1m"}, []fault{
		{name: "right", script: first(&s3.Fault{}), get: whole(1)},
		{name: "cut once", script: first(broken), get: whole(2)},
		{name: "cut", script: first(broken, s3.CloseAfter(0)), get: cut(2, "network")},
		{name: "wrong checksum", script: first(s3.WrongChecksum()), get: cut(1, "error")},
		{name: "longer than declared", script: first(s3.DeclareLess(10)), get: cut(1, "error")},
		{name: "closed before the headers", script: first(s3.CloseAfter(s3.BeforeHeaders), s3.CloseAfter(s3.BeforeHeaders)), get: fails(502, "origin-unreachable", 2, "network")},
		{name: "InternalError once", script: first(s3.Fail("InternalError")), get: whole(2)},
		{name: "InternalError", script: first(s3.Fail("InternalError"), s3.Fail("InternalError")), get: fails(502, "origin-error", 2, "error")},
		{name: "SlowDown", script: first(s3.Fail("SlowDown"), s3.Fail("SlowDown")), get: fails(503, "origin-throttled", 2, "throttled")},
		{name: "NoSuchKey", script: first(s3.Fail("NoSuchKey")), get: fails(404, "not-found", 1, "not_found")},
		{name: "AccessDenied", script: first(s3.Fail("AccessDenied")), get: fails(404, "not-found", 1, "denied")},
		{name: "InvalidAccessKeyId", script: first(s3.Fail("InvalidAccessKeyId")), get: fails(502, "origin-credential", 1, "bad_credential")},
		{name: "RequestTimeout", script: first(s3.Fail("RequestTimeout"), s3.Fail("RequestTimeout")), get: fails(504, "origin-timeout", 2, "timeout")},
		{name: "a page", script: first(s3.XML200()), get: fails(415, "not-an-image", 1, "ok")},
		{name: "large, cut", object: s3.Object{Body: png(4<<20, "large")}, script: first(s3.CloseAfter(3<<20), s3.CloseAfter(0)), get: cut(2, "network")},
	})
	gatherAll(t, patientOrigin, []fault{
		{name: "silent in the body", script: first(broken, s3.StallAfter(0, nil)), get: cut(2, "timeout")},
	})
}

// gatherAll starts a server, and gathers a crowd there for one row after the other.
func gatherAll(t *testing.T, args []string, rows []fault) {
	t.Helper()
	gates := make([]chan struct{}, len(rows))
	for i := range rows {
		gates[i] = make(chan struct{})
		rows[i].script = held(gates[i], rows[i].script)
	}
	f := newFaultEnv(t, start(t, args...))
	before := f.gauge()
	f.load("c", rows)
	for i, tr := range f.trials {
		t.Run(tr.name, func(t *testing.T) { f.gather(t, tr, gates[i]) })
	}
	f.askRepaired()
	f.checkLeft(before)
}

// gather requests the object of a trial many times before S3 answers.
func (f *faultEnv) gather(t *testing.T, tr *trial, gate chan<- struct{}) {
	t.Helper()
	answers := make([]*response, crowdSize)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = f.fetch(tr.path()) })
	}
	f.waitBlocked(crowdSize)
	close(gate)
	wg.Wait()
	f.waitQuiet()
	for _, tr.got = range answers {
		tr.check(t)
	}
	checkCounted(t, tr, f.samples())
}

// crowd has many clients wait for S3 until the deadline. No client waits longer
// because another one came first.
func (f *faultEnv) crowd() {
	f.t.Helper()
	f.load("s", []fault{{
		name: "a silent crowd", script: always(s3.StallAfter(s3.BeforeHeaders, nil)),
		get: fails(504, "origin-timeout", 2, "timeout"),
	}})
	tr := f.trials[0]
	var wg sync.WaitGroup
	for range crowdSize {
		wg.Go(func() {
			(&given{method: "get", want: tr.want, body: tr.body, got: f.fetch(tr.path())}).check(f.t)
		})
	}
	wg.Wait()
	f.waitQuiet()
	counts := f.samples()
	calls := originCalls(counts, tr.alias)["timeout"]
	if asked := float64(tr.asked.Load()); asked != calls+counts[retriesOf(tr.alias)] || calls > 2 {
		f.t.Errorf("S3 was asked %v times in %v calls with %v retries", asked, calls, counts[retriesOf(tr.alias)])
	}
	f.askRepaired()
}

// TestFollowers has the clients of one fetch read at different speeds and leave at
// different times. Each client that stays gets everything.
func TestFollowers(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	gate := make(chan struct{})
	object := s3.Object{Body: png(size, "followers")}
	stalled := &s3.Fault{Stall: &s3.Stall{After: size / 2, Release: gate}}
	f := newFaultEnv(t, start(t, append(patientOrigin, "--origin-idle-timeout", "2m")...))
	f.load("f", []fault{{name: "stalled", object: object, script: first(stalled), get: whole(1)}})
	tr := f.trials[0]
	want := tr.body

	leader := f.follow(t, tr.path())
	if got := leader.begin(t, 1000); !bytes.Equal(got, want[:1000]) {
		t.Error("the leader's first bytes are wrong")
	}
	slow, fast := f.follow(t, tr.path()), f.follow(t, tr.path())
	slow.Conn.(*net.TCPConn).SetReadBuffer(64 << 10) // what the kernel takes is not read
	slow.begin(t, 1)
	got := fast.begin(t, size/2) // all there is, while the slow one reads nothing
	leader.leave()
	close(gate)
	if got = append(got, fast.finish(t)...); !bytes.Equal(got, want) {
		t.Error("the fast reader's bytes are wrong")
	}
	if !bytes.Equal(slow.finish(t), want[1:]) {
		t.Error("the slow reader's bytes are wrong")
	}
	late := f.follow(t, tr.path())
	if got := append(late.begin(t, 1), late.finish(t)...); !bytes.Equal(got, want) {
		t.Error("the latecomer's bytes are wrong")
	}
	for _, c := range []struct {
		name, status string
		*follower
	}{
		{"leader", "ixmage; fwd=uri-miss; fwd-status=200; stored", leader},
		{"slow", "ixmage; fwd=uri-miss; collapsed", slow}, {"fast", "ixmage; fwd=uri-miss; collapsed", fast},
		{"late", "ixmage; hit; ttl=", late}, // the second in which it comes is the machine's affair
	} {
		if got := c.resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, c.status) {
			t.Errorf("%s: Cache-Status is %q, want it to begin %q", c.name, got, c.status)
		}
	}
	f.waitQuiet()
	if n := f.s3.Total(); n != 1 {
		t.Errorf("S3 was asked %d times, want once", n)
	}
	if n := f.samples()[abortsOf(tr.alias)]; n != 1 {
		t.Errorf("%v departed clients are counted, want the leader", n)
	}
}

func abortsOf(alias string) string {
	return fmt.Sprintf("ixmage_http_client_aborts_total{alias=%q}", alias)
}

// TestLastReaderLeaves has the only client of a fetch leave early. If much of the
// object is missing, the fetch is abandoned and S3 sees the connection end. A small
// rest is fetched, since another client may request it.
func TestLastReaderLeaves(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		size  int
		stall int64 // where S3 waits until the client has left
		rest  bool  // is fetched
	}{
		{"of a large object", 24 << 20, 1 << 20, false},
		{"of a small object", 200 << 10, 50 << 10, true},
		{"of a large object, near its end", 4 << 20, 3 << 20, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			// S3 is slow, so that the server notices the departure before the body ends.
			slow := &s3.Fault{Stall: &s3.Stall{After: tc.stall, Release: gate}, Chunk: 8 << 10, Pace: time.Millisecond}
			if !tc.rest {
				slow.Pace = 20 * time.Millisecond // a minute for all of it
			}
			object := s3.Object{Body: png(tc.size, tc.name)}
			f := newFaultEnv(t, start(t, append(patientOrigin, "--origin-idle-timeout", "2m")...))
			f.load("l", []fault{{name: tc.name, object: object, script: first(slow), get: whole(1)}})
			tr := f.trials[0]
			reader := f.follow(t, tr.path())
			reader.begin(t, int(tc.stall)-1)
			reader.leave()
			close(gate)
			f.waitQuiet()
			if n := f.samples()[abortsOf(tr.alias)]; n != 1 {
				t.Errorf("%v departed clients are counted, want 1", n)
			}
			asked := f.s3.Requests()[0]
			if all := asked.Sent == int64(tc.size); all != tc.rest {
				t.Errorf("S3 sent %d of %d bytes", asked.Sent, tc.size)
			}
			outcome := map[bool]string{true: "ok", false: "aborted"}[tc.rest]
			if calls := originCalls(f.samples(), tr.alias); len(calls) != 1 || calls[outcome] != 1 {
				t.Errorf("outcomes of calls are %v, want 1 %s", calls, outcome)
			}
			tr.got = f.fetch(tr.path())
			tr.check(t)
			want := map[bool]string{true: "ixmage; hit", false: "ixmage; fwd"}[tc.rest]
			if got := tr.got.Header.Get("Cache-Status"); got[:len(want)] != want {
				t.Errorf("Cache-Status is %q, want %s…", got, want)
			}
		})
	}
}
