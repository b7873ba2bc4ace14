package admin

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
)

func TestOwnTokenGenerates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Half a token, left by a crash, is no token.
	put(t, filepath.Join(dir, tokenFile+".tmp-1"), "abc", 0o600)
	first, err := OwnToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := hex.DecodeString(first.Reveal()); err != nil || len(raw) != 32 {
		t.Errorf("token: got %d bytes, %v; want 256 bits in hex", len(raw), err)
	}
	info, err := os.Stat(filepath.Join(dir, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode(); mode != 0o600 {
		t.Errorf("mode: got %v, want 0600", mode)
	}
	again, err := OwnToken(dir)
	if err != nil || again.Reveal() != first.Reveal() {
		t.Errorf("the second start has another token, or none: %v", err)
	}
	other, err := OwnToken(t.TempDir())
	if err != nil || other.Reveal() == first.Reveal() {
		t.Errorf("two installations share a token: %v", err)
	}
}

func TestTokenForms(t *testing.T) {
	t.Parallel()
	const secret = testToken
	for _, c := range []struct {
		name       string
		file, ours string // texts of the named file and of the one in the data folder; "-" for none
		env        string
		mode       fs.FileMode
		want       string
		say, never string
	}{
		{name: "environment", file: "-", ours: "-", env: secret, want: secret},
		{name: "environment with a line end", file: "-", ours: "-", env: secret + "\n", want: secret},
		{name: "file", file: secret, ours: "-", want: secret},
		{name: "file with a line end", file: secret + "\n", ours: "-", want: secret},
		{name: "file from Windows", file: secret + "\r\n", ours: "-", want: secret},
		{name: "mounted file", file: secret, ours: "-", mode: 0o444, want: secret},
		{name: "16 characters", file: "0123456789abcdef", ours: "-", want: "0123456789abcdef"},
		{name: "ours", file: "-", ours: secret + "\n", want: secret},
		{name: "empty file", file: "", ours: "-", say: "is empty"},
		{name: "blank file", file: "\n", ours: "-", say: "is empty"},
		{name: "short file", file: "0123456789abcde\n", ours: "-", say: "shorter than 16"},
		{name: "short environment", file: "-", ours: "-", env: "0123456789abcde", say: "IXMAGE_ADMIN_TOKEN"},
		{name: "two lines", file: secret + "\n" + secret + "\n", ours: "-", say: "one line"},
		{name: "space", file: secret + " " + secret, ours: "-", say: "without spaces"},
		{name: "not ASCII", file: secret + "é", ours: "-", say: "ASCII"},
		{name: "NUL", file: secret + "\x00", ours: "-", say: "ASCII"},
		{name: "endless", file: strings.Repeat(secret, 1000), ours: "-", say: "longer than"},
		{name: "ours is empty", file: "-", ours: "", say: "is empty: it must hold the admin token; the file may be removed: another token is then generated"},
		{name: "ours is short", file: "-", ours: "abc", say: "characters; the file may be removed"},
		{name: "ours is open to the group", file: "-", ours: secret, mode: 0o640, say: "chmod 600"},
		{name: "ours is open to all", file: "-", ours: secret, mode: 0o604, say: "chmod 600"},
		{name: "ours can be written by others", file: "-", ours: secret, mode: 0o602, say: "chmod 600"},
		{name: "ours is stricter", file: "-", ours: secret, mode: 0o400, want: secret},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.mode == 0 {
				c.mode = 0o600
			}
			dir := t.TempDir()
			load := func() (alias.Secret, error) { return EnvToken(c.env) }
			if c.file != "-" {
				path := filepath.Join(t.TempDir(), "token")
				put(t, path, c.file, c.mode)
				load = func() (alias.Secret, error) { return FileToken(path) }
			}
			if c.ours != "-" {
				put(t, filepath.Join(dir, tokenFile), c.ours, c.mode)
				load = func() (alias.Secret, error) { return OwnToken(dir) }
			}
			got, err := load()
			if c.want != "" {
				if err != nil || got.Reveal() != c.want {
					t.Errorf("got %q, %v; want %q", got.Reveal(), err, c.want)
				}
				return
			}
			if err == nil || !got.IsZero() {
				t.Fatalf("got %q, want an error", got.Reveal())
			}
			if !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), secret) {
				t.Errorf("error: got %q, want %q in it and no token", err, c.say)
			}
		})
	}
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // not subject to the umask
		t.Fatal(err)
	}
}

func TestTokenFileTrouble(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := FileToken(filepath.Join(dir, "nope")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is not there: got %v", err)
	}
	if _, err := OwnToken(filepath.Join(dir, "nope")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no data folder: got %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, tokenFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OwnToken(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder in its place: got %v", err)
	}
}
