package e2e

import (
	"net/http"
	"slices"
	"strings"

	"ixmage/internal/awstest/s3"
)

// headerRows: the headers of an object hold what nobody should send. They are
// refused or left out, and never passed on.
func headerRows() []fault {
	refused := func() *verdict { return fails(502, "origin-error", 2, "error") }
	var rows []fault
	for _, name := range []string{"Content-Type", "ETag", "Last-Modified", "Cache-Control", "Content-Disposition", "x-amz-meta-note"} {
		for _, payload := range []struct {
			name, value string
			broken      bool // no header at all (RFC 9110, section 5.5), or too much of one
		}{
			{"CR", "a\rSet-Cookie: evil=1", true},
			{"LF", "a\nSet-Cookie: evil=1", false},
			{"CR LF", "a\r\nSet-Cookie: evil=1", false},
			{"a folded line", "a\r\n Set-Cookie: evil=1", false},
			{"NUL", "a\x00b", true},
			{"a control byte", "a\x01b", true},
			{"eight bits", "\xe9\xff", false},
			{"20 KiB", strings.Repeat("a", 20<<10), false},
			{"64 KiB", strings.Repeat("a", 64<<10), true},
		} {
			row := fault{name: payload.name + " in " + name, script: with(name, payload.value), get: whole(1), head: whole(1)}
			switch {
			case payload.broken:
				row.get, row.head = refused(), refused()
			case name == "Content-Type":
				row.script = with(name, "image/png;"+payload.value)
			case name == "Last-Modified": // the SDK takes it for a broken reply
				row.get, row.head = fails(502, "origin-error", 1, "error"), fails(502, "origin-error", 2, "error")
			}
			rows = append(rows, row)
		}
	}
	return slices.Concat(rows, []fault{
		{name: "a type that is none", script: with("Content-Type", "image/png\xff"), get: fails(415, "not-an-image", 1, "aborted")},
		{name: "two types", script: with("Content-Type", "text/html\r\nContent-Type: image/png"), get: fails(415, "not-an-image", 1, "aborted")},
		{name: "two lengths", script: with("Content-Length", "1\r\nContent-Length: 2"), get: fails(502, "origin-error", 2, "error")},
		{name: "a length below zero", script: with("Content-Length", "-1"), get: fails(502, "origin-error", 2, "error")},
		{name: "a length and chunks", script: with("Transfer-Encoding", "chunked"), get: fails(502, "origin-error", 2, "error")},
		{name: "a line without a colon", script: with("x-amz-meta-note", "a\r\nevil"), get: fails(502, "origin-error", 2, "error")},
		{name: "no headers but the length", script: bareHeaders(), get: whole(1)},
	})
}

// with sends a header line in place of the right one, byte for byte.
func with(name, value string) script {
	return always(&s3.Fault{
		Header: func(h http.Header) { h.Del(name) }, Raw: []string{name + ": " + value},
	})
}

func bareHeaders() script {
	return always(&s3.Fault{Header: func(h http.Header) {
		length := h.Get("Content-Length")
		clear(h)
		h.Set("Content-Length", length)
	}})
}
