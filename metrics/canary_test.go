package metrics

import (
	"strings"
	"testing"
)

const canary = "ixmage_canary_success"

func TestCanary(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 2})
	if has(t, m, canary) {
		t.Error("there is a series before anything was tried")
	}
	m.CanaryResult("shop", false)
	m.CanaryResult("shop", true)
	m.CanaryResult("blog", false)
	for _, want := range []string{`{alias="shop"} 1`, `{alias="blog"} 0`} {
		if !has(t, m, canary+want+"\n") {
			t.Errorf("no line %s in\n%s", want, scrape(t, m))
		}
	}
	m.ForgetCanary("blog")
	m.Forget("shop") // the alias
	if got := scrape(t, m); strings.Contains(got, canary) {
		t.Errorf("series outlive their canary:\n%s", got)
	}
}

// One red canary among those past the cap makes them red.
func TestCanaryCap(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	for _, step := range []struct {
		name  string
		do    func()
		other string // "" for none
	}{
		{"own place", func() { m.CanaryResult("first", false) }, ""},
		{"green", func() { m.CanaryResult("second", true) }, "1"},
		{"one is red", func() { m.CanaryResult("third", false) }, "0"},
		{"another is checked again", func() { m.CanaryResult("second", true) }, "0"},
		{"green again", func() { m.CanaryResult("third", true) }, "1"},
		{"red", func() { m.CanaryResult("third", false) }, "0"},
		{"gone", func() { m.ForgetCanary("third") }, "1"},
		{"place taken over", func() { m.Forget("first"); m.CanaryResult("second", true) }, ""},
	} {
		step.do()
		line := canary + `{alias="_other"} ` + step.other
		if got := has(t, m, line); got != (step.other != "") {
			t.Errorf("%s: %q stands there: %t\n%s", step.name, line, got, scrape(t, m))
		}
	}
	if !has(t, m, canary+`{alias="second"} 1`) {
		t.Error("the free place was not taken")
	}
}

// A check that ends after its alias, or after its canary was taken away, leaves
// nothing that would stay.
func TestCanariesPrune(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	there := map[string]bool{"shop": true}
	m.Canaries(func(alias string) bool {
		m.Forget("nobody") // it may call back
		return there[alias]
	})
	m.CanaryResult("gone", false)
	m.CanaryResult("gone too", false)
	if got := scrape(t, m); strings.Contains(got, canary) {
		t.Errorf("who has no canary is shown:\n%s", got)
	}
	m.CanaryResult("shop", true)
	if !has(t, m, canary+`{alias="shop"} 1`) {
		t.Error("those that are gone hold a place")
	}
	delete(there, "shop")
	if has(t, m, canary) {
		t.Error("the series outlives the canary")
	}
}
