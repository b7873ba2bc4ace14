package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

// A placeholder of unknown length that must not be stored cannot be sent to an HTTP/1.0
// client: the log says what the client was told. Any other has a length when it is complete.
func TestPlaceholderWithoutLength(t *testing.T) {
	t.Parallel()
	control := "no-store"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/gone.png") {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
			return
		}
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Cache-Control", control)
		w.Write(make([]byte, 100))
		w.(http.Flusher).Flush()
		w.Write(make([]byte, 100))
	}))
	t.Cleanup(server.Close)
	for _, tc := range []struct {
		version string
		control string
		status  int
		code    string // of the log line
	}{
		{"HTTP/1.1\r\nHost: x", "no-store", http.StatusNotFound, "not-found"},
		{"HTTP/1.0", "no-store", http.StatusBadGateway, "origin-error"},
		{"HTTP/1.0", "", http.StatusNotFound, "not-found"},
	} {
		control = tc.control
		p := newProxyBefore(t, server.URL, nil)
		a, _ := p.registry.Lookup("shop")
		_, err := p.registry.UpdateAlias(context.Background(), "shop", a.Alias.Revision, func(a *alias.Alias, _ *alias.CredentialRef) error {
			a.Fallback = alias.Fallback{Missing: "gone.png"}
			return nil
		})
		must(t, err)
		var lines bytes.Buffer
		p.log = slog.New(slog.NewJSONHandler(&lines, nil))
		conn := &texts{list: []string{"GET /shop/a.png " + tc.version + "\r\n\r\n"}}
		var sent bytes.Buffer
		serveConn(t, p, &writes{texts: conn, sent: &sent})
		answer, err := http.ReadResponse(bufio.NewReader(&sent), nil)
		must(t, err)
		body, err := io.ReadAll(answer.Body)
		must(t, err)
		answer.Body.Close()
		var line struct {
			Status      int
			Code, Error string
		}
		must(t, json.Unmarshal(lines.Bytes(), &line))
		if answer.StatusCode != tc.status || line.Status != tc.status || line.Code != tc.code {
			t.Errorf("%s: answered %d with %q, logged %+v; want %d and %s", tc.version, answer.StatusCode, body, line, tc.status, tc.code)
		}
	}
}

// writes keeps what is sent.
type writes struct {
	*texts
	sent *bytes.Buffer
}

func (w *writes) Write(p []byte) (int, error) { return w.sent.Write(p) }

// A placeholder on disk replaces an object whose body failed before the header was sent. The
// reader of that object keeps its fetch and its memory until it is closed.
func TestPlaceholderClosesReader(t *testing.T) {
	t.Parallel()
	e := newDiskEnv(t, map[string][]byte{"broken.png": bytesOf(100 << 10)})
	route, _ := e.registry.Lookup("shop")
	var fc fasthttp.RequestCtx
	fc.Init(&fasthttp.Request{}, nil, nil)
	requested := &closedReader{}
	x := e.begin(&fc, time.Now())
	x.route, x.reader = route, requested
	if !e.servePlaceholder(x, "broken.png", probOrigin) || x.reader == requested {
		t.Fatal("the placeholder is not served from disk")
	}
	must(t, x.Close())
	if !requested.closed {
		t.Error("the reader of the requested object stays open")
	}
}

type closedReader struct {
	chunkReader

	closed bool
}

func (r *closedReader) Close() error { r.closed = true; return nil }
