package provision

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
)

// checkKeys looks for keys that this registry does not have. One that a rotation
// could not get rid of is deleted. Any other may be alive in another database:
// it is reported, and made inactive once it is idle.
func (s *scan) checkKeys(ctx context.Context, c *alias.Credential, prov *alias.Provisioned) error {
	keys, err := s.keys(ctx, prov.User.Name)
	if err != nil {
		return err
	}
	for _, k := range keys {
		switch {
		case k.id == prov.AccessKeyID || prov.Previous != nil && k.id == prov.Previous.AccessKeyID:
			continue
		case s.now.Unix()-k.created < int64(s.p.cfg.Timing.OrphanAge.Seconds()):
			continue // an operation that has just ended may not be seen in memory
		case slices.Contains(prov.Discarded, k.id):
			if err := s.deleteKey(ctx, prov.User.Name, k.id); err != nil {
				return err
			}
			continue
		}
		if err := s.unknownKey(ctx, c, prov, k); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) unknownKey(ctx context.Context, c *alias.Credential, prov *alias.Provisioned, k accessKey) error {
	o := alias.Orphan{Kind: orphanKey, User: prov.User.Name, AccessKeyID: k.id, Credential: c.Name,
		State: stateReported, Detail: "this registry does not have it (" + s.lastUse(ctx, k.id) +
			"): delete it, or move it to a user of its own"}
	idle, err := s.idle(ctx, k)
	if err != nil && !isUnimplemented(err) {
		return err
	}
	if idle && s.skipped == "" {
		if k.active {
			if err := s.setKey(ctx, prov.User.Name, k.id, types.StatusTypeInactive); err != nil {
				return err
			}
		}
		o.State = stateQuarantined
	}
	s.add(o)
	return nil
}
