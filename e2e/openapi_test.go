package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"sync"
	"testing"

	"ixmage/internal/apitest"
)

const documentFile = "../docs/openapi.json"

// contract is the document of the API, with which every answer of the admin listener is
// compared.
var contract = sync.OnceValue(func() *apitest.Contract {
	text, err := os.ReadFile(documentFile)
	if err != nil {
		panic(err)
	}
	c, err := apitest.Load(text)
	if err != nil {
		panic(err)
	}
	return c
})

// TestOpenAPI: the program sends the document that stands in docs, and health and metrics are
// as it says.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := start(t)
	text, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := json.Compact(&want, text); err != nil {
		t.Fatal(err)
	}
	got := s.api(http.MethodGet, "/api/v1/openapi.json", nil)
	if body := string(bytes.TrimSpace(got.body)); got.StatusCode != http.StatusOK || body != want.String() {
		t.Errorf("%s: it differs from %s", got.Status, documentFile)
	}
	if tag := got.Header.Get("ETag"); s.api(http.MethodGet, "/api/v1/openapi.json", nil, "If-None-Match", tag).StatusCode != http.StatusNotModified {
		t.Errorf("it is sent again to a client that has %s", tag)
	}
	for _, path := range []string{"/-/healthz", "/-/readyz", "/metrics"} {
		if r := s.do(http.MethodGet, "http://"+s.admin+path, nil); r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}
