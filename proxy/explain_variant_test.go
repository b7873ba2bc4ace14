package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/proxy/origin"
	"ixmage/proxy/transform"
)

func (e *variantEnv) explain(target, accept string) *Explanation {
	e.t.Helper()
	return e.proxy.Explain(e.t.Context(), target, accept, false).(*Explanation)
}

// TestExplainQuery: how a query is understood, and that a GET gets the status that is explained. The
// picture is in the cache and no variant is.
func TestExplainQuery(t *testing.T) {
	t.Parallel()
	const signed = true
	needed := func(state string) ExplainedSignature { return ExplainedSignature{Needed: true, State: state} }
	free := ExplainedSignature{State: "none"}
	byKey := func(needed bool) ExplainedSignature {
		return ExplainedSignature{Needed: needed, State: "ok", KID: "k1234567"}
	}
	for _, row := range []struct {
		mode   alias.Transforms
		access alias.Access
		query  string
		signed bool
		accept string
		want   ExplainedTransform // Mode, Access and Cache are not compared
		status int                // 0: a worker has to make it
		remedy string
	}{
		{query: "", want: ExplainedTransform{Signature: free}, status: 200, remedy: "served from the cache"},
		{query: "v=2&utm_source=x&v=3", want: ExplainedTransform{Signature: free, Ignored: []string{"v", "utm_source"}}, status: 200},
		{
			query:  "w=101",
			want:   ExplainedTransform{Signature: free, Options: "w=120", Width: &ExplainedWidth{101, 120}, Format: "jpeg"},
			remedy: "has a worker make it",
		},
		{query: "w=120", want: ExplainedTransform{Signature: free, Options: "w=120", Format: "jpeg"}},
		{query: "w=120", accept: "image/webp,*/*", want: ExplainedTransform{Signature: free, Options: "w=120", Format: "webp"}},
		{query: "w=3841", want: ExplainedTransform{Signature: free}, status: 400, remedy: "The option w is not accepted: "},
		{query: "w=1e2", want: ExplainedTransform{Signature: free}, status: 400, remedy: "docs/transforms.md"},
		{query: "t=none", want: ExplainedTransform{Signature: free}, status: 400, remedy: "name of a template"},
		{query: "t=thumb", want: ExplainedTransform{Signature: free, Template: "thumb", Options: "h=90&w=120", Format: "jpeg"}},
		{query: "h=100", want: ExplainedTransform{Signature: needed("missing")}, status: 403, remedy: "ask for a template"},
		{query: "h=100", signed: signed, want: ExplainedTransform{Signature: byKey(true), Options: "h=100", Format: "jpeg"}},
		{query: "w=101", signed: signed, want: ExplainedTransform{Signature: byKey(false), Options: "w=101", Format: "jpeg"}},
		{query: "w=120&kid=none&sig=" + strings.Repeat("A", 43), want: ExplainedTransform{Signature: ExplainedSignature{State: "unknown_kid"}}, status: 403, remedy: "signing-keys"},
		{query: "w=120&kid=k1234567&sig=" + strings.Repeat("A", 43), want: ExplainedTransform{Signature: ExplainedSignature{State: "bad"}}, status: 403, remedy: "does not fit"},
		{query: "w=120&kid=k1234567&sig=A", want: ExplainedTransform{Signature: ExplainedSignature{State: "bad"}}, status: 403, remedy: "no signer makes"},
		{query: "h=100&kid=k1234567&sig=A", want: ExplainedTransform{Signature: needed("bad")}, status: 403, remedy: "no signer makes"},
		{mode: alias.TransformsSigned, query: "w=120", want: ExplainedTransform{Signature: needed("missing")}, status: 403},
		{mode: alias.TransformsSigned, query: "w=120", signed: signed, want: ExplainedTransform{Signature: byKey(true), Options: "w=120", Format: "jpeg"}},
		{mode: alias.TransformsOpen, query: "w=101&h=7&fit=cover&f=png", want: ExplainedTransform{Signature: free, Options: "f=png&fit=cover&h=7&w=101", Format: "png"}},
		{mode: alias.TransformsOpen, query: "info=1", want: ExplainedTransform{Signature: free, Options: "info=1"}},
		{mode: alias.TransformsOff, query: "w=abc", want: ExplainedTransform{Off: "the alias's transforms are off", Signature: free}, status: 200},
		{mode: alias.TransformsOff, access: alias.AccessSigned, query: "w=9", want: ExplainedTransform{Off: "the alias's transforms are off", Signature: needed("missing")}, status: 403, remedy: "access signed"},
		{mode: alias.TransformsOff, access: alias.AccessSigned, query: "", signed: signed, want: ExplainedTransform{Off: "the alias's transforms are off", Signature: byKey(true)}, status: 200},
	} {
		t.Run(fmt.Sprint(row.mode, row.access, row.query, row.signed, row.accept), func(t *testing.T) {
			t.Parallel()
			e := newVariantEnv(t, nil)
			e.get("/shop/a.jpg") // stores the picture
			e.change(func(a *alias.Alias) {
				if row.mode != "" {
					a.Transforms = row.mode
				}
				if row.access != "" {
					a.Access = row.access
				}
			})
			e.trust()
			target := "/shop/a.jpg?" + row.query
			if row.signed {
				target = "/shop/a.jpg?" + e.sign("/shop/a.jpg", row.query, time.Time{})
			}
			x := e.explain(target, row.accept)
			got := *x.Transform
			got.Mode, got.Access, got.Cache = "", "", nil
			if row.want.Ignored == nil {
				row.want.Ignored = []string{}
			}
			if !reflect.DeepEqual(got, row.want) {
				t.Errorf("got %+v\nwant %+v", got, row.want)
			}
			if x.Status != row.status || !strings.Contains(x.Remedy, row.remedy) || x.Cache == nil || x.Cache.Memory == nil {
				t.Errorf("got %d %s, cache %+v", x.Status, x.Remedy, x.Cache)
			}
			answer := e.get(target, "Accept", row.accept)
			if want := max(row.status, 200); row.status != 0 && answer.status != want || row.status == 0 && answer.status != http.StatusOK {
				t.Errorf("a GET gets %d", answer.status)
			}
			if row.status == 403 && (answer.status != 403 || x.Code != "signature") {
				t.Errorf("a GET gets %d, explained as %s", answer.status, x.Code)
			}
		})
	}
}

