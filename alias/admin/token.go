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
)

const (
	envName   = "IXMAGE_ADMIN_TOKEN"
	tokenFile = "admin-token"
	minToken  = 16
	maxToken  = 4096 // a header must hold it
)

// LoadToken finds the admin token: in the file an operator names, or in env,
// the value of IXMAGE_ADMIN_TOKEN, or else in the data folder dir, where one is
// generated at first start. No error holds the token.
func LoadToken(dir, file, env string) (alias.Secret, error) {
	switch {
	case file != "" && env != "":
		return alias.Secret{}, errors.New("the admin token is given twice: " +
			"set --admin-token-file (IXMAGE_ADMIN_TOKEN_FILE) or IXMAGE_ADMIN_TOKEN, not both")
	case env != "":
		return parseToken(envName, env)
	case file != "":
		// Mounted secrets often have group or world bits that the operator
		// cannot change, so only our own file is held to its mode.
		return readToken(file, func(*os.File) error { return nil })
	}
	path := filepath.Join(dir, tokenFile)
	token, err := readToken(path, ownerOnly)
	if errors.Is(err, fs.ErrNotExist) {
		return generateToken(path)
	}
	return token, err
}

// ValidateToken says what is wrong with env, the value of IXMAGE_ADMIN_TOKEN.
func ValidateToken(env string) error {
	_, err := parseToken(envName, env)
	return err
}

func readToken(path string, check func(*os.File) error) (alias.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return alias.Secret{}, fmt.Errorf("open the admin token: %w", err)
	}
	defer f.Close()
	if err := check(f); err != nil {
		return alias.Secret{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+3)) // a line end more, and one to notice
	if err != nil {
		return alias.Secret{}, fmt.Errorf("read the admin token: %w", err)
	}
	return parseToken("the file "+path, string(text))
}

// ownerOnly is asked of the open file, so that it cannot be swapped between the
// check and the reading.
func ownerOnly(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the admin token: %w", err)
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

// parseToken takes the line end off text and refuses what cannot be sent in a
// header or could be guessed.
func parseToken(from, text string) (alias.Secret, error) {
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case text == "":
		return alias.Secret{}, fmt.Errorf("%s is empty: it must hold the admin token", from)
	case len(text) < minToken:
		return alias.Secret{}, fmt.Errorf("the admin token in %s is shorter than %d characters", from, minToken)
	case len(text) > maxToken:
		return alias.Secret{}, fmt.Errorf("the admin token in %s is longer than %d characters", from, maxToken)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return alias.Secret{}, fmt.Errorf("the admin token in %s must be one line of ASCII without spaces", from)
	}
	return alias.NewSecret(text), nil
}

// generateToken makes the file with a token of 256 random bits. It is durable
// before anyone is told of it.
func generateToken(path string) (alias.Secret, error) {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails: it ends the program first
	text := hex.EncodeToString(raw)
	if err := writeToken(path, text+"\n"); err != nil {
		return alias.Secret{}, fmt.Errorf("make the admin token: %w", err)
	}
	return alias.NewSecret(text), nil
}

func writeToken(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// Half a token must not be found at the next start.
		return errors.Join(err, os.Remove(path))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the entry of a new file durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
