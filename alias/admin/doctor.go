package admin

import (
	"context"
	"net/http"

	"ixmage/alias"
	"ixmage/alias/doctor"
)

// Doctor examines the server, its credentials and what it depends on. It changes nothing. Its
// report must hold no secret.
type Doctor interface {
	Examine(ctx context.Context) *doctor.Report
}

// examinations is the call that examines the server.
type examinations struct {
	doctor Doctor
	one    chan struct{} // has an element while an examination runs: it makes many calls of AWS
}

func (h examinations) mount(t *routes) {
	const summary = "Examine the server's own credentials and rights, the buckets, roles and endpoints that it uses, " +
		"and its clock"
	mount(t, endpoint[none, doctor.Report]{method: http.MethodGet, path: "/api/v1/doctor", allBuckets: true,
		summary: summary, roles: []alias.TokenRole{alias.RoleProvision},
		fails: []error{errNotImplemented, alias.ErrBusy}, do: h.examine})
}

func (h examinations) examine(ctx context.Context, _ *call[none]) (reply[doctor.Report], error) {
	if h.doctor == nil {
		return reply[doctor.Report]{}, errNotImplemented
	}
	select {
	case h.one <- struct{}{}:
		defer func() { <-h.one }()
	default:
		return reply[doctor.Report]{}, failf(alias.ErrBusy, "another examination runs; repeat this one when that has ended")
	}
	return reply[doctor.Report]{body: *h.doctor.Examine(ctx)}, nil
}
