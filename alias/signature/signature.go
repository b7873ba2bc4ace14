// Package signature makes and checks signed URLs. A signed URL is
//
//	/shop/a.jpg?w=400&exp=1798761600&kid=k1&sig=…
//
// where sig is the unpadded base64url form of HMAC-SHA256 over the message
//
//	ixmage-v1
//	/shop/a.jpg
//	exp=1798761600&kid=k1&w=400
//
// with the 32 bytes of the key k1: a line with the version, the path as it stands in the
// request line, and the canonical query without a newline at its end. The canonical query
// has the parameters in Names but sig; each value is percent-decoded once and encoded
// again by RFC 3986, section 2.3; the pairs are sorted by their bytes. All other
// parameters are no part of it.
//
// The message binds neither method nor host: GET and HEAD share a signature, and so do
// all names of a server.
package signature

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Why Verify refuses a request. The texts are values of logs and metrics; clients get
// one answer for all of them.
var (
	// ErrMissing is an absent sig or kid.
	ErrMissing = errors.New("missing")
	// ErrUnknownKey is a kid that is none of the alias's keys: never made, or deleted.
	ErrUnknownKey = errors.New("unknown-kid")
	// ErrBadSignature is a sig that the key did not make for this path and query.
	ErrBadSignature = errors.New("bad-signature")
	// ErrExpired is a good signature whose exp has come.
	ErrExpired = errors.New("expired")
	// ErrMalformed is a query that no signer makes: too long, too many parameters, an
	// invalid escape in a value, an exp that is no number, a sig of another form.
	ErrMalformed = errors.New("malformed")
	// ErrDuplicate is exp, kid or sig more than once.
	ErrDuplicate = errors.New("duplicate")
)

const (
	// SecretSize is the number of bytes of a key.
	SecretSize = sha256.Size
	// MaxQuery is the number of bytes of the longest query that is read.
	MaxQuery = 4 << 10
	// maxPairs bounds the parameters of a query, unknown and empty ones included.
	maxPairs = 64
	// maxKeyID is the number of bytes of the longest key id.
	maxKeyID = 64
	// maxExpiry is the last second of the year 9999: RFC 3339 has no later one.
	maxExpiry = 253402300799

	version = "ixmage-v1\n"
)

// Strict refuses bits that no byte owns: one signature has one spelling.
var encoding = base64.RawURLEncoding.Strict()

// Key signs and verifies. It is safe for concurrent use, and prints no secret.
type Key struct {
	id string
	// A mac that has been reset keeps its hashed key: it is faster than a new one, and
	// allocates nothing.
	macs sync.Pool
}

// mac is an HMAC with a key, and room for the parts of a message.
type mac struct {
	hash.Hash

	pairs []byte
	sum   []byte
}

// unknown stands for the key of an unknown kid, so that an unknown kid and a wrong
// signature take the same time.
var unknown = newKey("", make([]byte, SecretSize))

// NewKey returns the key with an id of at most 64 letters, digits, dots, hyphens,
// underscores and tildes, and 32 bytes. Make it once for each key of an alias, and keep
// it: Verify and Sign are cheap because of what it keeps. No error has the secret in it.
func NewKey(id string, secret []byte) (*Key, error) {
	reserved := func(r rune) bool { return r > '~' || !unreserved(byte(r)) }
	if id == "" || len(id) > maxKeyID || strings.ContainsFunc(id, reserved) {
		return nil, fmt.Errorf("key id of %d bytes: give 1 to %d letters, digits or any of -._~", len(id), maxKeyID)
	}
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("secret of key %s has %d bytes: give %d", id, len(secret), SecretSize)
	}
	return newKey(id, bytes.Clone(secret)), nil
}

// ParseKey returns the key of a text KID:SECRET, where the secret is in unpadded
// base64url, as the API shows it once.
func ParseKey(text string) (*Key, error) {
	id, secret, found := strings.Cut(text, ":")
	b, err := encoding.DecodeString(secret)
	// The decoder skips line ends.
	if !found || err != nil || len(secret) != encoding.EncodedLen(SecretSize) {
		return nil, fmt.Errorf("not a signing key: give KID:SECRET, the secret as the API showed it: "+
			"%d characters of base64url without padding", encoding.EncodedLen(SecretSize))
	}
	return NewKey(id, b)
}

func newKey(id string, secret []byte) *Key {
	return &Key{id: id, macs: sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, secret)} }}}
}

// ID returns the id, the value of kid.
func (k *Key) ID() string { return k.id }

