package admin

import (
	"testing"

	"ixmage/alias"
)

// TestPatchUnderStricterPolicy has an alias from a time when private endpoints
// were allowed.
func TestPatchUnderStricterPolicy(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	err := a.store.Update(t.Context(), func(tx alias.Tx) error {
		c := &alias.Credential{
			ID: 1, Name: "pub", Provider: alias.Anonymous{}, Version: 1, State: alias.CredentialActive, Revision: 1,
		}
		if err := tx.InsertCredential(c); err != nil {
			return err
		}
		return tx.InsertAlias(&alias.Alias{
			ID: 1, Name: "old", CredentialID: 1, Enabled: true, State: alias.StateActive, Epoch: 1, Revision: 1,
			Location: alias.Location{Bucket: "media", Region: "us-east-1", Endpoint: "http://10.0.0.1:9000"},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		patch  string
		status int
		fields []string
	}{
		{`{"enabled":false}`, 200, nil},
		{`{"endpoint":"http://10.0.0.1:9000","ttl":"1m"}`, 200, nil},
		{`{"enabled":true,"colour":"red"}`, 400, []string{"colour"}},
		{`{"endpoint":"http://10.0.0.2:9000"}`, 400, []string{"endpoint"}},
		{`{"endpoint":"http://10.0.0.2:9000","colour":"red"}`, 400, []string{"colour", "endpoint"}},
		{`{"endpoint":null}`, 200, nil},
		{`{"endpoint":"http://10.0.0.1:9000"}`, 400, []string{"endpoint"}},
	} {
		code := ""
		if row.status == 400 {
			code = "invalid"
		}
		r := a.do("PATCH", aliasesPath+"/old", row.patch).want(row.status, code)
		if code == "" {
			continue
		}
		got := r.problem().Errors
		for i, f := range row.fields {
			if len(got) != len(row.fields) || got[i].Field != f {
				t.Errorf("%s: got %v, want problems with %v", row.patch, got, row.fields)
				break
			}
		}
	}
}
