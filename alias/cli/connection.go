package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"ixmage/alias"
	"ixmage/alias/client"
)

// Variables of the client commands; no other flag of them has one. The token itself is no
// flag, because other users of the machine see the arguments of a process.
const (
	EnvURL       = "IXMAGE_ADMIN_URL"
	envToken     = "IXMAGE_ADMIN_TOKEN"
	envTokenFile = "IXMAGE_ADMIN_TOKEN_FILE"
)

// Connection are the flags of every client command: the server, the token, the form of
// the output.
type Connection struct {
	AdminURL       string `name:"admin-url" env:"IXMAGE_ADMIN_URL" help:"URL of the admin listener. Default: that of a server on this machine, ${default_url} or IXMAGE_ADMIN_LISTEN." placeholder:"URL" group:"connection"`
	AdminTokenFile string `name:"admin-token-file" env:"IXMAGE_ADMIN_TOKEN_FILE" help:"File with the token; or the token itself in IXMAGE_ADMIN_TOKEN. Default: admin-token in the data folder, IXMAGE_DATA or ./ixmage-data." placeholder:"FILE" group:"connection"`
	Output         string `short:"o" enum:"table,json,yaml" default:"table" help:"Form of the output: table, json (the answer of the API) or yaml (the same)." placeholder:"FORM" group:"connection"`
}

const defaultAddr = "127.0.0.1:8081"

func (c *Connection) connection() *Connection { return c }

// dial makes the client of the server. It connects to nothing yet.
func (c *Connection) dial() (*client.Client, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	api, err := client.New(c.url(), token)
	if err != nil {
		return nil, usagef("--admin-url (%s): %v", EnvURL, err)
	}
	return api, nil
}

// url is the URL of the flag, or that of a server which this machine runs with the same
// environment.
func (c *Connection) url() string {
	if c.AdminURL != "" {
		return c.AdminURL
	}
	host, port, err := net.SplitHostPort(os.Getenv("IXMAGE_ADMIN_LISTEN"))
	if err != nil || port == "0" {
		return "http://" + defaultAddr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if os.Getenv("IXMAGE_ADMIN_TLS_CERT") != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// source says where the token is from.
func (c *Connection) source() string {
	file, fromEnv := c.AdminTokenFile, os.Getenv(envTokenFile)
	switch {
	case os.Getenv(envToken) != "" && (file == "" || file == fromEnv):
		return envToken
	case file != "":
		return file
	}
	return defaultTokenFile()
}

// token reads the token. A flag wins over the variables.
func (c *Connection) token() (alias.Secret, error) {
	value, fromEnv := os.Getenv(envToken), os.Getenv(envTokenFile)
	file := c.AdminTokenFile
	if value != "" && (file == "" || file == fromEnv) {
		if fromEnv != "" {
			return alias.Secret{}, usagef("%s and %s are both set: unset one", envToken, envTokenFile)
		}
		return checkToken(value, envToken)
	}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return alias.Secret{}, usagef("--admin-token-file (%s): %v", envTokenFile, err)
		}
		return checkToken(string(text), file)
	}
	if c.elsewhere() {
		return alias.Secret{}, usagef("name the token for %s: a file with --admin-token-file (%s), "+
			"or the token itself in %s; the one of this machine's data folder is not sent to another machine",
			c.AdminURL, envTokenFile, envToken)
	}
	return defaultToken()
}

// elsewhere reports whether the URL was given and is not certainly of this machine.
func (c *Connection) elsewhere() bool {
	u, err := url.Parse(c.AdminURL)
	if c.AdminURL == "" || err != nil {
		return false // it is refused elsewhere
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// defaultTokenFile is where a server on this machine keeps the token that it has made.
func defaultTokenFile() string {
	folder := os.Getenv("IXMAGE_DATA")
	if folder == "" {
		folder = "ixmage-data"
	}
	return filepath.Join(folder, "admin-token")
}

// defaultToken reads that token.
func defaultToken() (alias.Secret, error) {
	file := defaultTokenFile()
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return alias.Secret{}, usagef("there is no token: %s does not exist. Name a file with --admin-token-file (%s), "+
			"set %s, or set IXMAGE_DATA to the data folder of a server on this machine", file, envTokenFile, envToken)
	case err != nil:
		return alias.Secret{}, usagef("read the token: %v; name another file with --admin-token-file (%s)", err, envTokenFile)
	}
	return checkToken(string(text), file)
}

// checkToken refuses what cannot be sent in a header.
func checkToken(text, source string) (alias.Secret, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return alias.Secret{}, usagef("%s has no token: it is empty", source)
	}
	for _, r := range text {
		if r <= ' ' || r > '~' {
			return alias.Secret{}, usagef("%s has no token: it has a character that a token cannot have; "+
				"it must hold the token alone", source)
		}
	}
	return alias.NewSecret(text), nil
}

// remote says where the server is, for the error that it does not answer.
func (c *Connection) remote() string {
	if c.AdminURL != "" {
		return fmt.Sprintf("is the server running, and is --admin-url (%s) right?", EnvURL)
	}
	return "is the server running? If it is elsewhere, name it with --admin-url or " + EnvURL
}
