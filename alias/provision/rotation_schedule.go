package provision

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"ixmage/alias"
	"ixmage/internal/panics"
)

// nextRotation is the time of the next scheduled rotation of a credential. It depends
// on the registry only, so that a restart does not change it. A jitter derived from
// the id and version spreads the rotations of keys that were made together.
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

// scheduleEvery is the interval between two checks of the schedule.
const scheduleEvery = time.Minute

// rotateDue begins the rotations that are due, with RotateGap between two of them.
func (p *Provisioner) rotateDue(ctx context.Context) {
	if err := p.boundaryAsked(nil); err != nil {
		p.unbounded.Do(func() { p.log.Warn("scheduled rotations do not start", "error", err) })
	}
	var due []alias.Name
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		if ok && c.State == alias.CredentialActive && p.mayRotate(c) && p.due(c, prov) {
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
			p.log.Warn("scheduled rotation not started", "credential", string(name), "error", err)
		}
		if p.clock.Sleep(ctx, p.cfg.Timing.RotateGap) != nil {
			return
		}
	}
}

// mayRotate reports whether a rotation may be asked for in the account of a credential.
func (p *Provisioner) mayRotate(c *alias.Credential) bool {
	a, err := p.accountOfCredential(c)
	return err == nil && p.boundaryAsked(a) == nil
}

// due reports whether a credential is to be rotated now. A credential that a failed
// rotation left with two keys is always due.
func (p *Provisioner) due(c *alias.Credential, prov *alias.Provisioned) bool {
	return prov.Previous != nil || prov.RotateEvery > 0 && !nextRotation(c, prov).After(p.clock.Now())
}

// rotateAgain is the time between a failed rotation of a credential and the next
// scheduled one.
const rotateAgain = time.Hour

func (p *Provisioner) failedLately(ctx context.Context, name alias.Name) bool {
	list, err := p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{Credential: name, Limit: 1})
	if err != nil {
		return true
	}
	return len(list) == 1 && list[0].State == alias.OperationFailed &&
		p.clock.Now().Sub(list[0].FinishedAt) < rotateAgain
}
