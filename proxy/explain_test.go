package proxy

import (
	"strings"
	"testing"
	"time"

	"ixmage/proxy/origin"
)

// TestTrouble: what another object's request met is told of the alias only where it is
// the alias's failure.
func TestTrouble(t *testing.T) {
	t.Parallel()
	at := time.Now()
	failure := func(o origin.Outcome) *ExplainedAnswer {
		return &ExplainedAnswer{At: at, Outcome: string(o), err: &origin.Error{Outcome: o}}
	}
	for name, tc := range map[string]struct {
		last   *ExplainedAnswer
		canary string
		newer  bool // an answer that is none
		want   string
	}{
		"nothing failed":     {},
		"it is over":         {last: failure(origin.OutcomeNetwork), newer: true},
		"no connection":      {last: failure(origin.OutcomeNetwork), want: "cannot be reached"},
		"another is missing": {last: failure(origin.OutcomeNotFound)},
		"another is denied":  {last: failure(origin.OutcomeDenied)},
		"all are denied":     {last: failure(origin.OutcomeDenied), canary: canaryFailing, want: "canary"},
	} {
		e := &Explanation{LastFailure: tc.last, LastAnswer: tc.last, Canary: &ExplainedCanary{State: tc.canary}}
		if tc.newer {
			e.LastAnswer = &ExplainedAnswer{At: at.Add(1), Outcome: string(origin.OutcomeOK)}
		}
		if got := e.originRemedy(); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want it to say %q", name, got, tc.want)
		}
	}
}

// TestOutlook: what is stored is not called unknown, and one object that is missing says
// nothing of the others.
func TestOutlook(t *testing.T) {
	t.Parallel()
	now := time.Now()
	missing := &ExplainedAnswer{At: now, Outcome: string(origin.OutcomeNotFound)}
	for name, tc := range map[string]struct {
		e    Explanation
		want string
	}{
		"unknown":            {Explanation{Cache: &ExplainedCache{}}, remedyUnknown},
		"stored":             {Explanation{Cache: &ExplainedCache{Memory: &ExplainedEntry{}}}, remedyStored},
		"another is missing": {Explanation{Cache: &ExplainedCache{}, LastAnswer: missing, LastFailure: missing}, remedyUnknown},
		"no session": {
			Explanation{Cache: &ExplainedCache{}, Session: &ExplainedSession{Error: "STS refuses"}},
			remedySession,
		},
		"an old session lives": {
			Explanation{Cache: &ExplainedCache{}, Session: &ExplainedSession{Error: "STS refuses", Expires: &now}}, remedyUnknown,
		},
	} {
		if tc.e.defaultRemedy(); tc.e.Remedy != tc.want {
			t.Errorf("%s: %q, want %q", name, tc.e.Remedy, tc.want)
		}
	}
}

// TestRemedyOrigin has a whole sentence for every answer that makes no sense.
func TestRemedyOrigin(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*origin.Error{
		"made no sense":   {Status: 200},
		"no sense or":     {Status: 206},
		"answer made":     {Status: 304},
		"another region":  {Status: 301},
		"with 418.":       {Status: 418},
		"Teapot. S3 says": {Status: 418, Code: "Teapot", Message: "short and stout"},
		"S3 itself fails": {Status: 500},
	} {
		if got := remedyOrigin(e); !strings.Contains(got, want) {
			t.Errorf("%d: %q, want it to say %q", e.Status, got, want)
		}
	}
}
