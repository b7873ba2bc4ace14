package provision

import (
	"context"
	"strings"
	"sync"

	"ixmage/alias"
)

// locks are mutexes of this process by name, whose lock call ends with its context. In a fleet
// each stands before the lease of the same name: see locked.
type locks struct {
	mu   sync.Mutex // guards held
	held map[string]chan struct{}
}

func credentialLock(name alias.Name) string { return "credential:" + string(name) }

// userLock is that of a user which belongs to no credential.
func userLock(name string) string { return "user:" + name }

// policyLock is the same for all paths of a policy: IAM has one name once in an account.
func policyLock(arn string) string { return "policy:" + arn[strings.LastIndexByte(arn, '/')+1:] }

// try takes a lock if it is free.
func (l *locks) try(name string) (release func(), free bool) {
	release, busy := l.tryOrWait(name)
	return release, busy == nil
}

// lock waits for a lock until ctx ends.
func (l *locks) lock(ctx context.Context, name string) (release func(), err error) {
	for {
		release, busy := l.tryOrWait(name)
		if busy == nil {
			return release, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryOrWait takes a lock, or returns a channel that is closed when the lock is released.
func (l *locks) tryOrWait(name string) (release func(), busy <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held, taken := l.held[name]; taken {
		return nil, held
	}
	if l.held == nil {
		l.held = map[string]chan struct{}{}
	}
	freed := make(chan struct{})
	l.held[name] = freed
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, name)
		close(freed)
	}, nil
}
