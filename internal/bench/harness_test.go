package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// newWeb serves h and returns its address. Connections are not kept: the
// client is the program's own and outlives the test.
func newWeb(t *testing.T, h http.Handler) string {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(func() {
		client.CloseIdleConnections()
		web.Close()
	})
	return strings.TrimPrefix(web.URL, "http://")
}

func startBareInProcess(t *testing.T, spec bareSpec) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := bareServer(bareHandler(spec))
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}
