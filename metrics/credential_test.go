package metrics

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

var day = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

const (
	created  = "ixmage_credential_created_timestamp_seconds"
	rotate   = "ixmage_credential_rotate_every_seconds"
	scoped   = "ixmage_credential_scope"
	fallback = "ixmage_rotation_fallback_total"
)

func TestCredential(t *testing.T) {
	t.Parallel()
	at := func(d time.Time) string { return fmt.Sprintf("%v", seconds(d)) }
	for _, tc := range []struct {
		name string
		info []CredentialInfo
		want []string
		not  []string
	}{
		{
			name: "never rotated", info: []CredentialInfo{{Created: day, Scope: "proven"}},
			want: []string{created + `{credential="shop"} ` + at(day), rotate + `{credential="shop"} 0`, scoped + `{credential="shop",scope="proven"} 1`, fallback + `{credential="shop"} 0`},
			not:  []string{"_other"},
		},
		{
			name: "rotated", info: []CredentialInfo{{Created: day, RotateEvery: time.Hour}, {Created: day.Add(time.Hour), RotateEvery: time.Hour}},
			want: []string{created + `{credential="shop"} ` + at(day.Add(time.Hour)), rotate + `{credential="shop"} 3600`},
		},
		{
			name: "checked again", info: []CredentialInfo{{Created: day, Scope: "proven"}, {Created: day, Scope: "violated"}},
			want: []string{scoped + `{credential="shop",scope="violated"} 1`}, not: []string{`scope="proven"`},
		},
		{
			name: "not checked", info: []CredentialInfo{{Created: day}}, not: []string{scoped + "{"},
		},
		{
			name: "without a key", info: []CredentialInfo{{Scope: "proven"}},
			want: []string{scoped + `{credential="shop",scope="proven"} 1`}, not: []string{created + "{", rotate + "{"},
		},
		{
			name: "scope of nobody", info: []CredentialInfo{{Created: day, Scope: "AKIAIOSFODNN7EXAMPLE"}},
			want: []string{scoped + `{credential="shop",scope="not-proven"} 1`}, not: []string{"AKIA"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{AliasCap: 1000})
			for _, info := range tc.info {
				m.Credential("shop", info)
			}
			got := scrape(t, m)
			for _, want := range tc.want {
				if !strings.Contains("\n"+got, "\n"+want+"\n") {
					t.Errorf("no line %s in\n%s", want, got)
				}
			}
			for _, not := range tc.not {
				if strings.Contains(got, not) {
					t.Errorf("unwanted %s in\n%s", not, got)
				}
			}
			m.ForgetCredential("shop")
			m.RotationFallback("shop") // ends after the credential
			if got := scrape(t, m); strings.Contains(got, `"shop"`) {
				t.Errorf("series outlive their credential:\n%s", got)
			}
			if !has(t, m, fallback+`{credential="_other"} 1`+"\n") {
				t.Error("a late fallback is lost")
			}
		})
	}
}

func TestCredentialNamesThatAreNone(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	before := scrape(t, m)
	for _, name := range []string{"", "\xff", labelOther, labelUnknown} {
		m.Credential(name, CredentialInfo{Created: day, Scope: "proven"})
		m.CanaryResult(name, true)
	}
	if got := scrape(t, m); got != before {
		t.Errorf("they have series:\n%s", got)
	}
	m.RotationFallback("\xff") // counts all the same
	if !has(t, m, fallback+`{credential="_other"} 1`) {
		t.Error("a fallback is lost")
	}
}

// TestCredentialCap: the credentials past the cap share a series, which has the values of
// the one that is due first.
func TestCredentialCap(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	m.Credential("first", CredentialInfo{Created: day, Scope: "proven"})
	m.RotationFallback("first")
	if got := scrape(t, m); strings.Contains(got, labelOther) {
		t.Errorf("there are no others:\n%s", got)
	}
	for name, info := range map[string]CredentialInfo{
		"none":    {Scope: "proven"},
		"old":     {Created: day.AddDate(-9, 0, 0), Scope: "proven"},
		"late":    {Created: day.Add(-time.Hour), RotateEvery: 48 * time.Hour, Scope: "violated"},
		"overdue": {Created: day, RotateEvery: time.Hour, Scope: "proven"},
	} {
		m.Credential(name, info)
		m.RotationFallback(name)
	}
	for _, want := range []string{
		fmt.Sprintf(`%s{credential="_other"} %v`, created, seconds(day)), rotate + `{credential="_other"} 3600`,
		scoped + `{credential="_other",scope="proven"} 3`, scoped + `{credential="_other",scope="violated"} 1`,
		fallback + `{credential="_other"} 4`, fallback + `{credential="first"} 1`,
	} {
		if !has(t, m, want+"\n") {
			t.Errorf("no line %s in\n%s", want, scrape(t, m))
		}
	}
	m.ForgetCredential("late")
	if has(t, m, scoped+`{credential="_other",scope="violated"}`) {
		t.Error("a forgotten one is still counted among the others")
	}
	m.ForgetCredential("first")
	m.Credential("old", CredentialInfo{Created: day.AddDate(-9, 0, 0), Scope: "proven"})
	if !has(t, m, scoped+`{credential="old",scope="proven"} 1`) || !has(t, m, scoped+`{credential="_other",scope="proven"} 2`) {
		t.Errorf("the place that got free is not taken, or taken twice:\n%s", scrape(t, m))
	}
	if none := New(Config{}); true {
		none.Credential("shop", CredentialInfo{Created: day})
		if !has(t, none, created+`{credential="_other"}`) {
			t.Error("with a cap of 0 a credential has a series of its own")
		}
	}
}

