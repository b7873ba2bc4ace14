package proxy

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ixmage/alias"
	"ixmage/proxy/origin"
)

// errNoLength means that a client has to know the length of an object beforehand
// and S3 did not say it.
var errNoLength = errors.New("the object's length is not known")

// object is what is known of one version of an object, with every header that
// a response needs of it ready to be written. It is made once, when the object
// is fetched, and shared by all who get it.
type object struct {
	validators
	size         int64 // negative where S3 did not say
	contentType  []byte
	etagLine     []byte
	modifiedLine []byte
	cacheControl []byte
	fresh        time.Duration
	born         time.Time // its Age counts from here

	hit atomic.Pointer[hitLines]
}

// hitLines are the headers of a memory hit that change with time: made anew at
// most once a second.
type hitLines struct {
	second int64
	age    []byte
	status []byte
}

// newObject keeps of S3's answer what may be told to clients. Nothing is copied
// as it stands: the type comes from our list, the entity tag is checked, the
// date and the Cache-Control are written anew.
func newObject(o *origin.Object, a *alias.Alias, contentType string) *object {
	directives := parseCacheControl(o.CacheControl)
	obj := &object{
		validators:   validatorsOf(o),
		size:         o.Size,
		contentType:  []byte(contentType),
		cacheControl: []byte(formatCacheControl(directives, a.TTL)),
		fresh:        freshness(directives, a.TTL),
		born:         o.Born,
	}
	if obj.etag != "" {
		obj.etagLine = []byte(obj.etag)
	}
	if !obj.modified.IsZero() {
		obj.modifiedLine = appendDate(nil, obj.modified)
	}
	return obj
}

// validatorsOf reads what identifies the version in S3's answer. An entity tag
// that is none counts as missing.
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

// bytes is what the object's metadata holds in memory.
func (o *object) bytes() int64 {
	const fixed = 512 // the struct, its slices' headers and the lines of a hit
	return fixed + int64(len(o.contentType)+2*len(o.etagLine)+len(o.modifiedLine)+len(o.cacheControl))
}

// age is the Age of the object at now, where it does not come from memory.
func (o *object) age(now time.Time) []byte {
	return strconv.AppendInt(nil, int64(max(0, now.Sub(o.born))/time.Second), 10)
}

// lines returns the Age and Cache-Status of a hit at now.
func (o *object) lines(stored, expires, now time.Time) *hitLines {
	age := int64(now.Sub(stored) / time.Second)
	if l := o.hit.Load(); l != nil && l.second == age {
		return l
	}
	ttl := int64(expires.Sub(now) / time.Second)
	l := &hitLines{
		second: age,
		age:    strconv.AppendInt(nil, age, 10),
		status: strconv.AppendInt([]byte("ixmage; hit; ttl="), ttl, 10),
	}
	o.hit.Store(l)
	return l
}

// appendDate appends an IMF-fixdate (RFC 9110, section 5.6.7).
func appendDate(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
}
