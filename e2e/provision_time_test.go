package e2e

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// TestProvisionTime provisions with every wait as it is by default, and wants
// the operation to show where the time went. How long it took is for
// docs/iam.md: a limit here would only say how busy the machine is.
func TestProvisionTime(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	iam, iamURL := newTap(t, g)
	s := startProvisioningIn(t, plain, filepath.Join(t.TempDir(), "data"), provisionArgs(g, iamURL)...)
	op := operation{State: "running"}
	for op.State == "running" { // asked again it is the same operation: a slow machine may take longer
		r := s.api(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket), "Prefer", "wait=60")
		op = parseOperation(t, r.body)
	}
	if op.State != "done" || op.FinishedAt == nil {
		t.Fatalf("%+v", op)
	}
	took := wantTimes(t, op)
	// Five times in a row, and four pauses between them.
	const pause, pauses = 2500 * time.Millisecond, 4
	if took["verify"] < pauses*pause {
		t.Errorf("verify took %s, with %d pauses of %s in it", took["verify"], pauses, pause)
	}
	long := 0
	asked := iam.signedBy("GetCallerIdentity", s.keyPair("shop").AccessKeyID)
	for i := range asked[1:] {
		if asked[i+1].Sub(asked[i]) >= pause {
			long++
		}
	}
	if long < pauses {
		t.Errorf("the new key was tried %d times, with %d pauses of %s or more, want %d", len(asked), long, pause, pauses)
	}
	// No other step waits on purpose for as long as one pause: IAM sees at once
	// what it did.
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s", r.Status)
	}
}

// wantTimes wants the steps of an operation to lie one after the other between
// its beginning and its end, and most of its time within them: what is between
// them is writes of the registry. It returns how long each took.
func wantTimes(t *testing.T, op operation) map[string]time.Duration {
	t.Helper()
	took, sum, last := map[string]time.Duration{}, time.Duration(0), op.CreatedAt
	for _, s := range op.Steps {
		if s.State != "done" || s.StartedAt == nil || s.FinishedAt == nil {
			t.Fatalf("step %+v", s)
		}
		if s.StartedAt.Before(last) || s.FinishedAt.Before(*s.StartedAt) {
			t.Errorf("%s lasts from %s to %s, and what was before it until %s", s.Name, s.StartedAt, s.FinishedAt, last)
		}
		took[s.Name], last = s.FinishedAt.Sub(*s.StartedAt), *s.FinishedAt
		sum += took[s.Name]
		t.Logf("%-12s %8.3f s  %s", s.Name, took[s.Name].Seconds(), s.Detail)
	}
	if op.FinishedAt.Before(last) {
		t.Errorf("it ended at %s, and its last step at %s", op.FinishedAt, last)
	}
	whole := op.FinishedAt.Sub(op.CreatedAt)
	t.Logf("%-12s %8.3f s, %.3f s of them between steps", "in all", whole.Seconds(), (whole - sum).Seconds())
	if sum < whole/2 {
		t.Errorf("the steps account for %s of %s", sum, whole)
	}
	return took
}
