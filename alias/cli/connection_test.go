package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenStaysHere: the token of the data folder is not sent to a machine that was named.
func TestTokenStaysHere(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("IXMAGE_DATA", dir)
	t.Setenv(envToken, "")
	t.Setenv(envTokenFile, "")
	own := filepath.Join(dir, "admin-token")
	if err := os.WriteFile(own, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, sent := range map[string]bool{
		"":                                true,
		"http://127.0.0.1:8081":           true,
		"http://localhost:1":              true,
		"http://[::1]:8081":               true,
		"https://admin.example":           false,
		"http://10.0.0.7:8081":            false,
		"http://localhost.evil.example":   false,
		"http://127.0.0.1@evil.example":   false,
		"http://127.0.0.1.evil.example:1": false,
	} {
		c := &Connection{AdminURL: url}
		_, err := c.token()
		if sent != (err == nil) {
			t.Errorf("%s: got %v", url, err)
		}
		if err != nil && !strings.Contains(err.Error(), "is not sent to another machine") {
			t.Errorf("%s: got %v", url, err)
		}
		if _, err := (&Connection{AdminURL: url, AdminTokenFile: own}).token(); err != nil {
			t.Errorf("%s with a file: %v", url, err)
		}
	}
}
