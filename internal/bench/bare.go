package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/proxy"
)

// bareSpec has the answers of the bare server, as gob on standard input, so that the
// server process holds nothing else.
type bareSpec struct {
	Sizes []int
	// Headers of the reference server's answers by object key, in their order. Without
	// headers, the answer has Content-Type only.
	Headers map[string][]headerLine
}

type headerLine struct{ Name, Value string }

// serveBare is the baseline: the same HTTP library with the same settings, the same
// header names with values of the same length, the same bytes, and nothing else.
func serveBare(in io.Reader, out io.Writer) error {
	var spec bareSpec
	if err := gob.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read the spec: %w", err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := bareServer(bareHandler(spec))
	if _, err := fmt.Fprintf(out, "addr=%s\n", ln.Addr()); err != nil {
		return err
	}
	return server.Serve(ln)
}

// bareServer has the settings of the public listener of ixmage.
func bareServer(h fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      h,
		ReadTimeout:                  10 * time.Second,
		IdleTimeout:                  65 * time.Second,
		WriteTimeout:                 60 * time.Second,
		ReadBufferSize:               proxy.ReadBufferSize,
		WriteBufferSize:              proxy.WriteBufferSize,
		MaxRequestBodySize:           1,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
	}
}

// startBare runs this program again as the bare server, which ends when its standard
// input closes.
func (e *env) startBare(ctx context.Context, headers map[string][]headerLine) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, bareCommand)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, stdoutEnd := io.Pipe()
	cmd.Stdout = stdoutEnd
	s, err := e.launch(cmd, stdoutEnd)
	if err != nil {
		return nil, err
	}
	s.isHit = func(http.Header) bool { return true } // it has no cache, so no answer is a miss
	err = gob.NewEncoder(stdin).Encode(bareSpec{Sizes: e.sizes, Headers: headers})
	line, _ := bufio.NewReader(stdout).ReadString('\n') // it prints nothing else
	s.addr = strings.TrimPrefix(strings.TrimSpace(line), "addr=")
	if err != nil || s.addr == "" {
		s.stop()
		return nil, fmt.Errorf("the bare server did not come up: %w\n%s", err, s.child.Output())
	}
	return s, nil
}

type bareAnswer struct {
	body        []byte
	contentType []byte
	names       [][]byte
	values      [][]byte
}

func bareHandler(spec bareSpec) fasthttp.RequestHandler {
	answers := make(map[string]*bareAnswer, len(spec.Sizes))
	for _, n := range spec.Sizes {
		a := &bareAnswer{body: objectBody(n), contentType: []byte("image/png")}
		for _, h := range spec.Headers[objectKey(n)] {
			if setByServer(h.Name) {
				continue
			}
			a.names = append(a.names, []byte(h.Name))
			a.values = append(a.values, []byte(h.Value))
		}
		answers["/"+bucket+"/"+objectKey(n)] = a
	}
	return func(ctx *fasthttp.RequestCtx) {
		a, ok := answers[string(ctx.Request.Header.RequestURI())]
		if !ok {
			ctx.SetStatusCode(fasthttp.StatusNotFound)
			return
		}
		h := &ctx.Response.Header
		h.SetContentTypeBytes(a.contentType)
		for i, name := range a.names {
			h.SetCanonical(name, a.values[i])
		}
		ctx.Response.SetBodyRaw(a.body)
	}
}

// setByServer are the headers that fasthttp writes itself.
func setByServer(name string) bool {
	switch strings.ToLower(name) {
	case "date", "content-length", "content-type", "connection":
		return true
	}
	return false
}

// usualHeaders is the header set of a hit, for a run without our server.
func usualHeaders(sizes []int) map[string][]headerLine {
	lines := []headerLine{
		{"Etag", `"0123456789abcdef0123456789abcdef"`},
		{"Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT"},
		{"Accept-Ranges", "bytes"},
		{"Cache-Control", "public, max-age=3600"},
		{"Age", "60"},
		{"Cache-Status", "ixmage; hit; ttl=3540"},
		{"X-Request-Id", "0123456789abcdef0123456789abcdef"},
		{"X-Content-Type-Options", "nosniff"},
		{"Content-Security-Policy", csp},
	}
	headers := make(map[string][]headerLine, len(sizes))
	for _, n := range sizes {
		headers[objectKey(n)] = lines
	}
	return headers
}