// TestFreedCredentialPlace: the place of a forgotten credential goes at once to one
// that was shown as _other, the worst circuit and then the oldest key pair first.
func TestFreedCredentialPlace(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	m.Credential("first", CredentialInfo{Created: day, Scope: "proven"})
	m.Credential("no-key", CredentialInfo{Scope: "proven"})
	m.Credential("new", CredentialInfo{Created: day.Add(time.Hour), Scope: "proven"})
	m.Credential("old", CredentialInfo{Created: day, Scope: "weak"})
	m.Credential("broken", CredentialInfo{Created: day.Add(time.Hour), Scope: "violated"})
	m.OriginCircuit("broken", 2)
	for _, want := range []struct{ forget, place, scope string }{
		{"first", "broken", "violated"}, {"broken", "old", "weak"}, {"old", "new", "proven"}, {"new", "no-key", "proven"},
	} {
		m.ForgetCredential(want.forget)
		if line := scoped + `{credential="` + want.place + `",scope="` + want.scope + "\"} 1\n"; !has(t, m, line) {
			t.Fatalf("no line %s after %s was forgotten:\n%s", line, want.forget, scrape(t, m))
		}
	}
	if has(t, m, labelOther) {
		t.Errorf("there are no others:\n%s", scrape(t, m))
	}
	m.ForgetCredential("no-key")
	if has(t, m, "no-key") {
		t.Errorf("series outlive their credential:\n%s", scrape(t, m))
	}
}

// Whatever comes and goes, the number of series is bounded, and in the end there
// are none. Run with -race.
func TestCredentialsAndCanariesComeAndGo(t *testing.T) {
	t.Parallel()
	const places = 10
	m := New(Config{AliasCap: places})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 500 {
				name := fmt.Sprintf("name-%d", (i*7+j)%50)
				m.Credential(name, CredentialInfo{Created: day, Scope: scopeLabels[j%len(scopeLabels)]})
				m.RotationFallback(name)
				m.OriginCircuit(name, j%3)
				m.CanaryResult(name, j%2 == 0)
				m.Step(fmt.Sprintf("step-%d", j), time.Second)
				m.Operation(name, name)
				m.Orphans(j)
				if j%3 == 0 {
					m.ForgetCredential(name)
					m.Forget(name)
				}
				if j%100 == 0 {
					scrape(t, m)
				}
			}
		})
	}
	wg.Wait()
	got := scrape(t, m)
	for _, family := range []string{created, rotate, scoped, fallback, "ixmage_origin_circuit", "ixmage_canary_success"} {
		if n := strings.Count(got, "\n"+family+"{"); n > places+len(scopeLabels) {
			t.Errorf("%s has %d series, want at most %d", family, n, places+len(scopeLabels))
		}
	}
	if n := strings.Count(got, "ixmage_provision_step_duration_seconds_count"); n != maxSteps+1 {
		t.Errorf("%d steps, want %d and the others", n, maxSteps)
	}
	for i := range 50 {
		m.ForgetCredential(fmt.Sprintf("name-%d", i))
		m.ForgetCanary(fmt.Sprintf("name-%d", i))
	}
	if got := scrape(t, m); strings.Contains(got, "name-") {
		t.Errorf("series are left:\n%s", got)
	}
}

func TestOriginCircuit(t *testing.T) {
	t.Parallel()
	const circuit = "ixmage_origin_circuit"
	m := New(Config{AliasCap: 1})
	want := func(what string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !has(t, m, line+"\n") {
				t.Errorf("%s: no line %s in\n%s", what, line, scrape(t, m))
			}
		}
	}
	m.OriginCircuit("stranger", 2)
	m.Credential("first", CredentialInfo{})
	want("nothing is told", circuit+`{credential="first"} 0`)
	if has(t, m, "stranger") || has(t, m, circuit+`{credential="_other"}`) {
		t.Errorf("there are no others:\n%s", scrape(t, m))
	}
	for _, state := range []int{2, 1, 0, 2} {
		m.OriginCircuit("first", state)
		want("told", fmt.Sprintf(`%s{credential="first"} %d`, circuit, state))
	}
	m.Credential("first", CredentialInfo{Created: day})
	want("shown anew", circuit+`{credential="first"} 2`)
	m.Credential("second", CredentialInfo{})
	m.Credential("third", CredentialInfo{})
	want("two without a place", circuit+`{credential="_other"} 0`)
	m.OriginCircuit("second", 1)
	m.OriginCircuit("third", 2)
	want("the worst of them", circuit+`{credential="_other"} 2`)
	m.ForgetCredential("first")
	m.OriginCircuit("first", 2) // ends after the credential
	if has(t, m, `"first"`) {
		t.Errorf("series outlive their credential:\n%s", scrape(t, m))
	}
	m.Credential("third", CredentialInfo{})
	want("it has a place now", circuit+`{credential="third"} 2`, circuit+`{credential="_other"} 1`)
}
