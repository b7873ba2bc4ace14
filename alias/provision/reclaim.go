package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// Reclaim makes this registry the one that acts on the user of a credential: it writes all
// tags of the credential and a new generation. Another copy of the registry then sees that
// it is not the one. Errors: alias.ErrNotFound, alias.ErrNotProvisioned, alias.ErrBusy while
// an operation runs on the credential, alias.ErrOtherUser if the user is not the one that
// was made or adopted for it.
func (p *Provisioner) Reclaim(ctx context.Context, actor string, name alias.Name) (*alias.Credential, error) {
	if err := p.enabled(); err != nil {
		return nil, err
	}
	t := &task{p: p, actor: actor, missed: map[actionKind]miss{}}
	if err := t.read(ctx, name); err != nil {
		return nil, err
	}
	if _, err := p.accountOfCredential(t.c); err != nil {
		return nil, err
	}
	err := t.reclaim(ctx)
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	p.audit(ctx, &alias.AuditEntry{
		Actor: actor, Action: "reclaim", User: t.prov.User.Name, Credential: name, Outcome: outcome,
		Detail: t.prov.Generation,
	})
	if err != nil {
		return nil, publicError(err)
	}
	p.editReport(ctx, func(r *OrphanReport) {
		r.Orphans = slices.DeleteFunc(r.Orphans, func(o Orphan) bool {
			return o.Kind == orphanCopied && o.Credential == name
		})
	})
	return t.c, nil
}

// reclaimVisible bounds the wait until IAM shows the new generation. The client waits for it.
const reclaimVisible = 10 * time.Second

// reclaim holds the lock of the credential, so that reconcile does not look at the user
// between the two writes.
func (t *task) reclaim(ctx context.Context) error {
	name := t.c.Name
	if err := t.idle(ctx); err != nil {
		return err
	}
	waits := true
	err := t.p.locked(ctx, credentialLock(name), func(ctx context.Context) error {
		waits = false
		return t.reclaimLocked(ctx, name)
	})
	if waits && ctx.Err() != nil {
		return fmt.Errorf("credential %s: %w: repeat the request", name, alias.ErrBusy)
	}
	return err
}

func (t *task) reclaimLocked(ctx context.Context, name alias.Name) error {
	if err := errors.Join(t.idle(ctx), t.read(ctx, name)); err != nil {
		return err
	}
	found, err := t.caller().getUser(ctx, t.prov.User.Name)
	if isGone(err) {
		return fmt.Errorf("%w: the IAM user %s does not exist any more: provision its aliases again",
			alias.ErrOtherUser, t.prov.User.Name)
	}
	if err != nil {
		return err
	}
	if judge(t.prov, found, t.p.cfg.InstallID).state == userForeign {
		return fmt.Errorf("%w: the IAM user %s is not the one that this server made for the credential %s; "+
			"it was not changed", alias.ErrOtherUser, t.prov.User.Name, name)
	}
	if found.Path != t.prov.User.Path {
		return fmt.Errorf("%w: the IAM user %s is under the path %s and not under %s any more: move it back, "+
			"and repeat the request", alias.ErrOtherUser, t.prov.User.Name, plainNames([]string{found.Path}), t.prov.User.Path)
	}
	return t.takeBack(ctx, found)
}

// idle returns alias.ErrBusy if an operation runs on the credential.
func (t *task) idle(ctx context.Context) error {
	list, err := t.p.cfg.Registry.History().Operations(ctx, alias.OperationFilter{
		Credential: t.c.Name, State: alias.OperationRunning, Limit: 1,
	})
	if err == nil && len(list) > 0 {
		err = busyWith(t.c.Name, list[0])
	}
	return err
}

func busyWith(name alias.Name, running *alias.Operation) error {
	return fmt.Errorf("credential %s: %w: %s, of kind %s; wait for its end", name, alias.ErrBusy, running.ID, running.Kind)
}

// takeBack writes the tags. The new generation is stored first: if the process dies before
// IAM has it, the user still shows that of the other copy, and the request can be repeated.
func (t *task) takeBack(ctx context.Context, found *iamUser) error {
	before := t.prov.Clone()
	raiseAbove(t.prov, found.tags[policy.TagGeneration])
	idle := func(tx alias.Tx) ([]alias.Change, error) {
		running, err := tx.RunningOperation("", t.c.Name)
		if err == nil {
			err = busyWith(t.c.Name, running)
		}
		return nil, ignoreMissing(err)
	}
	if err := t.store(ctx, idle); errors.Is(err, alias.ErrStale) {
		return fmt.Errorf("credential %s: %w: it was changed meanwhile; repeat the request", t.c.Name, alias.ErrBusy)
	} else if err != nil {
		return err
	}
	tags := maps.Clone(t.prov.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	tags[policy.TagManagedBy], tags[policy.TagInstall] = policy.ManagedBy, t.p.cfg.InstallID
	tags[policy.TagOperation], tags[policy.TagGeneration] = t.prov.Operation, t.prov.Generation
	err := t.writeTags(ctx, tags)
	if isUnimplemented(err) {
		t.prov.Generation, t.prov.GenerationsBefore = before.Generation, before.GenerationsBefore
		t.prov.GenerationSeen = before.GenerationSeen
		ours := judge(before, found, t.p.cfg.InstallID).state == userOurs
		if stored := t.store(ctx); stored != nil || ours {
			return stored // the server cannot tag users, and the tags are still those that it was made with
		}
	}
	if err != nil {
		return err
	}
	t.awaitGeneration(ctx)
	err = t.store(context.WithoutCancel(ctx)) // the tags are written
	if errors.Is(err, alias.ErrStale) {
		return nil // an operation that began meanwhile looks at the user itself
	}
	return err
}

// awaitGeneration waits until IAM shows the new generation. If that takes longer, an
// operation that is asked for at once may still see that of the other copy, and stops.
func (t *task) awaitGeneration(ctx context.Context) {
	_ = t.p.until(ctx, reclaimVisible, func() (bool, error) {
		now, err := t.caller().getUser(ctx, t.prov.User.Name)
		t.prov.GenerationSeen = err == nil && judge(t.prov, now, t.p.cfg.InstallID).state == userOurs
		return t.prov.GenerationSeen, err
	})
}

// raiseAbove gives a credential a new generation, whose number is above its own and that on
// the user.
func raiseAbove(p *alias.Provisioned, onUser string) {
	before := p.GenerationsBefore
	if p.Generation != "" {
		before = append(before, p.Generation)
	}
	if generationNumber(onUser) > generationNumber(p.Generation) {
		p.Generation = onUser
	}
	p.GenerationSeen = true // so that it is raised even if IAM has not shown the last one
	raiseGeneration(p)
	p.GenerationsBefore = before[max(0, len(before)-generationsKept):] // and not that of the other copy
}

// generationNumber is 0 for a tag that this program did not write.
func generationNumber(generation string) int64 {
	number, _, _ := strings.Cut(generation, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0
	}
	return n
}
