package proxy

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy/origin"
)

// storedAlias has names that must not get into a file.
var storedAlias = &alias.Alias{
	ID: 7, Epoch: 3, Name: "secret-alias", Credential: "secret-credential",
	Location: alias.Location{Bucket: "secret-bucket", Prefix: "secret-prefix/", Region: "secret-region"},
	TTL:      time.Hour, StaleIfError: time.Hour, StaleWhileRevalidate: time.Minute,
}

// fullObject returns an object whose fields that are stored are all set.
func fullObject() *object {
	obj := newObject(&origin.Object{
		Size: 1234, ETag: `"0123456789abcdef"`, LastModified: atNoon, CacheControl: "x-a=5, max-age=60",
		Expires: "Sat, 01 Feb 2025 12:00:00 GMT", Date: atNoon.Add(time.Hour), Vary: "*",
		Received: atNoon.Add(time.Hour + 7), Born: atNoon.Add(time.Hour - 9),
	}, storedAlias, "image/png")
	obj.wrong304.Store(true)
	obj.variant, obj.madeOf = true, `"a""b"`
	return obj
}

var storedCodec = ObjectCodec{func(id, epoch int64) (*alias.Alias, bool) {
	return storedAlias, id == storedAlias.ID && epoch == storedAlias.Epoch
}}

