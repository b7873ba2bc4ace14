package policy

import "testing"

// TestRevoke: the document fits into the room that inline policies leave for it.
func TestRevoke(t *testing.T) {
	t.Parallel()
	const want = `{"Version":"2012-10-17","Statement":[{"Sid":"ixmageRevoke","Effect":"Deny","Action":"*","Resource":"*",` +
		`"Condition":{"Bool":{"aws:ViaAWSService":"false"},"Null":{"aws:TokenIssueTime":"false"}}}]}`
	got := Revoke()
	if string(got) != want || len(got) > maxRevoke {
		t.Errorf("%d characters, at most %d: %s", len(got), maxRevoke, got)
	}
}