// TestExplainSignatureEnds: the end of a signed URL, before and after it.
func TestExplainSignatureEnds(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, nil)
	e.get("/shop/a.jpg")
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	x := e.explain("/shop/a.jpg?"+e.sign("/shop/a.jpg", "h=9", later), "")
	if s := x.Transform.Signature; s.State != "ok" || s.Expires == nil || !s.Expires.Equal(later) {
		t.Errorf("got %+v", s)
	}
	x = e.explain("/shop/a.jpg?"+e.sign("/shop/a.jpg", "h=9", time.Now().Add(-time.Hour)), "")
	if s := x.Transform.Signature; s.State != "expired" || x.Status != 403 || !strings.Contains(x.Remedy, "exp") {
		t.Errorf("got %+v, %d %s", s, x.Status, x.Remedy)
	}
}

// TestExplainVariantState: what is known of a variant, and what a GET gets.
func TestExplainVariantState(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, target string
		edit         func(e *variantEnv)
		status       int
		code, remedy string
		check        func(x *Explanation) bool
	}{
		{
			"stored", "/shop/a.jpg?w=120", func(e *variantEnv) { e.get("/shop/a.jpg?w=120") }, 200, "", "served from the cache",
			func(x *Explanation) bool {
				m := x.Transform.Cache.Memory
				return m != nil && m.ContentType == "image/jpeg" && m.ETag != "" && m.Size > 0 && x.Transform.LastFailure == nil
			},
		},
		{
			"nothing is stored", "/shop/a.jpg?w=120", nil, 0, "", "the next request asks S3",
			func(x *Explanation) bool { return x.Transform.Cache.Memory == nil && x.Cache.Memory == nil },
		},
		{
			"the source is missing", "/shop/gone.jpg?w=120", func(e *variantEnv) { e.get("/shop/gone.jpg") }, 404, "not-found", "S3 has no object",
			func(x *Explanation) bool { return x.Cache.Missing != nil },
		},
		{
			"as stored", "/shop/a.svg?w=120", func(e *variantEnv) { e.get("/shop/a.svg?w=120") }, 200, "", "served from the cache",
			func(x *Explanation) bool { return x.Transform.AsStored && x.Transform.Format == "" },
		},
		{
			"never decoded", "/shop/a.svg?w=120", func(e *variantEnv) { e.get("/shop/a.svg") }, 200, "", "served from the cache",
			func(x *Explanation) bool { return x.Transform.AsStored && x.Transform.Format == "" },
		},
		{
			"broken", "/shop/a.jpg?w=120", fails(&transform.RefusedError{Why: transform.Broken}), 422, "transform-failed", "upload it again",
			func(x *Explanation) bool { return x.Transform.Cache.Missing != nil && x.Transform.LastFailure != nil },
		},
		{
			"killed", "/shop/a.jpg?w=120", fails(transform.ErrTimeout), 422, "transform-failed", "--transform-timeout",
			func(x *Explanation) bool { return x.Transform.LastFailure.Error == transform.ErrTimeout.Error() },
		},
		{
			"killed by another variant", "/shop/a.jpg?w=120", func(e *variantEnv) {
				e.get("/shop/a.jpg")
				e.set(func() { e.killed = true })
			}, 422, "transform-failed", "five minutes",
			func(x *Explanation) bool { return x.Transform.KilledWorker && x.Transform.LastFailure == nil },
		},
		{
			"limited", "/shop/a.jpg?w=120", fails(&transform.LimitedError{RetryAfter: time.Second}), 0, "", "--transform-alias-share",
			func(x *Explanation) bool { return x.Transform.LastFailure != nil && !x.Transform.KilledWorker },
		},
		{"limited client", "/shop/a.jpg?w=120", fails(&transform.LimitedError{Client: true}), 0, "", "--transform-client-share", nil},
		{"overloaded", "/shop/a.jpg?w=120", fails(transform.ErrOverloaded), 0, "", "queue was full", nil},
		{
			"no worker starts", "/shop/a.jpg?w=120", func(e *variantEnv) {
				e.get("/shop/a.jpg")
				e.set(func() { e.off = errors.New("exec format error") })
			}, 503, "overloaded", "No worker can be started", nil,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			e := newVariantEnv(t, nil)
			if row.edit != nil {
				row.edit(e)
			}
			x := e.explain(row.target, "")
			if x.Status != row.status || x.Code != row.code || !strings.Contains(x.Remedy, row.remedy) || row.check != nil && !row.check(x) {
				t.Errorf("got %d %s %q\n%+v\n%+v", x.Status, x.Code, x.Remedy, x.Transform, x.Transform.Cache)
			}
		})
	}
}

