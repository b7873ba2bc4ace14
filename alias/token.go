package alias

import (
	"crypto/sha256"
	"slices"
	"time"
)

// TokenRole is what the holder of an admin token may do.
type TokenRole string

// Roles of a token. Each of them may read.
const (
	RoleRead      TokenRole = "read"
	RolePurge     TokenRole = "purge"     // purge the cache
	RoleAlias     TokenRole = "alias"     // write aliases and static credentials
	RoleProvision TokenRole = "provision" // write to IAM
	RoleAdmin     TokenRole = "admin"     // everything
)

// TokenRoles lists the roles, the least first.
var TokenRoles = []TokenRole{RoleRead, RolePurge, RoleAlias, RoleProvision, RoleAdmin}

// TokenDigest is the SHA-256 of the text of a token, which has enough random bits that no
// slower hash is needed.
type TokenDigest [sha256.Size]byte

// DigestOf returns the digest of the text of a token.
func DigestOf(text string) TokenDigest { return sha256.Sum256([]byte(text)) }

// Token is a named admin token. The registry has its digest only.
type Token struct {
	ID      int64
	Name    Name
	Roles   []TokenRole // in the order of TokenRoles, at least one
	Buckets []string    // patterns of the buckets whose aliases it may see; empty: all
	Digest  TokenDigest

	CreatedAt  time.Time
	CreatedBy  string    // the actor
	ExpiresAt  time.Time // zero: never
	LastUsedAt time.Time // zero: never
}

// May reports whether the token has one of the roles. An admin may everything.
func (t *Token) May(roles []TokenRole) bool {
	return slices.ContainsFunc(t.Roles, func(r TokenRole) bool { return r == RoleAdmin || slices.Contains(roles, r) })
}

// Expired reports whether the token is no longer valid at a time.
func (t *Token) Expired(at time.Time) bool { return !t.ExpiresAt.IsZero() && !at.Before(t.ExpiresAt) }
