package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ixmage/internal/awstest/netfault"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's own: one for the process, and one per server that ends
		// when it next wakes.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

func TestListeners(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, log string
		want      map[string]string
	}{
		{
			name: "both",
			log: "time=x level=INFO msg=\"starting\" version=1\n" +
				"time=x level=INFO msg=listening listener=admin addr=127.0.0.1:7\n" +
				"time=x level=INFO msg=listening listener=public addr=127.0.0.1:8\nmore\n",
			want: map[string]string{"admin": "127.0.0.1:7", "public": "127.0.0.1:8"},
		},
		{name: "one only", log: "msg=listening listener=public addr=127.0.0.1:8\n"},
		{name: "none", log: "ixmage: port taken\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := listeners(strings.NewReader(tt.log))
			if (err == nil) != (tt.want != nil) {
				t.Fatalf("got error %v, want addresses %v", err, tt.want)
			}
			if err == nil && !cmp.Equal(tt.want, got) {
				t.Error(cmp.Diff(tt.want, got))
			}
		})
	}
}

// TestVerify shows what keeps a server from being measured.
func TestVerify(t *testing.T) {
	t.Parallel()
	const size = 4096
	tests := []struct {
		name    string
		status  int
		body    []byte
		state   string
		wantErr string
	}{
		{name: "a hit with the right body", status: http.StatusOK, body: objectBody(size), state: "hit"},
		{name: "a miss", status: http.StatusOK, body: objectBody(size), state: "miss", wantErr: "no hit"},
		{name: "another body", status: http.StatusOK, body: objectBody(size + 1)[:size], state: "hit", wantErr: "not the object"},
		{name: "a short body", status: http.StatusOK, body: objectBody(size)[:size-1], state: "hit", wantErr: "not the object"},
		{name: "an error", status: http.StatusBadGateway, body: objectBody(size), state: "hit", wantErr: "502"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			web := newWeb(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-State", tt.state)
				w.WriteHeader(tt.status)
				_, _ = w.Write(tt.body)
			}))
			s := &server{addr: web, isHit: func(h http.Header) bool { return h.Get("X-State") == "hit" }}
			if err := s.verify(t.Context(), []int{size}); !errorHas(err, tt.wantErr) {
				t.Errorf("got error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

// TestBareAnswersAlike checks that the yardstick sends the headers that it was
// given, with values of that length, and the right bytes.
func TestBareAnswersAlike(t *testing.T) {
	t.Parallel()
	const size = 4096
	spec := bareSpec{Sizes: []int{size}, Headers: usualHeaders([]int{size})}
	addr := startBareInProcess(t, spec)
	s := &server{addr: addr, isHit: func(http.Header) bool { return true }}
	if err := s.verify(t.Context(), spec.Sizes); err != nil {
		t.Fatal(err)
	}
	h, _, err := fetch(t.Context(), s.url(size))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range spec.Headers[objectKey(size)] {
		if got := h.Get(line.Name); got != line.Value {
			t.Errorf("%s is %q, want %q", line.Name, got, line.Value)
		}
	}
	if _, _, err := fetch(t.Context(), "http://"+addr+"/other"); !errorHas(err, "404") {
		t.Errorf("got error %v for an object that is not there, want 404", err)
	}
}

func TestServeBareWithoutSpec(t *testing.T) {
	t.Parallel()
	if err := serveBare(strings.NewReader("{"), io.Discard); !errorHas(err, "read the spec") {
		t.Errorf("got error %v, want one about the spec", err)
	}
}

// TestMissClientTellsErrors checks that a job which fails is not taken for a
// quick one.
func TestMissClientTellsErrors(t *testing.T) {
	t.Parallel()
	const size = 100
	tests := []struct {
		name, state, body string
		wantErr           string
	}{
		{name: "a miss", state: "ixmage; fwd=uri-miss; fwd-status=200; stored", body: strings.Repeat("x", size)},
		{name: "a hit", state: "ixmage; hit; ttl=3600", body: strings.Repeat("x", size), wantErr: "want a miss"},
		{name: "too short", state: "ixmage; fwd=uri-miss", body: "x", wantErr: "1 bytes came"},
		{name: "too long", state: "ixmage; fwd=uri-miss", body: strings.Repeat("x", size+1), wantErr: "101 bytes came"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			web := newWeb(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Status", tt.state)
				_, _ = io.WriteString(w, tt.body)
			}))
			got := runJob(t, missSpec{Addr: web}, missJob{Size: size, Count: 5, Workers: 2})
			if tt.wantErr != "" {
				if !strings.Contains(got.Error, tt.wantErr) {
					t.Errorf("got error %q, want %q", got.Error, tt.wantErr)
				}
				return
			}
			if got.Error != "" || len(got.FirstByte) != 5 || min(got.FirstByte[0], got.FirstByte[4]) <= 0 || got.Elapsed <= 0 {
				t.Errorf("got %+v, want five times", got)
			}
		})
	}
}