// Sign returns query with exp, kid and sig appended; a zero exp never ends. The path is
// the one of the request line, percent-encoded as the client will send it. A query that
// has exp, kid or sig already, or that Verify would refuse, is an error. The values of
// options are not checked.
func (k *Key) Sign(path, query string, exp time.Time) (string, error) {
	if err := signable(path, query); err != nil {
		return "", err
	}
	if query != "" {
		query += "&"
	}
	if !exp.IsZero() {
		unix := exp.Unix()
		if unix < 0 || unix > maxExpiry {
			return "", fmt.Errorf("expiry %s: give a time from 1970 to 9999", exp.UTC().Format(time.RFC3339))
		}
		query += "exp=" + strconv.FormatInt(unix, 10) + "&"
	}
	query += "kid=" + k.id
	var q parameters
	if err := q.parse([]byte(query)); err != nil {
		return "", signError(err)
	}
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	sum, err := m.of([]byte(path), &q)
	if err != nil {
		return "", signError(err)
	}
	query += "&sig=" + encoding.EncodeToString(sum)
	if len(query) > MaxQuery || strings.Count(query, "&") >= maxPairs {
		return "", signError(ErrMalformed)
	}
	return query, nil
}

// signable refuses what a client would encode or cut off before it sends it, and what is
// signed already.
func signable(path, query string) error {
	notSent := func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }
	notInPath := func(r rune) bool { return notSent(r) || r == '?' || r > '~' }
	if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, notInPath) {
		return errors.New("path cannot be signed: give it from its first slash, percent-encoded, without query and fragment")
	}
	if strings.ContainsFunc(query, notSent) {
		return errors.New("query cannot be signed: percent-encode spaces, control characters and '#'")
	}
	var q parameters
	if err := q.parse([]byte(query)); err != nil {
		return signError(err)
	}
	if q.exp != nil || q.kid != nil || q.sig != nil {
		return signError(ErrDuplicate)
	}
	return nil
}

func signError(err error) error {
	if errors.Is(err, ErrDuplicate) {
		return errors.New("query has exp, kid or sig already: give the URL without a signature")
	}
	return fmt.Errorf("query cannot be signed: at most %d bytes and %d parameters, those of the signature included, "+
		"and two hex digits after every percent sign", MaxQuery, maxPairs)
}

// Message returns what is signed for a path and a query, both as in the request line.
// The query has exp and kid already; sig and unknown parameters do not matter.
func Message(path, query string) (string, error) {
	var q parameters
	if err := q.parse([]byte(query)); err != nil {
		return "", err
	}
	var b strings.Builder
	if _, err := q.write(&b, []byte(path), nil); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Verify checks the signature of a request, and returns its expiry, which is zero for a
// URL that never ends, and the id of the key. The error is one of those above.
//
// It is made for the hot path, before options and cache: call it where a signature is
// needed, with the bytes of the request target up to the first '?' (not decoded, not
// normalised; in absolute form without scheme and host) and those after it. It keeps
// neither, allocates nothing, and its time does not depend on where a wrong signature
// differs, or on whether the key exists. Nil keys refuse everything.
//
// Names are compared as written: a reader of options must neither decode names nor split
// pairs at anything but '&' and their first '=', or it would see an option that was not
// signed. A known option that is there twice is the options' error, not one of these.
func Verify(keys []*Key, rawPath, rawQuery []byte, now time.Time) (exp time.Time, kid string, err error) {
	var q parameters
	if err := q.parse(rawQuery); err != nil {
		return time.Time{}, "", err
	}
	if q.sig == nil || q.kid == nil {
		return time.Time{}, "", ErrMissing
	}
	var sig [SecretSize]byte
	if len(q.sig) != encoding.EncodedLen(SecretSize) {
		return time.Time{}, "", ErrMalformed
	}
	if n, err := encoding.Decode(sig[:], q.sig); err != nil || n != SecretSize {
		return time.Time{}, "", ErrMalformed
	}
	k, known := find(keys, q.kid)
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	sum, err := m.of(rawPath, &q)
	switch good := hmac.Equal(sum, sig[:]); {
	case err != nil:
		return time.Time{}, "", err
	case !known:
		return time.Time{}, "", ErrUnknownKey
	case !good:
		return time.Time{}, "", ErrBadSignature
	}
	exp, err = q.expiry(now)
	if err != nil {
		return time.Time{}, "", err
	}
	return exp, k.id, nil
}

// find returns the key with an id, or one that nobody has.
func find(keys []*Key, id []byte) (*Key, bool) {
	for _, k := range keys {
		if k.id == string(id) {
			return k, true
		}
	}
	return unknown, false
}

func (m *mac) of(path []byte, q *parameters) (sum []byte, err error) {
	m.Reset()
	m.pairs, err = q.write(m, path, m.pairs[:0])
	m.sum = m.Sum(m.sum[:0])
	return m.sum, err
}
