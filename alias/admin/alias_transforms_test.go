package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"ixmage/alias"
)

// TestAliasTransforms: a merge patch changes what it names, and null resets it.
func TestAliasTransforms(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	const ladder = `[20,40,60,120,250,330,500,960,1280,1920,3840]`
	for _, row := range []struct{ patch, want string }{
		{`{}`, `"transforms":"templates","access":"open","widths":` + ladder + `,"templates":{}`},
		{`{"transforms":"off"}`, `"transforms":"off","access":"open","widths":` + ladder + `,"templates":{}`},
		{`{"transforms":"open","access":"signed"}`, `"transforms":"open","access":"signed","widths":` + ladder + `,"templates":{}`},
		{`{"widths":[100,200]}`, `"transforms":"open","access":"signed","widths":[100,200],"templates":{}`},
		{`{"widths":[300]}`, `"transforms":"open","access":"signed","widths":[300],"templates":{}`},
		{`{"widths":[]}`, `"transforms":"open","access":"signed","widths":[],"templates":{}`},
		{`{"widths":null}`, `"transforms":"open","access":"signed","widths":` + ladder + `,"templates":{}`},
		{`{"templates":{"a":"w=1","b":{"w":2,"fit":"cover"}}}`, `"widths":` + ladder + `,"templates":{"a":"w=1","b":"w=2&fit=cover"}`},
		{`{"templates":{"a":"w=3","c":"w=4"}}`, `"templates":{"a":"w=3","b":"w=2&fit=cover","c":"w=4"}`},
		{`{"templates":{"a":null,"none":null}}`, `"templates":{"b":"w=2&fit=cover","c":"w=4"}`},
		{`{"templates":{}}`, `"templates":{"b":"w=2&fit=cover","c":"w=4"}`},
		{`{"ttl":"1m"}`, `"templates":{"b":"w=2&fit=cover","c":"w=4"}`},
		{`{"templates":null}`, `"templates":{}`},
		{`{"transforms":null,"access":null}`, `"transforms":"templates","access":"open","widths":` + ladder + `,"templates":{}`},
	} {
		r := a.do("PATCH", "/api/v1/aliases/shop", row.patch).want(200, "")
		if !contains(r.body, row.want) || a.do("GET", "/api/v1/aliases/shop", "").body != r.body {
			t.Errorf("%s: got %s, want %s in it", row.patch, r.body, row.want)
		}
	}
	// Nothing of it empties the cache: what a picture is made of is in its key.
	if route, _ := a.server.access.registry.Lookup("shop"); route.Alias.Epoch != 1 {
		t.Errorf("got epoch %d", route.Alias.Epoch)
	}
}

// TestMergePatchOfTemplates: random patches do what RFC 7396 says, and change no map that a request
// may hold.
func TestMergePatchOfTemplates(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		a, model := alias.New(), any(map[string]any{})
		for range 8 {
			patch := randomTemplates(random)
			body, err := json.Marshal(map[string]any{"templates": patch})
			if err != nil {
				t.Fatal(err)
			}
			in := new(aliasInput)
			problems, err := decodeBody(body, patchFields(in))
			if err != nil || len(problems) > 0 {
				t.Fatalf("%s: %v, %v", body, problems, err)
			}
			held := a.Templates
			want := maps.Clone(held)
			in.apply(a)
			a.Normalize()
			if model = mergePatch(model, patch); model == nil {
				model = map[string]any{}
			}
			got := map[string]any{}
			for name, query := range a.Templates {
				got[name] = query
			}
			if fmt.Sprint(got) != fmt.Sprint(model) || !maps.Equal(held, want) {
				t.Fatalf("seed %d, after %s: got %v, want %v; a request holds %v, which was %v", seed, body, got, model, held, want)
			}
		}
	}
}

// randomTemplates is nil, or an object of templates and nulls.
func randomTemplates(random *rand.Rand) any {
	if random.IntN(8) == 0 {
		return nil
	}
	patch := map[string]any{}
	for range random.IntN(5) {
		name := string('a' + rune(random.IntN(4)))
		if patch[name] = any(nil); random.IntN(3) > 0 {
			patch[name] = fmt.Sprint("w=", 1+random.IntN(3))
		}
	}
	return patch
}

// mergePatch is the algorithm of RFC 7396, section 2.
func mergePatch(target, patch any) any {
	edits, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged := map[string]any{}
	if object, ok := target.(map[string]any); ok {
		maps.Copy(merged, object)
	}
	for name, value := range edits {
		if delete(merged, name); value != nil {
			merged[name] = mergePatch(merged[name], value)
		}
	}
	return merged
}
