package admin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ixmage/alias"
	"ixmage/internal/durable"
)

const (
	envName   = "IXMAGE_ADMIN_TOKEN"
	tokenFile = "admin-token"
	minToken  = 16
	maxToken  = 4096 // a header must hold it
)

// OwnToken reads the admin token from the data folder dir, and generates one at the
// first start. It is used if the operator gives none. No error of this package
// contains the token.
func OwnToken(dir string) (alias.Secret, error) {
	path := filepath.Join(dir, tokenFile)
	token, err := readToken(path, ownerOnly)
	if errors.Is(err, fs.ErrNotExist) {
		return generateToken(path)
	}
	if bad, ok := errors.AsType[*tokenError](err); ok {
		return token, fmt.Errorf("%w; the file may be removed: another token is then generated", bad)
	}
	return token, err
}

// FileToken reads the admin token from a file that the operator names. Its mode is
// not checked: mounted secrets often have group or world bits that the operator
// cannot change.
func FileToken(path string) (alias.Secret, error) {
	return readToken(path, func(*os.File) error { return nil })
}

// EnvToken reads the admin token from the value of IXMAGE_ADMIN_TOKEN.
func EnvToken(value string) (alias.Secret, error) { return parseToken(envName, value) }

// tokenError is the reason why a text is not a valid admin token.
type tokenError struct{ wrong string }

func (e *tokenError) Error() string { return e.wrong }

func readToken(path string, check func(*os.File) error) (alias.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return alias.Secret{}, fmt.Errorf("open the admin token: %w", err)
	}
	defer f.Close()
	if err := check(f); err != nil {
		return alias.Secret{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+3)) // a line end, and one more byte to detect a longer token
	if err != nil {
		return alias.Secret{}, fmt.Errorf("read the admin token: %w", err)
	}
	return parseToken("the file "+path, string(text))
}

// ownerOnly checks the open file, because the path could be replaced between the check
// and the read.
func ownerOnly(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat the admin token: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the admin token %s is not a regular file", f.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("the admin token %s can be read or written by others (mode %04o): run chmod 600 %s, "+
			"or remove the file if someone may have read it: another one is then generated", f.Name(), mode, f.Name())
	}
	return nil
}

// parseToken removes the line end of text and refuses a token that cannot be sent in
// a header or is short enough to guess.
func parseToken(from, text string) (alias.Secret, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	var wrong string
	switch {
	case text == "":
		wrong = from + " is empty: it must hold the admin token"
	case len(text) < minToken:
		wrong = fmt.Sprintf("the admin token in %s is shorter than %d characters", from, minToken)
	case len(text) > maxToken:
		wrong = fmt.Sprintf("the admin token in %s is longer than %d characters", from, maxToken)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		wrong = fmt.Sprintf("the admin token in %s must be one line of ASCII without spaces", from)
	default:
		return alias.NewSecret(text), nil
	}
	return alias.Secret{}, &tokenError{wrong}
}

// generateToken makes the file with a token of 256 random bits. The file is durable
// before the token is returned.
func generateToken(path string) (alias.Secret, error) {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails: it ends the program first
	text := hex.EncodeToString(raw)
	if err := durable.Create(path, []byte(text+"\n")); err != nil {
		return alias.Secret{}, fmt.Errorf("make the admin token: %w", err)
	}
	return alias.NewSecret(text), nil
}
