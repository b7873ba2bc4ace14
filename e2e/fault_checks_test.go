package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// given is the answer to a request, and the expectation for it.
type given struct {
	method string // get, head or part: bytes 100 to 5099
	want   *expectation
	body   []byte // of the object
	got    *response
}

// ask requests the object by the method of g.
func (g *given) ask(addr, path string) *response {
	switch g.method {
	case "head":
		return single(addr, http.MethodHead, path)
	case "part":
		return single(addr, http.MethodGet, path, "Range: bytes=100-5099")
	}
	return single(addr, http.MethodGet, path)
}

// check compares what a client got with what it must get.
func (g *given) check(t testing.TB) {
	t.Helper()
	if g.got.Response == nil {
		// A connection may break before the header, too.
		if g.want.kind != isCut && g.want.kind != isFailed || !errors.Is(g.got.err, io.ErrUnexpectedEOF) {
			t.Errorf("no answer: %v", g.got.err)
		}
		return
	}
	checkSilence(t, g.got)
	kind := g.want.kind
	if kind == isFailed {
		kind = isCut
		if g.got.StatusCode >= http.StatusBadRequest {
			kind = isProblem
		}
	}
	switch kind {
	case isWhole:
		g.checkWhole(t)
	case isCut:
		g.checkCut(t)
	default:
		g.checkProblem(t)
	}
}

// expected is the body of a right answer.
func (g *given) expected() []byte {
	switch {
	case g.method == "head":
		return nil
	case g.got.StatusCode == http.StatusPartialContent:
		return g.body[100:min(5100, len(g.body))]
	}
	return g.body
}

func (g *given) checkWhole(t testing.TB) {
	t.Helper()
	r, status := g.got, http.StatusOK
	if g.method == "part" && r.Header.Get("Content-Range") != "" {
		status = http.StatusPartialContent
	}
	if r.StatusCode != status || r.err != nil || !bytes.Equal(r.body, g.expected()) || r.Header.Get("Content-Type") != "image/png" {
		t.Errorf("got %s, %d bytes, error %v, %v; want the picture", r.Status, len(r.body), r.err, r.Header)
	}
	if g.method == "head" && r.ContentLength != int64(len(g.body)) && r.ContentLength != -1 {
		t.Errorf("Content-Length is %d, want %d", r.ContentLength, len(g.body))
	}
}

// checkCut checks that the client sees the early end, and that all bytes before it
// are right.
func (g *given) checkCut(t testing.TB) {
	t.Helper()
	if g.got.StatusCode >= http.StatusMultipleChoices || !errors.Is(g.got.err, io.ErrUnexpectedEOF) {
		t.Errorf("got %s and error %v; want a picture that ends unexpectedly", g.got.Status, g.got.err)
	}
	if !bytes.HasPrefix(g.expected(), g.got.body) {
		t.Errorf("some of the %d bytes before the end are wrong", len(g.got.body))
	}
}

// checkProblem checks a problem document and the headers that belong to it.
func (g *given) checkProblem(t testing.TB) {
	t.Helper()
	r, status, code := g.got, g.want.status, g.want.code
	if r.StatusCode != status || r.err != nil || r.Header.Get("Content-Type") != "application/problem+json" ||
		r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Cache-Status") != "" || r.Header.Get("Age") != "" {
		t.Errorf("got %s, error %v, %v; want the problem %d %s", r.Status, r.err, r.Header, status, code)
	}
	if got := r.Header.Get("Retry-After"); (got != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("%d comes with Retry-After %q", status, got)
	}
	if g.method == "head" {
		if len(r.body) > 0 {
			t.Errorf("an answer to HEAD has the body %q", r.body)
		}
		return
	}
	var doc struct {
		Type      string `json:"type"`
		Title     string `json:"title"`
		Status    int    `json:"status"`
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(r.body, &doc); err != nil {
		t.Errorf("%v in %q", err, r.body)
	}
	if doc.Type != "https://ixmage.dev/problems/"+code || doc.Status != status || doc.Title == "" ||
		doc.RequestID == "" || doc.RequestID != r.Header.Get("X-Request-Id") {
		t.Errorf("got %s; want the problem %d %s", r.body, status, code)
	}
}

