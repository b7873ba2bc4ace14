package policy

import (
	"encoding/json"
	"testing"
)

// TestRevoke: the document fits into the room that inline policies leave for it, and is the
// one that denies sessions and nothing else.
func TestRevoke(t *testing.T) {
	t.Parallel()
	var doc struct {
		Statement []struct {
			Effect, Action, Resource string
			Condition                map[string]map[string]string
		}
	}
	if err := json.Unmarshal([]byte(Revoke), &doc); err != nil || len(Revoke) > maxRevoke || len(doc.Statement) != 1 {
		t.Fatalf("%d characters, at most %d: %v: %s", len(Revoke), maxRevoke, err, Revoke)
	}
	s := doc.Statement[0]
	if s.Effect != "Deny" || s.Action != "*" || s.Resource != "*" || len(s.Condition) != 2 ||
		s.Condition["Null"]["aws:TokenIssueTime"] != "false" || s.Condition["Bool"]["aws:ViaAWSService"] != "false" {
		t.Errorf("got %+v", s)
	}
}
