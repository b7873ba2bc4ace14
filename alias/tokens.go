package alias

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Tokens are the named admin tokens, in memory and in a Store. All methods are safe for
// concurrent use. Create, Delete, Flush and Run do I/O; the others do
// not.
type Tokens struct {
	store Store

	writing sync.Mutex // a write of the store and then of memory: two would swap their order otherwise

	mu     sync.RWMutex // guards the fields below and their values
	tokens map[TokenDigest]*Token
	used   map[int64]time.Time // by id: uses that are not stored yet
	writes int                 // counts the writes that memory has
}

// OpenTokens reads the tokens of a store, which the caller closes.
func OpenTokens(ctx context.Context, store Store) (*Tokens, error) {
	list, err := store.Tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the admin tokens: %w", err)
	}
	t := &Tokens{store: store, tokens: make(map[TokenDigest]*Token, len(list)), used: map[int64]time.Time{}}
	for _, k := range list {
		t.tokens[k.Digest] = k
	}
	return t, nil
}

// Find returns the token with a digest, expired ones too.
func (t *Tokens) Find(digest TokenDigest) (Token, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	k, ok := t.tokens[digest]
	if !ok {
		return Token{}, false
	}
	return *k, true
}

// Use notes that a token is used now. The time is stored by Flush.
func (t *Tokens) Use(digest TokenDigest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.tokens[digest]; ok {
		k.LastUsedAt = now()
		t.used[k.ID] = k.LastUsedAt
	}
}

// List returns all tokens by name.
func (t *Tokens) List() []Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]Token, 0, len(t.tokens))
	for _, k := range t.tokens {
		list = append(list, *k)
	}
	slices.SortFunc(list, func(a, b Token) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Named returns the token with a name.
func (t *Tokens) Named(name Name) (Token, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, k := range t.tokens {
		if k.Name == name {
			return *k, true
		}
	}
	return Token{}, false
}

// Create stores a new token, and an entry of the audit: ErrExists if its name is taken.
// It sets the ID and the time of creation.
func (t *Tokens) Create(ctx context.Context, k Token) (Token, error) {
	k.ID, k.CreatedAt = NewID(), now()
	err := t.write(ctx, k.audit(k.CreatedBy, "create-token"),
		func(tx Tx) error { return tx.InsertToken(&k) }, func() { t.tokens[k.Digest] = &k })
	if errors.Is(err, ErrExists) {
		return Token{}, fmt.Errorf("the token %s: %w", k.Name, ErrExists)
	}
	return k, err
}

// Delete deletes the token with a name, and adds an entry to the audit: ErrNotFound if
// there is none. The token is refused when Delete returns nil.
func (t *Tokens) Delete(ctx context.Context, name Name, actor string) error {
	k, ok := t.Named(name)
	if !ok {
		return ErrNotFound
	}
	err := t.write(ctx, k.audit(actor, "delete-token"), func(tx Tx) error { return tx.DeleteToken(k.ID) }, func() {
		delete(t.tokens, k.Digest)
		delete(t.used, k.ID)
	})
	if errors.Is(err, ErrStale) { // another call deleted it
		return ErrNotFound
	}
	return err
}

// write changes the store, in one transaction with an entry of the audit, and then memory.
func (t *Tokens) write(ctx context.Context, entry *AuditEntry, store func(Tx) error, memory func()) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	err := t.store.Update(ctx, func(tx Tx) error {
		if err := store(tx); err != nil {
			return err
		}
		return tx.AddAudit(entry)
	})
	if err != nil {
		t.resync(ctx)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	memory()
	t.writes++
	return nil
}

// Reload reads the tokens again, because another node has changed them. It does not wait for a
// write: that may wait for a transaction which waits for this.
func (t *Tokens) Reload(ctx context.Context) error { return t.read(ctx) }

// resync reads the tokens again after a write that failed: a database on a network may
// have committed although its answer was lost.
func (t *Tokens) resync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resyncTimeout)
	defer cancel()
	_ = t.read(ctx) // memory keeps the state before the write until the next write or a restart
}

// read reads the tokens. If a write ends meanwhile, it reads them again, because they may be from
// before it.
func (t *Tokens) read(ctx context.Context) error {
	for {
		t.mu.RLock()
		before := t.writes
		t.mu.RUnlock()
		list, err := t.store.Tokens(ctx)
		if err != nil {
			return fmt.Errorf("read the admin tokens: %w", err)
		}
		if t.replace(list, before) {
			return nil
		}
	}
}

// replace puts a list into memory, unless a write has ended since.
func (t *Tokens) replace(list []*Token, writes int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writes != writes {
		return false
	}
	clear(t.tokens)
	for _, k := range list {
		if at, ok := t.used[k.ID]; ok {
			k.LastUsedAt = at
		}
		t.tokens[k.Digest] = k
	}
	return true
}

func (k *Token) audit(actor, action string) *AuditEntry {
	return &AuditEntry{At: now(), Actor: actor, Action: action, Outcome: "ok", Detail: k.describe()}
}

func (k *Token) describe() string {
	text := fmt.Sprintf("the admin token %s with the roles %v", k.Name, k.Roles)
	if len(k.Buckets) > 0 {
		text += fmt.Sprintf(" for the buckets %v", k.Buckets)
	}
	if !k.ExpiresAt.IsZero() {
		text += " until " + k.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return text
}

// tokenFlush is the interval of Run.
const tokenFlush = time.Minute

// Run stores the times of the last uses once a minute until ctx ends, and once more
// afterwards. It returns nil.
func (t *Tokens) Run(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(tokenFlush)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		if err := t.Flush(context.WithoutCancel(ctx)); err != nil {
			log.WarnContext(ctx, "the last uses of admin tokens are not stored", "error", err)
		}
	}
	return nil
}

// Flush stores the times of the last uses.
func (t *Tokens) Flush(ctx context.Context) error {
	t.mu.Lock()
	used := t.used
	t.used = map[int64]time.Time{}
	t.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resyncTimeout)
	defer cancel()
	err := t.store.Update(ctx, func(tx Tx) error {
		for id, at := range used {
			if err := tx.TouchToken(id, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, at := range used {
		if _, later := t.used[id]; !later {
			t.used[id] = at
		}
	}
	return fmt.Errorf("store the last uses of admin tokens: %w", err)
}