// checkSilence checks that an answer contains nothing about S3.
func checkSilence(t testing.TB, r *response) {
	t.Helper()
	var told bytes.Buffer
	r.Header.Write(&told)
	if r.StatusCode >= http.StatusBadRequest {
		told.Write(r.body)
	}
	text := strings.ToLower(told.String())
	for _, secret := range []string{
		faultBucket, faultPrefix, testPair.AccessKeyID, testPair.SecretAccessKey.Reveal(), "127.0.0.1", "localhost",
		"AWS", "amz", "Amazon", "S3", "scripted", "<", "Set-Cookie", "evil", ".png",
	} {
		if strings.Contains(text, strings.ToLower(secret)) {
			t.Errorf("an answer tells of %q:\n%s", secret, told.String())
		}
	}
}

// checkAsked checks the number of requests to S3.
func checkAsked(t *testing.T, tr *trial) {
	t.Helper()
	if asked := int(tr.asked.Load()); asked != tr.want.asked && (!tr.want.further || asked < tr.want.asked) {
		t.Errorf("S3 was asked %d times, want %d", asked, tr.want.asked)
	}
}

func checkCounted(t *testing.T, tr *trial, counts map[string]float64) {
	t.Helper()
	checkAsked(t, tr)
	calls, want := originCalls(counts, tr.alias), strings.Fields(tr.want.outcome)
	asked := int(tr.asked.Load())
	if calls["ok"] -= float64(tr.looks.Load()); calls["ok"] == 0 {
		delete(calls, "ok")
	}
	if n := counts[retriesOf(tr.alias)]; n < float64(asked-len(want)) {
		t.Errorf("%v retries are counted, S3 was asked %d times", n, asked)
	}
	for _, outcome := range want {
		if len(calls) != len(want) || calls[outcome] != 1 {
			t.Errorf("outcomes of calls are %v, want 1 %s", calls, outcome)
		}
	}
}

func retriesOf(alias string) string { return `ixmage_origin_retries_total{alias="` + alias + `"}` }

// originCalls returns the calls to S3 for an alias, by outcome.
func originCalls(counts map[string]float64, alias string) map[string]float64 {
	calls := map[string]float64{}
	for series, n := range counts {
		outcome, ok := strings.CutPrefix(series, `ixmage_origin_requests_total{alias="`+alias+`",outcome="`)
		if ok && n > 0 {
			calls[strings.TrimSuffix(outcome, `"}`)] = n
		}
	}
	return calls
}

// checkLogged checks that a failed request has one log line, and a successful one
// none, apart from debug lines.
func checkLogged(t *testing.T, tr *trial, log string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, "alias="+tr.alias+" ") && strings.Contains(line, "request_id=") &&
			!strings.Contains(line, "level=DEBUG") && !strings.Contains(line, `msg="admin request"`) {
			lines = append(lines, line)
		}
	}
	if tr.want.kind == isWhole {
		if len(lines) > 0 {
			t.Errorf("a request that was answered well is logged: %q", lines)
		}
		return
	}
	if len(lines) != 1 {
		t.Errorf("%d log lines, want 1: %q", len(lines), lines)
		return
	}
	says := []string{tr.want.says}
	if tr.got.Response != nil {
		says = append(says, "request_id="+tr.got.Header.Get("X-Request-Id"), fmt.Sprintf("status=%d", tr.got.StatusCode))
	}
	for _, text := range says {
		if !strings.Contains(lines[0], text) {
			t.Errorf("the log line lacks %q: %s", text, lines[0])
		}
	}
}

// checkAgain checks the answer after the fault: the whole object, from the cache
// only if it was stored before.
func checkAgain(t *testing.T, tr *trial) {
	t.Helper()
	body := tr.body
	if tr.replaced != nil {
		body = tr.replaced
	}
	(&given{method: "get", want: whole(0), body: body, got: tr.got}).check(t)
	if tr.got.Response == nil {
		return
	}
	want := "ixmage; fwd=uri-miss; fwd-status=200; stored"
	switch {
	case tr.stores():
		want = "ixmage; hit; ttl="
	case !tr.storesLater():
		want = "ixmage; fwd="
	}
	if got := tr.got.Header.Get("Cache-Status"); !strings.HasPrefix(got, want) {
		t.Errorf("Cache-Status is %q, want %s…", got, want)
	}
}
