package admin

import (
	"context"
	"net/http"
	"time"

	"ixmage/alias"
)

const orphansPath = "/api/v1/orphans"

// removeTimeout bounds the deletion of an orphan, which waits for what IAM is slow
// to show. The same call again goes on where it ended.
const removeTimeout = 5 * time.Minute

// orphans are the calls about what stands in IAM and belongs to no credential.
type orphans struct{ operations }

func (h orphans) mount(t *routes) {
	mount(t, endpoint[none, orphansJSON]{method: http.MethodGet, path: orphansPath, do: h.list})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: orphansPath + "/{user}", thing: "orphan",
		do: h.remove})
}

// orphansJSON is the report on orphans as the API shows it.
type orphansJSON struct {
	ScannedAt *string      `json:"scanned_at"`
	Orphans   []orphanJSON `json:"orphans"`
	Skipped   string       `json:"skipped"`
}

type orphanJSON struct {
	Kind        string     `json:"kind"`
	User        string     `json:"user"`
	AccessKeyID string     `json:"access_key_id"`
	Credential  alias.Name `json:"credential"`
	FoundAt     *string    `json:"found_at"`
	State       string     `json:"state"`
	Detail      string     `json:"detail"`
}

func (h orphans) list(ctx context.Context, _ *call[none]) (reply[orphansJSON], error) {
	if h.provisioner == nil {
		return reply[orphansJSON]{}, off()
	}
	report, err := h.provisioner.Orphans(ctx)
	if err != nil {
		return reply[orphansJSON]{}, err
	}
	out := orphansJSON{
		ScannedAt: stampOrNull(report.ScannedAt), Orphans: make([]orphanJSON, len(report.Orphans)), Skipped: report.Skipped,
	}
	for i, o := range report.Orphans {
		out.Orphans[i] = orphanJSON{
			Kind: o.Kind, User: o.User, AccessKeyID: o.AccessKeyID, Credential: o.Credential,
			FoundAt: stampOrNull(o.FoundAt), State: o.State, Detail: o.Detail,
		}
	}
	return reply[orphansJSON]{body: out}, nil
}

func (h orphans) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	if h.provisioner == nil {
		return reply[none]{}, off()
	}
	var err error
	h.hold(context.WithoutCancel(ctx), removeTimeout, func(ctx context.Context) {
		err = h.provisioner.RemoveOrphan(ctx, c.actor, c.id)
	})
	return reply[none]{status: http.StatusNoContent}, err
}
