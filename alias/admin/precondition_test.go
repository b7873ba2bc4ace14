package admin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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