func decodeStored(t *testing.T, b []byte) *object {
	t.Helper()
	o, err := decodeObject(b, storedAlias)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The fields of an object that are not stored as they are: made from others and the
// alias, or of no use after a restart.
var (
	derivedFields = []string{
		"etagLine", "modifiedLine", "cacheControl", "ttl",
		"lifetimes.store", "lifetimes.fresh", "lifetimes.staleWhile", "lifetimes.staleError", "lifetimes.byDefault",
	}
	transientFields = []string{"inSockets", "lastEnd", "expires", "hit", "fetched"}
)

// Each field of an object is stored, or stands in one of the lists above. A field that is
// new makes this test fail.
func TestEveryFieldIsStored(t *testing.T) {
	t.Parallel()
	want := fullObject()
	got := decodeStored(t, ObjectCodec{}.Encode(want))
	eachField(reflect.ValueOf(want).Elem(), "", func(name string, v reflect.Value) {
		if slices.Contains(transientFields, name) {
			return
		}
		if v.IsZero() && !strings.HasPrefix(name, "lifetimes.") {
			t.Errorf("%s: not set, so that the test says nothing about it", name)
		}
		if back := fieldByName(got, name); !sameValue(v, back) {
			t.Errorf("%s: got %v, want %v", name, back, v)
		}
	})
}

// Any value of one field comes back, and changes no other field.
func TestStoredFieldsAreIndependent(t *testing.T) {
	t.Parallel()
	eachField(reflect.ValueOf(fullObject()).Elem(), "", func(name string, _ reflect.Value) {
		if slices.Contains(transientFields, name) || slices.Contains(derivedFields, name) {
			return
		}
		want := fullObject()
		changeField(t, name, fieldByName(want, name))
		got := decodeStored(t, ObjectCodec{}.Encode(want))
		eachField(reflect.ValueOf(want).Elem(), "", func(other string, v reflect.Value) {
			if slices.Contains(transientFields, other) || slices.Contains(derivedFields, other) {
				return
			}
			if back := fieldByName(got, other); !sameValue(v, back) {
				t.Errorf("%s changed: %s is %v, want %v", name, other, back, v)
			}
		})
	})
}

// eachField visits the fields of a struct, those of structs of this package one by one.
func eachField(v reflect.Value, prefix string, visit func(name string, v reflect.Value)) {
	for i := range v.NumField() {
		f, name := v.Type().Field(i), prefix+v.Type().Field(i).Name
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == v.Type().PkgPath() {
			eachField(v.Field(i), name+".", visit)
			continue
		}
		visit(name, reflect.NewAt(f.Type, unsafe.Pointer(v.Field(i).UnsafeAddr())).Elem())
	}
}

func fieldByName(o *object, name string) (found reflect.Value) {
	eachField(reflect.ValueOf(o).Elem(), "", func(n string, v reflect.Value) {
		if n == name {
			found = v
		}
	})
	return found
}

func sameValue(a, b reflect.Value) bool {
	switch x := a.Addr().Interface().(type) {
	case *time.Time:
		return x.Equal(*b.Addr().Interface().(*time.Time))
	case *atomic.Bool:
		return x.Load() == b.Addr().Interface().(*atomic.Bool).Load()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// changeField sets a field to another value that an object may have.
func changeField(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = x.Add(-1000 * time.Second)
	case *atomic.Bool:
		x.Store(!x.Load())
	case *int64:
		*x += 1e15
	case *bool:
		*x = !*x
	case *string:
		*x = `"` + strings.Repeat("x", 300) + `"`
	case *[]byte:
		*x = []byte("image/svg+xml")
	default:
		t.Errorf("%s: a field of type %s", name, v.Type())
	}
}

func TestStoredZeroTimes(t *testing.T) {
	t.Parallel()
	obj := newObject(&origin.Object{Size: 1}, storedAlias, "image/png")
	got := decodeStored(t, ObjectCodec{}.Encode(obj))
	if !got.modified.IsZero() || got.modifiedLine != nil || got.etagLine != nil || !got.said.date.IsZero() || !got.born.IsZero() {
		t.Errorf("got %+v", got)
	}
	if string(got.cacheControl) != "public, max-age=3600" {
		t.Errorf("Cache-Control: %s", got.cacheControl)
	}
}

// What is on disk names no alias, bucket or credential.
func TestStoredHasNoNames(t *testing.T) {
	t.Parallel()
	b := ObjectCodec{}.Encode(fullObject())
	if bytes.Contains(b, []byte("secret")) {
		t.Errorf("%q", b)
	}
	if len(b) > 200 {
		t.Errorf("%d bytes", len(b))
	}
}

// An object that is decoded has the lifetimes of its alias as it is then, and is counted as
// old as it is.
func TestDecodeFollowsAlias(t *testing.T) {
	t.Parallel()
	born := time.Now().Add(-time.Minute)
	stored := ObjectCodec{}.Encode(newObject(&origin.Object{Size: 5, ETag: `"a"`, Born: born}, storedAlias, "image/png"))
	changed := *storedAlias
	changed.TTL, changed.StaleIfError, changed.StaleWhileRevalidate = 2*time.Hour, 3*time.Hour, 4*time.Hour
	codec := ObjectCodec{func(id, epoch int64) (*alias.Alias, bool) { return &changed, id == 7 && epoch == 3 }}
	src, err := codec.Decode(7, 3, stored)
	if err != nil {
		t.Fatal(err)
	}
	obj := src.Meta.(*object)
	switch {
	case src.Fresh != 2*time.Hour, src.StaleIfError != 3*time.Hour, src.StaleWhileRevalidate != 4*time.Hour,
		!src.DefaultStaleWhileRevalidate, src.Age < time.Minute, src.Size != 5, !src.Validate, src.Body != nil:
		t.Errorf("got %+v", src)
	case src.MetaBytes != obj.bytes(), string(obj.cacheControl) != "public, max-age=7200", obj.ttl != 2*time.Hour:
		t.Errorf("%d bytes of %+v", src.MetaBytes, obj)
	}
	for _, at := range [][2]int64{{7, 2}, {7, 4}, {8, 3}} {
		if src, err := codec.Decode(at[0], at[1], stored); err == nil {
			t.Errorf("alias %d at epoch %d: got %+v", at[0], at[1], src)
		}
	}
	if src, err := storedCodec.Decode(7, 3, stored[1:]); err == nil {
		t.Errorf("a part is decoded as %+v", src)
	}
}

var _ cache.Codec = ObjectCodec{}

func TestNotStored(t *testing.T) {
	t.Parallel()
	unknown, long := fullObject(), fullObject()
	unknown.size = -1
	long.said.cacheControl = strings.Repeat("a", storedMax)
	for name, meta := range map[string]any{"unknown length": unknown, "long header": long, "no object": "x", "nil": nil} {
		if b := (ObjectCodec{}).Encode(meta); b != nil {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	encode := func(change func(*object)) []byte {
		o := fullObject()
		change(o)
		return ObjectCodec{}.Encode(o)
	}
	good := encode(func(*object) {})
	other := slices.Clone(good)
	other[0]++
	flags := slices.Clone(good)
	flags[1] |= 0x10
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"version alone":   good[:1],
		"other version":   other,
		"unknown flag":    flags,
		"more":            append(slices.Clone(good), 0),
		"too long":        make([]byte, storedMax+1),
		"long number":     append([]byte{storedVersion, 0}, binary.AppendUvarint(nil, 1<<63)...),
		"line in etag":    encode(func(o *object) { o.etag = "\"a\r\nSet-Cookie: x\"" }),
		"text after etag": encode(func(o *object) { o.etag = `"a"b` }),
		"unquoted etag":   encode(func(o *object) { o.etag = "a" }),
		"high byte":       encode(func(o *object) { o.etag = "\"\xe9\"" }),
		"line in type":    encode(func(o *object) { o.contentType = []byte("image/png\r\nX: y") }),
		"other type":      encode(func(o *object) { o.contentType = []byte("text/html") }),
		"no type":         encode(func(o *object) { o.contentType = nil }),
		"fraction":        encode(func(o *object) { o.modified = o.modified.Add(1) }),
		"year 10,000":     encode(func(o *object) { o.modified = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"year -1":         encode(func(o *object) { o.born = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) }),
	} {
		if o, err := decodeObject(b, storedAlias); err == nil {
			t.Errorf("%s: decoded as %+v", name, o)
		}
	}
	for n := range good {
		if _, err := decodeObject(good[:n], storedAlias); err == nil {
			t.Errorf("the first %d of %d bytes are decoded", n, len(good))
		}
	}
}

// Objects as S3 describes them, with all kinds of headers: encoded and decoded they give
// the same headers.
func TestStoredObjectsAnswerTheSame(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	for range 300 {
		o := newObject(&origin.Object{
			Size: r.Int64N(1 << 40), ETag: pick("", `"a"`, `W/"b"`, "bad", "\"a\r\nX: y\""),
			CacheControl: pick("", "max-age=5", "no-cache", "a\r\nX: y, max-age=7", `x="a, b", s-maxage=1`, "private", "immutable"),
			Expires:      pick("", "0", noon), Vary: pick("", "*", "Origin"),
			LastModified: time.Unix(r.Int64N(1<<33), r.Int64N(1e9)), Date: time.Unix(r.Int64N(1<<33), 0),
			Received: time.Unix(r.Int64N(1<<33), r.Int64N(1e9)), Born: time.Unix(r.Int64N(1<<33), r.Int64N(1e9)),
		}, storedAlias, pick("image/png", "image/jpeg", typeSVG))
		got := decodeStored(t, ObjectCodec{}.Encode(o))
		eachField(reflect.ValueOf(o).Elem(), "", func(name string, v reflect.Value) {
			if back := fieldByName(got, name); !slices.Contains(transientFields, name) && !sameValue(v, back) {
				t.Errorf("%s: got %v, want %v", name, back, v)
			}
		})
	}
}

// FuzzDecodeObject: whatever a file says, what is decoded can be written as headers, and is
// encoded as it was.
func FuzzDecodeObject(f *testing.F) {
	f.Add(ObjectCodec{}.Encode(fullObject()))
	f.Add(ObjectCodec{}.Encode(newObject(&origin.Object{}, &alias.Alias{}, "image/png")))
	f.Add([]byte{storedVersion, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := decodeObject(b, storedAlias)
		if err != nil {
			return
		}
		for _, line := range [][]byte{o.contentType, o.etagLine, o.modifiedLine, o.cacheControl} {
			if i := bytes.IndexFunc(line, func(r rune) bool { return (r < ' ' && r != '\t') || r >= 0x7f }); i >= 0 {
				t.Errorf("a header with byte %d: %q", line[i], line)
			}
		}
		if at, err := http.ParseTime(string(o.modifiedLine)); o.modifiedLine != nil && (err != nil || !at.Equal(o.modified)) {
			t.Errorf("%q is not %s", o.modifiedLine, o.modified)
		}
		again, err := decodeObject(ObjectCodec{}.Encode(o), storedAlias)
		if err != nil {
			t.Fatal(err)
		}
		eachField(reflect.ValueOf(o).Elem(), "", func(name string, v reflect.Value) {
			if back := fieldByName(again, name); !sameValue(v, back) {
				t.Errorf("%s: got %v, want %v", name, back, v)
			}
		})
	})
}
