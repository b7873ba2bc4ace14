package provision

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"ixmage/alias"
	"ixmage/internal/panics"
)

// nextRotation is when a credential is to be rotated by itself: derived from
// the registry, so that no restart forgets it. A part of the interval, the same
// for one key each time it is asked, keeps keys made together apart.
func nextRotation(c *alias.Credential, p *alias.Provisioned) time.Time {
	since := c.CreatedAt
	if !c.RotatedAt.IsZero() {
		since = c.RotatedAt
	}
	h := fnv.New32a()
	fmt.Fprint(h, c.ID, c.Version)
	jitter := time.Duration(float64(p.RotateEvery) / 10 * float64(h.Sum32()) / float64(1<<32))
	return since.Add(p.RotateEvery - jitter)
}

// scheduleEvery is how often the schedule is looked at.
const scheduleEvery = time.Minute

// rotateDue begins the rotations that are due, one at a time with a gap.
func (p *Provisioner) rotateDue(ctx context.Context) {
	var due []alias.Name
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		if ok && c.State == alias.CredentialActive && p.due(c, prov) {
			due = append(due, c.Name)
		}
		return true
	})
	for _, name := range due {
		if p.failedLately(ctx, name) {
			continue
		}
		err := panics.Catch(p.log, "scheduled rotation of "+string(name), func() error {
			_, err := p.Rotate(ctx, "schedule", name, false)
			return err
		})
		if err != nil && ctx.Err() == nil {
			p.log.Warn("cannot begin a scheduled rotation", "credential", string(name), "error", err)
		}
		if p.clock.Sleep(ctx, p.cfg.Timing.RotateGap) != nil {
			return
		}
	}
}

// due reports whether a credential is to be rotated now. One that a failed
// rotation left with two keys is, whatever its age.
func (p *Provisioner) due(c *alias.Credential, prov *alias.Provisioned) bool {
	return prov.Previous != nil || prov.RotateEvery > 0 && !nextRotation(c, prov).After(p.clock.Now())
}

// rotateAgain is how long the schedule leaves a credential alone whose rotation
// has failed.
const rotateAgain = time.Hour

func (p *Provisioner) failedLately(ctx context.Context, name alias.Name) bool {
	list, err := p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{Credential: name, Limit: 1})
	if err != nil {
		return true
	}
	return len(list) == 1 && list[0].State == alias.OperationFailed &&
		p.clock.Now().Sub(list[0].FinishedAt) < rotateAgain
}
