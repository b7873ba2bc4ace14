package alias

import (
	"encoding/hex"
	"reflect"
	"slices"
	"testing"
	"time"
)

// originFields decide what an object's key names; otherFields do not. Epoch is part of the
// key of the cache, and Location.moved does not count the fields of a location that are
// among the others.
var (
	originFields = []string{"ID", "CreatedAt", "Bucket", "Prefix", "Region", "Endpoint"}
	otherFields  = []string{
		"Name", "BucketOwner", "PathStyle", "CredentialID", "Credential", "Canary", "Enabled", "CacheControl",
		"TTL", "NegativeTTL", "StaleWhileRevalidate", "StaleIfError",
		"CORSOrigins", "CORSHeaders", "Fallback", "State", "Epoch", "Revision", "UpdatedAt",
		"CacheMin", "CacheMax", "Transforms", "Access", "Widths", "Templates", "SigningKeys",
	}
)

// Every field of an alias stands in one of the lists above.
func TestOriginHashOfFields(t *testing.T) {
	t.Parallel()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Alias]()) {
		if f.Anonymous {
			continue
		}
		a, b := identified(), identified()
		changeOf(t, reflect.ValueOf(b).Elem().FieldByIndex(f.Index))
		changed := a.OriginHash() != b.OriginHash()
		switch {
		case slices.Contains(originFields, f.Name):
			if !changed {
				t.Errorf("%s does not change the hash", f.Name)
			}
		case !slices.Contains(otherFields, f.Name):
			t.Errorf("%s is new: does it decide which bytes a key names?", f.Name)
		case changed:
			t.Errorf("%s changes the hash", f.Name)
		}
	}
}

func identified() *Alias {
	a := New()
	a.ID, a.CreatedAt = 7, time.Date(2026, time.November, 29, 12, 0, 0, 1000, time.UTC)
	a.Location = Location{Bucket: "bucket", Prefix: "prefix/", Region: "eu-west-1", Endpoint: "http://127.0.0.1:1"}
	return a
}

func changeOf(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = x.Add(time.Microsecond)
	case *Fallback:
		x.Missing = "x"
	default:
		switch v.Kind() {
		case reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		case reflect.Map:
			v.Set(reflect.ValueOf(map[string]string{"x": "x"}))
		default:
			t.Fatalf("a field of type %s", v.Type())
		}
	}
}

// A field's end is no part of the next field.
func TestOriginHashSeparatesFields(t *testing.T) {
	t.Parallel()
	a, b := identified(), identified()
	a.Bucket, a.Prefix = "ab", "c/"
	b.Bucket, b.Prefix = "a", "bc/"
	if a.OriginHash() == b.OriginHash() {
		t.Error("two locations have one hash")
	}
}

// Files outlive the program: the hash must not change with a version of it.
func TestOriginHashStays(t *testing.T) {
	t.Parallel()
	a := identified()
	local := *a
	local.CreatedAt = a.CreatedAt.In(time.FixedZone("CET", 3600)).Add(999) // of a second that the store has rounded
	if local.OriginHash() != a.OriginHash() {
		t.Error("the hash depends on what the store does not keep")
	}
	id := a.OriginHash()
	if got := hex.EncodeToString(id[:]); got != "2e8a54204d577edb1b095185ed932b29" {
		t.Errorf("got %s", got)
	}
}
