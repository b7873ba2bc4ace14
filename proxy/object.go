package proxy

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// errNoLength means that a client needs the length of an object in advance and S3 did not
// tell it.
var errNoLength = errors.New("the object's length is not known")

// object is the metadata of one version of an object, with every header of a response
// ready to be written. It is made once, when the object is fetched, and shared by all
// requests for it.
type object struct {
	validators
	size         int64 // negative if S3 did not tell it
	contentType  []byte
	etagLine     []byte
	modifiedLine []byte
	cacheControl []byte
	ttl          time.Duration // of the alias, for which cacheControl was made
	said         freshHeaders
	lifetimes    lifetimes
	born         time.Time // when its Age was zero

	// See socketPages.
	inSockets atomic.Int64 // connections that may hold pages of it
	lastEnd   atomic.Int64 // when the server ended one of them, in nanoseconds of Unix time
	expires   atomic.Bool  // a timer counts from lastEnd

	// variant says that it was made of other objects, and madeOf names their versions. That is
	// empty if they have no strong entity tags.
	variant bool
	madeOf  string

	wrong304 atomic.Bool // S3 has called another version unchanged

	hit atomic.Pointer[hitLines]

	fetched *origin.SpanID // of the fetch, if that was traced
}

// hitLines are the headers of a memory hit that change with time. They are made at most
// once a second.
type hitLines struct {
	second int64
	age    []byte
	status []byte
}

// newObject makes the headers for clients from S3's answer. It copies none unchecked: the
// type comes from a fixed list, the entity tag is validated, the date and the
// Cache-Control are parsed and written again.
func newObject(o *origin.Object, a *alias.Alias, contentType string) *object {
	obj := &object{
		validators:  validatorsOf(o),
		size:        o.Size,
		contentType: []byte(contentType),
	}
	obj.setLines()
	obj.setLifetimes(freshHeadersOf(o), o.Born, a)
	return obj
}

// setLines makes the headers of the validators.
func (o *object) setLines() {
	if o.etag != "" {
		o.etagLine = []byte(o.etag)
	}
	if !o.modified.IsZero() {
		o.modifiedLine = appendDate(nil, o.modified)
	}
}

// setLifetimes sets how long the object may be served, and its Cache-Control.
func (o *object) setLifetimes(said freshHeaders, born time.Time, a *alias.Alias) {
	said.cacheControl, said.expires = strings.Clone(said.cacheControl), strings.Clone(said.expires)
	o.said, o.born = said, born
	o.lifetimes = lifetimesOf(said, a)
	o.ttl = a.TTL
	o.cacheControl = []byte(cacheControlFor(said, a.TTL, ""))
}

// cacheControlFor returns the Cache-Control of an answer. An object that is served stale
// after its alias got another ttl has not been revalidated under that ttl yet.
func (o *object) cacheControlFor(a *alias.Alias) []byte {
	if o.ttl == a.TTL {
		return o.cacheControl
	}
	return []byte(cacheControlFor(o.said, a.TTL, ""))
}

// source describes the object to the cache.
func (o *object) source() *cache.Source {
	l := o.lifetimes
	src := &cache.Source{
		Meta: o, MetaBytes: o.bytes(), Size: o.size,
		Fresh: l.fresh, Age: time.Since(o.born), StaleWhileRevalidate: l.staleWhile, StaleIfError: l.staleError,
		DefaultStaleWhileRevalidate: l.byDefault,
		Validate:                    l.store && (o.etag != "" || !o.modified.IsZero()),
	}
	if o.size < 0 {
		src.Measured = func(size int64) any { return o.measured(size) }
	}
	return src
}

// measured returns an object of unknown length with the length that it turned out to have.
func (o *object) measured(size int64) *object {
	return &object{
		validators: o.validators, size: size, contentType: o.contentType,
		etagLine: o.etagLine, modifiedLine: o.modifiedLine, cacheControl: o.cacheControl,
		ttl: o.ttl, said: o.said, lifetimes: o.lifetimes, born: o.born,
	}
}