func runJob(t *testing.T, spec missSpec, job missJob) missResult {
	t.Helper()
	var in, out bytes.Buffer
	enc := gob.NewEncoder(&in)
	for _, v := range []any{spec, job} {
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := runMissClient(&in, &out); err != nil {
		t.Fatal(err)
	}
	var r missResult
	if err := gob.NewDecoder(&out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMissesPair(t *testing.T) {
	t.Parallel()
	var all []missSample
	for round := 1; round <= 3; round++ {
		slow := float64(round)
		all = append(all,
			missSample{way: waySDK, state: "off", size: 4096, round: round, first: []float64{slow, slow, slow}, rate: 100, cost: cost{cpu: 300}},
			missSample{way: nameOurs, state: "off", size: 4096, round: round, first: []float64{1.25 * slow}, rate: 90, cost: cost{cpu: 400}})
	}
	var out strings.Builder
	writeMisses(&out, all, config{binaries: []binary{{name: nameOurs}}, sizes: []int{4096}, states: missStates[:1]})
	if want := "| first byte, ixmage / SDK | 4 KiB | 1.250 (1.250–1.250) | ≤ 1.15 |"; !strings.Contains(out.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, out.String())
	}
}

func TestParseFlags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		args    []string
		wantErr string
	}{
		{name: "defaults"},
		{name: "all given", args: []string{"-rounds", "1", "-duration", "2s", "-sizes", "64,100000", "-servers", "bare"}},
		{name: "two binaries", args: []string{"-binaries", "old=/a,new=/b"}},
		{name: "a binary without a name", args: []string{"-binaries", "/a"}, wantErr: "name=path"},
		{name: "two of a name", args: []string{"-binaries", "a=/a,a=/b"}, wantErr: `"a" is taken`},
		{name: "the name of another server", args: []string{"-binaries", "nginx=/a"}, wantErr: `"nginx" is taken`},
		{name: "no size", args: []string{"-sizes", "4k"}, wantErr: `"4k"`},
		{name: "tiny size", args: []string{"-sizes", "63"}, wantErr: `"63"`},
		{name: "two states", args: []string{"-states", "full,off"}},
		{name: "unknown state", args: []string{"-states", "off,warm"}, wantErr: `"warm"`},
		{name: "no entries", args: []string{"-entries", "10,0"}, wantErr: "-entries: \"0\""},
		{name: "no aliases", args: []string{"-aliases", ""}, wantErr: "-aliases: \"\""},
		{name: "no round", args: []string{"-rounds", "0"}, wantErr: "-rounds"},
		{name: "half a second", args: []string{"-duration", "1500ms"}, wantErr: "whole seconds"},
		{name: "no second", args: []string{"-duration", "0s"}, wantErr: "whole seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseFlags(tt.args); !errorHas(err, tt.wantErr) {
				t.Errorf("got error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestServersOf(t *testing.T) {
	t.Parallel()
	one, two := []binary{{name: "ixmage"}}, []binary{{name: "old"}, {name: "new"}}
	tests := []struct {
		name, list string
		binaries   []binary
		want       []string
	}{
		{name: "default", binaries: one, want: []string{"ixmage", "bare", "bare-plain", "nginx", "nginx-copy", "varnish"}},
		{name: "default of two", binaries: two, want: []string{"old", "new"}},
		{name: "two among others", list: "nginx,ixmage,bare", binaries: two, want: []string{"nginx", "old", "new", "bare"}},
		{name: "without ixmage", list: "nginx,bare", binaries: two, want: []string{"nginx", "bare"}},
		{name: "one of two", list: "new,bare", binaries: two, want: []string{"new", "bare"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := serversOf(tt.list, tt.binaries); !cmp.Equal(tt.want, got) {
				t.Error(cmp.Diff(tt.want, got))
			}
		})
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	c := config{part: "both"}
	if err := c.run(t.Context(), io.Discard); !errorHas(err, "want hit, miss, disk, mixed, grow, transform, soak, fleet or all") {
		t.Errorf("got error %v for an unknown part", err)
	}
	if _, err := (&env{binaries: []binary{{name: nameOurs}}}).start(t.Context(), "apache"); !errorHas(err, "want one of bare") {
		t.Errorf("got error %v for an unknown server", err)
	}
}

func TestAwaitPortGivesUp(t *testing.T) {
	t.Parallel()
	addr := netfault.Refused(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := awaitPort(ctx, addr); !errorHas(err, "nothing listens") {
		t.Errorf("got error %v, want one that names the address", err)
	}
}
