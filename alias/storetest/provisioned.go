package storetest

import (
	"testing"
	"time"

	"ixmage/alias"
)

func testProvisionedRoundTrip(t *testing.T, s alias.Store) {
	full := credential(1, "media")
	full.State = alias.CredentialRotating
	full.Provider = &alias.Provisioned{
		AccessKeyID: `AKIA"1`, Mode: alias.PolicyManaged, Operation: "op-1", RotateEvery: 90*24*time.Hour + 1,
		User: alias.IAMUser{
			Name: "u", Path: "/ixmage/i/", ARN: "arn:aws:iam::1:user/ixmage/i/u", ID: "AIDA1",
			Boundary: "arn:aws:iam::1:policy/b",
		},
		Grants: []alias.Grant{
			{
				Bucket: "acme-media", Prefix: "a&b<c>/", KMSKeyARN: "arn:aws:kms:eu-west-1:1:key/k", Region: "eu-west-1",
				Endpoint: "https://s3.example.com", PathStyle: true,
			},
			{Bucket: "acme-logos"},
		},
		Policies: []alias.PolicyRef{{ARN: "arn:aws:iam::1:policy/p", Ours: true}, {ARN: "arn:aws:iam::aws:policy/q"}},
		Tags:     map[string]string{"team": "wéb", "": ""},
		Previous: &alias.PreviousKey{
			SealedKey: alias.SealedKey{AccessKeyID: "AKIA0", Sealed: []byte{0, 0xff, 1}, Version: 2}, Until: at.Add(time.Hour),
		},
	}
	bare := &alias.Credential{
		ID: 2, Name: "new", Provider: &alias.Provisioned{}, State: alias.CredentialProvisioning, Version: 1, Revision: 1,
	}
	seed(t, s, []*alias.Credential{full, bare}, anAlias(1, "shop", full))
	wantCredential(t, s, full)
	wantCredential(t, s, bare)

	changed := *full
	changed.Provider = &alias.Provisioned{AccessKeyID: "AKIA2", Mode: alias.PolicyReadOnly}
	changed.Sealed = []byte("sealed anew")
	changed.State, changed.Revision, changed.Version = alias.CredentialFailed, 2, 4
	must(t, s, func(tx alias.Tx) error { return tx.UpdateCredential(&changed) })
	wantCredential(t, s, &changed)
	wantCredential(t, s, bare)
}