// isShareable reports whether the answer may be given to other requests than its own.
func (o *object) isShareable() bool { return o.lifetimes.fresh > max(0, time.Since(o.born)) }

// conditions are the fields of a request that asks S3 whether the object is still the same.
// Beside an entity tag, the date is ignored (RFC 9110, section 13.1.3).
func (o *object) conditions() (ifNoneMatch string, ifModifiedSince time.Time) {
	if o.etag != "" {
		return o.etag, time.Time{}
	}
	return "", o.modified
}

// isConfirmedBy reports whether a 304 is about this version (RFC 9111, section 4.3.4): by
// the entity tag if both have one, else by the date.
func (o *object) isConfirmedBy(reply *origin.Object) bool {
	v := validatorsOf(reply)
	if v.etag != "" && o.etag != "" {
		return weakMatch(v.etag, o.etag)
	}
	return v.modified.IsZero() || o.modified.IsZero() || v.modified.Equal(o.modified)
}

// updatedBy returns the object with the headers of a 304 in place of its own (RFC 9111,
// section 3.2).
func (o *object) updatedBy(reply *origin.Object, a *alias.Alias) *object {
	obj := &object{
		validators: o.validators, size: o.size, contentType: o.contentType,
		etagLine: o.etagLine, modifiedLine: o.modifiedLine,
	}
	if v := validatorsOf(reply); !v.modified.IsZero() && !v.modified.Equal(o.modified) {
		obj.modified, obj.modifiedLine = v.modified, appendDate(nil, v.modified)
	}
	obj.setLifetimes(o.said.updated(reply), reply.Born, a)
	return obj
}

// validatorsOf reads the validators of S3's answer. An invalid entity tag counts as
// missing.
func validatorsOf(o *origin.Object) (v validators) {
	if tag, rest, ok := scanETag(o.ETag); ok && rest == "" && isPrintable(tag) {
		v.etag = strings.Clone(tag)
	}
	if !o.LastModified.IsZero() {
		v.modified = o.LastModified.UTC().Truncate(time.Second)
	}
	return v
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// bytes is the memory that the object's metadata takes, with room for longer headers of
// freshness: the cache drops an object when a 304 makes its metadata larger.
func (o *object) bytes() int64 {
	const (
		fixed = 512 // the struct, its slices' headers and the lines of a hit
		room  = 256 // enough for the headers of most objects
	)
	freshness := len(o.cacheControl) + len(o.said.cacheControl) + len(o.said.expires)
	return fixed + int64(len(o.contentType)+2*len(o.etagLine)+len(o.modifiedLine)+len(o.madeOf)+max(room, freshness))
}

// age is the Age at now of an object that is not a hit.
func (o *object) age(now time.Time) []byte {
	return strconv.AppendInt(nil, int64(max(0, now.Sub(o.born))/time.Second), 10)
}

// lines returns the Age and Cache-Status of a hit at now.
func (o *object) lines(stored, expires, now time.Time) *hitLines {
	age := int64(now.Sub(stored) / time.Second)
	if l := o.hit.Load(); l != nil && l.second == age {
		return l
	}
	l := &hitLines{
		second: age,
		age:    strconv.AppendInt(nil, age, 10),
		status: hitStatus(expires, now),
	}
	o.hit.Store(l)
	return l
}

// hitStatus is the Cache-Status of a hit. The ttl of a stale object is negative (RFC 9211,
// section 2.3).
func hitStatus(expires, now time.Time) []byte {
	return appendTTL([]byte("ixmage; hit; ttl="), expires, now)
}

// diskHitStatus is hitStatus of an object whose bytes come from disk.
func diskHitStatus(expires, now time.Time) []byte {
	return appendTTL([]byte("ixmage; hit; detail=disk; ttl="), expires, now)
}

func appendTTL(b []byte, expires, now time.Time) []byte {
	ttl := int64(expires.Sub(now) / time.Second)
	if now.After(expires) {
		ttl = min(ttl, -1)
	}
	return strconv.AppendInt(b, ttl, 10)
}

// appendDate appends an IMF-fixdate (RFC 9110, section 5.6.7).
func appendDate(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
}
