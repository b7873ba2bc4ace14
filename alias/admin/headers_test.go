package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
)

func TestIfMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		header string // CRLF-separated values of If-Match
		status int
		code   string
	}{
		{"current", `"2"`, 200, ""},
		{"any", `*`, 200, ""},
		{"list with it", `"1", "2"`, 200, ""},
		{"list without commas' spaces", `"7","2"`, 200, ""},
		{"two lines", "\"9\"\r\nIf-Match: \"2\"", 200, ""},
		{"with a foreign tag", `"abc", "2"`, 200, ""},
		{"stale", `"1"`, 412, "precondition-failed"},
		{"future", `"3"`, 412, "precondition-failed"},
		{"weak", `W/"2"`, 412, "precondition-failed"},
		{"no revision", `"abc"`, 412, "precondition-failed"},
		{"zero is not any", `"0"`, 412, "precondition-failed"},
		{"other spelling", `"02"`, 412, "precondition-failed"},
		{"sign", `"+2"`, 412, "precondition-failed"},
		{"list of stale", `"1", "3"`, 412, "precondition-failed"},
		{"empty tag", `""`, 412, "precondition-failed"},
		{"bare number", `2`, 400, "bad-request"},
		{"open quote", `"2`, 400, "bad-request"},
		{"two tags, no comma", `"1" "2"`, 400, "bad-request"},
		{"trailing comma", `"2",`, 400, "bad-request"},
		{"star in a list", `*, "2"`, 400, "bad-request"},
		{"star beside a tag", "*\r\nIf-Match: \"2\"", 400, "bad-request"},
		{"empty", ``, 400, "bad-request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.register("shop")
			a.do("PATCH", "/api/v1/aliases/shop", `{"enabled":false}`).want(200, "")
			a.do("PUT", "/api/v1/credentials/shop", keyPair).want(200, "") // revision 2 too
			send := func(method, path, body string) answer {
				return a.raw(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nIf-Match: %s\r\nContent-Length: %d\r\n\r\n%s",
					method, path, testToken, c.header, len(body), body))
			}
			send("PATCH", "/api/v1/aliases/shop", `{}`).want(c.status, c.code)
			send("PUT", "/api/v1/credentials/shop", keyPair).want(c.status, c.code)
			deleted := c.status
			if deleted == 200 {
				deleted = 204
			}
			send("DELETE", "/api/v1/aliases/shop", "").want(deleted, c.code)
			a.do("POST", "/api/v1/credentials", `{"name":"free","kind":"anonymous"}`).want(201, "")
			c.header = strings.ReplaceAll(c.header, "2", "1") // its revision is 1
			if slices.Contains([]string{"stale", "list of stale"}, c.name) {
				c.header = `"5"`
			}
			send("DELETE", "/api/v1/credentials/free", "").want(deleted, c.code)
			send("DELETE", "/api/v1/credentials/gone", "").want(map[bool]int{true: 400, false: 404}[c.status == 400], "")
		})
	}
}

func TestParsePrefer(t *testing.T) {
	t.Parallel()
	const no = time.Duration(-1)
	for _, c := range []struct {
		name  string
		lines []string
		want  time.Duration
	}{
		{"none", nil, no},
		{"empty", []string{""}, no},
		{"plain", []string{"wait=60"}, time.Minute},
		{"zero", []string{"wait=0"}, 0},
		{"leading zeros", []string{"wait=0060"}, time.Minute},
		{"at the cap", []string{"wait=300"}, maxWait},
		{"above the cap", []string{"wait=301"}, maxWait},
		{"above any number", []string{"wait=99999999999999999999999"}, maxWait},
		{"quoted", []string{`wait="60"`}, time.Minute},
		{"quoted with an escape", []string{`wait="\6\0"`}, time.Minute},
		{"space around the equals sign", []string{"wait =\t60"}, time.Minute},
		{"space around it all", []string{" \twait=60\t "}, time.Minute},
		{"other case", []string{"WAIT=60"}, time.Minute},
		{"parameter", []string{"wait=60; foo=bar"}, time.Minute},
		{"parameter with a quoted comma", []string{`wait=60;x="a,b;wait=1", wait=5`}, time.Minute},
		{"list", []string{"respond-async, wait=60"}, time.Minute},
		{"list, first", []string{"wait=60, respond-async"}, time.Minute},
		{"list with empty elements", []string{",, , wait=60 ,,"}, time.Minute},
		{"several headers", []string{"respond-async", "handling=lenient", "wait=60"}, time.Minute},
		{"the first of two counts", []string{"wait=60, wait=10"}, time.Minute},
		{"the first of two headers counts", []string{"wait=60", "wait=10"}, time.Minute},
		{"the first counts, good or not", []string{"wait=x, wait=10"}, no},
		{"inside a quoted value", []string{`foo="x, wait=5"`}, no},
		{"inside a quoted value with an escaped quote", []string{`foo="x\", wait=5", wait=60`}, time.Minute},
		{"as a parameter", []string{"foo; wait=5"}, no},
		{"as a value", []string{"foo=wait"}, no},
		{"quote that does not end", []string{`foo="x, wait=5`}, no},
		{"quote that does not end, next header", []string{`foo="x, wait=5`, "wait=60"}, time.Minute},
		{"ends in an escape", []string{`foo="x\`}, no},
		{"no value", []string{"wait"}, no},
		{"empty value", []string{"wait="}, no},
		{"empty quoted value", []string{`wait=""`}, no},
		{"half a quote", []string{`wait="`}, no},
		{"negative", []string{"wait=-1"}, no},
		{"plus", []string{"wait=+1"}, no},
		{"fraction", []string{"wait=1.5"}, no},
		{"hexadecimal", []string{"wait=0x10"}, no},
		{"underscore", []string{"wait=1_0"}, no},
		{"unit", []string{"wait=60s"}, no},
		{"words", []string{"wait=long"}, no},
		{"two equals signs", []string{"wait==60"}, no},
		{"space in the number", []string{"wait=6 0"}, no},
		{"space in the quoted number", []string{`wait=" 60"`}, no},
		{"longer name", []string{"waits=60"}, no},
		{"name with a space", []string{"wa it=60"}, no},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := wait{sent: true, limit: c.want}
			if c.want == no {
				want = wait{}
			}
			if got := parsePrefer(c.lines); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestWaitApplied(t *testing.T) {
	t.Parallel()
	for most, want := range map[time.Duration]string{0: "wait=0", time.Second: "wait=1", maxWait: "wait=300"} {
		if got := (wait{sent: true, limit: most}).applied(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestWaitBounded: one answer too many is not held back, and says so by having no
// Preference-Applied.
func TestWaitBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, _ := newWaiter(&fake{wait: func(ctx context.Context, _ string) (*alias.Operation, error) {
			<-ctx.Done()
			return running("op-1"), nil
		}})
		start := func() reply[operationJSON] {
			return h.started(running("op-1"), client{t.Context(), wait{sent: true, limit: time.Minute}, &record{}})
		}
		var all sync.WaitGroup
		for range maxHeld {
			all.Go(func() {
				if r := start(); r.applied != "wait=60" {
					t.Errorf("held: %q", r.applied)
				}
			})
		}
		synctest.Wait()
		before := time.Now()
		r := start()
		if r.status != 202 || r.applied != "" || r.body.ID != "op-1" || time.Since(before) != 0 {
			t.Errorf("one too many: %d, %q, after %s", r.status, r.applied, time.Since(before))
		}
		all.Wait()
		if r := start(); r.applied != "wait=60" {
			t.Errorf("when the others have gone: %q", r.applied)
		}
	})
}