// fails makes the variant of 120 pixels fail with an error.
func fails(err error) func(e *variantEnv) {
	return func(e *variantEnv) {
		e.set(func() { e.err = err })
		e.get("/shop/a.jpg?w=120")
	}
}

// TestExplainFailureGoes: a failure is remembered until the variant is made.
func TestExplainFailureGoes(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, nil)
	fails(transform.ErrOverloaded)(e)
	e.set(func() { e.err = nil })
	if x := e.explain("/shop/a.jpg?w=120", ""); x.Transform.LastFailure == nil {
		t.Error("the failure is gone before a success")
	}
	e.get("/shop/a.jpg?w=120")
	if x := e.explain("/shop/a.jpg?w=120", ""); x.Transform.LastFailure != nil || x.Status != 200 {
		t.Errorf("after a success: %d %+v", x.Status, x.Transform.LastFailure)
	}
}

// TestExplainWithoutWorker: the explanation says why a query changes nothing.
func TestExplainWithoutWorker(t *testing.T) {
	t.Parallel()
	e := newVariantEnv(t, nil)
	e.proxy.transforms = nil
	x := e.explain("/shop/a.jpg?w=9999", "")
	if !strings.Contains(x.Transform.Off, "--transform-worker") || x.Transform.Mode != "templates" || x.Transform.Cache != nil || x.Code != "" {
		t.Errorf("got %+v, %s", x.Transform, x.Code)
	}
}

// TestRemedyVariant: each error of a variant has a remedy of its own.
func TestRemedyVariant(t *testing.T) {
	t.Parallel()
	seen := map[string]error{}
	for _, err := range []error{
		&transform.RefusedError{Why: transform.TooLarge}, &transform.RefusedError{Why: transform.Broken},
		&transform.RefusedError{Why: transform.Unsupported}, &transform.RefusedError{Why: transform.CropOutside},
		&transform.RefusedError{Why: transform.ResultTooLarge}, &transform.RefusedError{Why: transform.Broken, Mark: true},
		&transform.LimitedError{}, &transform.LimitedError{Client: true}, transform.ErrOverloaded, transform.ErrOff,
		transform.ErrInternal, transform.ErrCrashed,
	} {
		text := remedyFor(problemOf(err), err)
		if other, twice := seen[text]; twice || text == "" || strings.Contains(text, "report it") {
			t.Errorf("%v: %q, as %v", err, text, other)
		}
		seen[text] = err
	}
	if got := remedyVariant(&origin.Error{Outcome: origin.OutcomeDenied}); got != "" {
		t.Errorf("of S3: %q", got)
	}
}
