package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"

	"golang.org/x/term"

	"ixmage/internal/logging"
)

// started makes the server ready, and tells systemd and a person at a terminal.
func (s *serveCmd) started(serving *atomic.Bool, lines *logging.Log, v *servers) {
	serving.Store(true)
	notifySystemd("READY=1")
	if s.terminal {
		lines.Print(s.nextSteps(v))
	}
}

// isTerminal reports whether a person reads w. File.Fd is not used, because it makes writes
// to the terminal block.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	err = raw.Control(func(fd uintptr) { terminal = term.IsTerminal(int(fd)) })
	return err == nil && terminal
}

// nextSteps says to the person at the terminal where everything is. It names the place of the
// token and not the token, because terminals keep and show what was printed.
func (s *serveCmd) nextSteps(v *servers) string {
	scheme := "http://"
	if s.cert != nil {
		scheme = "https://"
	}
	admin := scheme + localAddr(v.admin.Addr().String())
	public := "http://" + localAddr(v.publicLn.Addr().String())
	metrics := admin
	if v.metrics != nil {
		metrics = "http://" + localAddr(v.metrics.Addr().String())
	}
	token := s.tokenFile()
	var b strings.Builder
	fmt.Fprintln(&b)
	for _, line := range [][2]string{
		{"pictures", cmp.Or(strings.TrimSuffix(string(s.PublicURL), "/"), public) + "/ALIAS/KEY"},
		{"console", admin + "/"},
		{"token", cmp.Or(token, "in the variable "+envToken)},
		{"metrics", metrics + "/metrics"},
		{"next", s.clientEnv(admin, token) + s.firstCommand()},
	} {
		fmt.Fprintf(&b, "  %-9s %s\n", line[0], line[1])
	}
	fmt.Fprintln(&b)
	return b.String()
}

// tokenFile is the path of the file with the admin token, or "" if there is none.
func (s *serveCmd) tokenFile() string {
	path := s.AdminTokenFile
	if path == "" && s.token.IsZero() {
		path = filepath.Join(s.Data, "admin-token")
	}
	if path == "" {
		return ""
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return path
}

// firstCommand is what to type first. Without arguments, provision asks for everything.
func (s *serveCmd) firstCommand() string {
	if s.Provision {
		return "ixmage provision"
	}
	return "ixmage alias add ALIAS --bucket BUCKET --region REGION"
}

// clientEnv returns the variables that a client command in the same folder needs to find this
// server, each followed by a space.
func (s *serveCmd) clientEnv(admin, token string) string {
	var env string
	if admin != "http://127.0.0.1:8081" {
		env += "IXMAGE_ADMIN_URL=" + admin + " "
	}
	if byDefault, err := filepath.Abs("ixmage-data/admin-token"); token != "" && (err != nil || token != byDefault) {
		env += "IXMAGE_ADMIN_TOKEN_FILE=" + shellQuote(token) + " "
	}
	return env
}

// shellQuote quotes a word for a shell, if it needs that.
func shellQuote(word string) string {
	if needsQuotes.MatchString(word) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

var needsQuotes = regexp.MustCompile(`[^\w/.:-]`)
