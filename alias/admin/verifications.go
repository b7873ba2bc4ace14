package admin

import (
	"context"
	"net/http"
	"time"

	"ixmage/alias"
)

// verifyTimeout bounds a verification: a dozen requests, each of which may run
// into the deadline that requests to S3 have.
const verifyTimeout = 2 * time.Minute

// verifications are the calls that find out what a key can do.
type verifications struct{ operations }

func (h verifications) mount(t *routes) {
	mount(t, endpoint[none, verificationJSON]{method: http.MethodPost, path: aliasesPath + "/{name}/verify",
		thing: "alias", fields: func(*none) []field { return nil }, bare: true, do: h.verify})
}

func (h verifications) verify(ctx context.Context, c *call[none]) (reply[verificationJSON], error) {
	if h.provisioner == nil {
		return reply[verificationJSON]{}, off()
	}
	var v *alias.Verification
	var err error
	h.hold(context.WithoutCancel(ctx), verifyTimeout, func(ctx context.Context) {
		v, err = h.provisioner.Verify(ctx, c.actor, c.name)
	})
	if err != nil {
		if h.closing.Err() != nil {
			err = errNotReady // it was broken off
		}
		return reply[verificationJSON]{}, err
	}
	return reply[verificationJSON]{body: showVerification(v)}, nil
}

// verificationJSON is a verification as the API shows it.
type verificationJSON struct {
	Alias     alias.Name    `json:"alias"`
	CheckedAt string        `json:"checked_at"`
	Scope     alias.Verdict `json:"scope"`
	Checks    []checkJSON   `json:"checks"`
}

type checkJSON struct {
	Name     string        `json:"name"`
	Expected string        `json:"expected"`
	Got      string        `json:"got"`
	Verdict  alias.Verdict `json:"verdict"`
	Detail   string        `json:"detail"`
}

func showVerification(v *alias.Verification) verificationJSON {
	out := verificationJSON{
		Alias: v.Alias, CheckedAt: stamp(v.CheckedAt), Scope: v.Scope(), Checks: make([]checkJSON, len(v.Checks)),
	}
	for i, c := range v.Checks {
		out.Checks[i] = checkJSON{Name: c.Name, Expected: c.Expected, Got: c.Got, Verdict: c.Verdict, Detail: c.Detail}
	}
	return out
}
