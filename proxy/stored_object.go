package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/transform"
)

// ObjectCodec encodes the metadata of objects for the disk tier. It is a cache.Codec.
//
// Only what S3 said is stored. The headers for clients and the lifetimes are made again when
// an object is decoded, as they are from a reply of S3 and the alias as it is then. So no
// file can put a line into a response, and an object follows its alias.
type ObjectCodec struct {
	// Alias returns an alias by its ID, if it is at that epoch.
	Alias func(id, epoch int64) (*alias.Alias, bool)
}

// NewObjectCodec returns the codec for the aliases of a registry.
func NewObjectCodec(r *alias.Registry) ObjectCodec {
	return ObjectCodec{func(id, epoch int64) (*alias.Alias, bool) {
		route, ok := r.ByID(id)
		if !ok || route.Alias.Epoch != epoch {
			return nil, false
		}
		return route.Alias, true
	}}
}

// storedVersion is the first byte of an encoded object. Another one is refused, and the
// object is fetched again.
const storedVersion = 1

// storedMax bounds an encoded object. S3's headers of most objects take 200 bytes.
const storedMax = 8 << 10

var errStored = errors.New("stored metadata is malformed")

// Flags of an encoded object.
const (
	flagVaries   = 1
	flagWrong304 = 2
	flagVariant  = 4
	flagMadeOf   = 8 // one more text follows: object.madeOf

	allFlags = flagVaries | flagWrong304 | flagVariant | flagMadeOf
)

// Encode returns the metadata of an object, or nil if it cannot be stored: its length is not
// known, or its headers are too long.
func (ObjectCodec) Encode(meta any) []byte {
	o, ok := meta.(*object)
	if !ok || o.size < 0 {
		return nil
	}
	b := append(make([]byte, 0, 256), storedVersion, o.flags())
	b = binary.AppendUvarint(b, uint64(o.size))
	for _, t := range []time.Time{o.modified, o.said.date, o.said.received, o.born} {
		b = appendStoredTime(b, t)
	}
	for _, s := range []string{string(o.contentType), o.etag, o.said.cacheControl, o.said.expires} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	if o.madeOf != "" {
		b = append(binary.AppendUvarint(b, uint64(len(o.madeOf))), o.madeOf...)
	}
	if len(b) > storedMax {
		return nil
	}
	return b
}

func (o *object) flags() (f byte) {
	if o.said.varies {
		f |= flagVaries
	}
	if o.wrong304.Load() {
		f |= flagWrong304
	}
	if o.variant {
		f |= flagVariant
	}
	if o.madeOf != "" {
		f |= flagMadeOf
	}
	return f
}

var errNoEpoch = errors.New("the object's alias has gone, or another epoch")

// Decode returns the object that was encoded, with its lifetimes by the alias as it is now.
// It copies what it needs of b.
func (c ObjectCodec) Decode(id, epoch int64, b []byte) (*cache.Source, error) {
	a, ok := c.Alias(id, epoch)
	if !ok {
		return nil, errNoEpoch
	}
	o, err := decodeObject(b, a)
	if err != nil {
		return nil, err
	}
	return o.source(), nil
}

func decodeObject(b []byte, a *alias.Alias) (*object, error) {
	if len(b) < 2 || len(b) > storedMax {
		return nil, errStored
	}
	if b[0] != storedVersion {
		return nil, fmt.Errorf("%w: version %d, not %d", errStored, b[0], storedVersion)
	}
	flags, r := b[1], storedReader{b: b[2:]}
	o := &object{size: r.int()}
	o.modified = r.time()
	said := freshHeaders{date: r.time(), received: r.time(), varies: flags&flagVaries != 0}
	born := r.time()
	o.contentType = []byte(r.text())
	o.etag, said.cacheControl, said.expires = r.text(), r.text(), r.text()
	o.variant = flags&flagVariant != 0
	if flags&flagMadeOf != 0 {
		o.madeOf = r.text()
	}
	if r.bad || len(r.b) > 0 || flags&^allFlags != 0 || !o.isServable() {
		return nil, errStored
	}
	o.wrong304.Store(flags&flagWrong304 != 0)
	o.setLines()
	o.setLifetimes(said, born, a)
	return o, nil
}

// isServable reports whether decoded fields are such as newObject makes: each goes into a
// header as it is.
func (o *object) isServable() bool {
	text := o.variant && transform.IsText(string(o.contentType))
	if !pictures[string(o.contentType)] && !text || o.modified.Nanosecond() != 0 {
		return false
	}
	tag, rest, ok := scanETag(o.etag)
	return o.etag == "" || ok && rest == "" && isPrintable(tag)
}

// storedReader reads the fields of an encoded object. After the first error all others are
// zero.
type storedReader struct {
	b   []byte
	bad bool
}

func (r *storedReader) int() int64 {
	n, used := binary.Uvarint(r.b)
	if used <= 0 || n > math.MaxInt64 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[used:]
	return int64(n)
}

func (r *storedReader) text() string {
	n := r.int()
	if n > int64(len(r.b)) {
		r.b, r.bad = nil, true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// Times are stored as nanoseconds within a second and seconds since the year 1, so that the
// zero time is two zeros. The year of an HTTP date has four digits.
var (
	storedZero = time.Time{}.Unix()
	storedLast = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC).Unix() - storedZero
)

func appendStoredTime(b []byte, t time.Time) []byte {
	b = binary.AppendUvarint(b, uint64(t.Nanosecond()))
	return binary.AppendUvarint(b, uint64(t.Unix()-storedZero))
}

func (r *storedReader) time() time.Time {
	nanos, seconds := r.int(), r.int()
	if nanos >= int64(time.Second) || seconds > storedLast {
		r.bad = true
		return time.Time{}
	}
	if nanos == 0 && seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds+storedZero, nanos).UTC()
}
