package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestTransformSeen: explain, metrics, usage, the doctor and the command show a transformation of
// the built program.
func TestTransformSeen(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.put("a.jpg", noon(t))
	explain := func(path, accept string) string {
		return string(s.api(http.MethodGet, "/api/v1/explain?path="+strings.ReplaceAll(path, "&", "%26")+"&accept="+accept, nil).body)
	}
	s.variant("a.jpg", "w=200&v=3")
	s.waitInFlight(0) // then it is counted
	for path, want := range map[string]string{
		"/free/a.jpg?w=200&v=3": `"options":"w=200","template":"","width":null,"ignored":["v"],"format":"jpeg","as_stored":false,"cache":{"tier":"memory"`,
		"/free/a.jpg?w=abc":     `"status":400,"code":"bad-option"`,
		"/free/a.jpg?w=201":     `"status":0,"code":""`,
	} {
		if got := explain(path, ""); !strings.Contains(got, want) {
			t.Errorf("%s: got %s\nwant %s in it", path, got, want)
		}
	}
	if got := explain("/free/a.jpg?w=201", "image/webp"); !strings.Contains(got, `"format":"webp"`) {
		t.Errorf("with Accept: %s", got)
	}
	if n := s.metric(`ixmage_transform_jobs_total{alias="free",outcome="ok"}`); n != 1 {
		t.Errorf("%v jobs were counted", n)
	}
	for series, least := range map[string]float64{
		"ixmage_transform_available": 1, "ixmage_transform_worker_starts_total": 1, `ixmage_transform_encode_seconds_count{format="jpeg"}`: 1,
		`ixmage_transform_saved_bytes_total{alias="free"}`: 1,
	} {
		if v := s.metric(series); v < least {
			t.Errorf("%s is %v", series, v)
		}
	}
	for path, want := range map[string]string{
		"/api/v1/aliases/free/usage": `"transforms":{"jobs":1,"worker_ms":`,
		"/api/v1/server":             `"transforms":{"on":true,"workers":`,
	} {
		if got := string(s.api(http.MethodGet, path, nil).body); !strings.Contains(got, want) {
			t.Errorf("%s: got %s\nwant %s in it", path, got, want)
		}
	}
}
