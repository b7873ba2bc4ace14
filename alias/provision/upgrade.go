package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// progressBefore is what versions before the controller stored with an operation and is
// part of the credential now.
type progressBefore struct {
	KeySince      time.Time        `json:"key_since,omitzero"`
	Pending       *alias.SealedKey `json:"pending,omitempty"`
	PendingAt     time.Time        `json:"pending_at,omitzero"`
	SwappedAt     time.Time        `json:"swapped_at,omitzero"`
	RotatedBefore time.Time        `json:"rotated_before,omitzero"`
	DeactivatedAt time.Time        `json:"deactivated_at,omitzero"`
}

// upgrade brings an operation that an earlier version began into today's form, so that it
// is brought to its end.
func (t *task) upgrade(ctx context.Context) error {
	var before progressBefore
	if err := json.Unmarshal(t.op.Data, &before); err != nil {
		return fmt.Errorf("operation %s: %w", t.op.ID, err)
	}
	t.upgradeKeys(&before)
	if r := t.data.Request; r != nil && r.Credential != "" && t.data.Before == nil && t.data.Undo == nil {
		t.data.Before = &granted{t.prov.Grants, t.prov.Policies, t.prov.ExtraGrants}
	}
	t.data.Widened = t.data.Before != nil
	switch {
	case t.data.Undo != nil:
		t.setBack()
	case t.op.Kind == alias.OperationProvision:
		withGrant(t.prov, policy.GrantOf(t.data.Request))
	}
	t.data.Format = progressFormat
	return t.store(ctx)
}

func (t *task) upgradeKeys(before *progressBefore) {
	p := t.prov
	p.KeySince = before.KeySince
	if t.op.Kind == alias.OperationRotate && before.SwappedAt.IsZero() || creates(t.op, &t.data) {
		p.Pending = &alias.PendingKey{SealedKey: alias.SealedKey{Version: t.c.Version}}
		if t.op.Kind == alias.OperationRotate {
			p.Pending.Version++
		}
		if before.Pending != nil {
			p.Pending.SealedKey, p.Pending.CreatedAt = *before.Pending, before.PendingAt
		}
	}
	if p.Previous != nil {
		p.Previous.SwappedAt, p.Previous.InactiveAt = before.SwappedAt, before.DeactivatedAt
		p.Previous.RotatedBefore = before.RotatedBefore
	}
}
