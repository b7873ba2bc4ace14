package admin

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/alias/doctor"
)

// heldDoctor answers when it is released.
type heldDoctor struct{ begun, release chan struct{} }

func (d *heldDoctor) Examine(context.Context) *doctor.Report {
	d.begun <- struct{}{}
	<-d.release
	return &doctor.Report{State: doctor.Bad, CheckedAt: time.Unix(0, 0).UTC(), Findings: []doctor.Finding{
		{Name: doctor.Bucket, State: doctor.Bad, Subject: "media", Detail: "is missing", Remedy: "create it"},
	}}
}

// TestDoctor: one examination at a time, and the report as it is.
func TestDoctor(t *testing.T) {
	t.Parallel()
	d := &heldDoctor{make(chan struct{}, 1), make(chan struct{})}
	a := newAPI(t, func(c *Config) { c.Doctor = d })
	first := make(chan answer, 1)
	go func() { first <- a.do(http.MethodGet, "/api/v1/doctor", "") }()
	<-d.begun
	if got := a.do(http.MethodGet, "/api/v1/doctor", ""); got.status != http.StatusConflict || !strings.Contains(got.body, "another examination runs") {
		t.Errorf("a second examination: %d %s", got.status, got.body)
	}
	close(d.release)
	want := `{"state":"bad","checked_at":"1970-01-01T00:00:00Z","findings":[` +
		`{"name":"bucket","state":"bad","subject":"media","detail":"is missing","remedy":"create it"}]}`
	if got := <-first; got.status != http.StatusOK || strings.TrimSpace(got.body) != want {
		t.Errorf("got %d %s\nwant %s", got.status, got.body, want)
	}
	if got := a.do(http.MethodGet, "/api/v1/doctor", ""); got.status != http.StatusOK {
		t.Errorf("the next examination: %d %s", got.status, got.body)
	}
}

func TestNoDoctor(t *testing.T) {
	t.Parallel()
	if got := newAPI(t).do(http.MethodGet, "/api/v1/doctor", ""); got.status != http.StatusNotImplemented {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
