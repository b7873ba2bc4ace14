package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// startOurs runs an ixmage binary and registers an alias on the origin.
func (e *env) startOurs(ctx context.Context, path string) (*server, error) {
	dir, err := os.MkdirTemp(e.dir, "ixmage-")
	if err != nil {
		return nil, err
	}
	return e.startIxmage(ctx, ixmage{
		path: path, dir: dir, endpoint: "http://" + e.origin.addr, bucket: bucket,
		accessKey: "BENCHBENCHBENCHBENCH", secretKey: "benchbenchbenchbenchbenchbenchbenchbench",
	})
}

// ixmage is a binary and its configuration.
type ixmage struct {
	path, dir, endpoint, bucket, accessKey, secretKey string
	flags                                             []string
}

func (e *env) startIxmage(ctx context.Context, x ixmage) (*server, error) {
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--data", x.dir, "--allow-private-endpoints"}, x.flags...)
	log, logEnd := io.Pipe()
	cmd := exec.CommandContext(ctx, x.path, args...)
	cmd.Stderr = logEnd
	s, err := e.launch(cmd, logEnd)
	if err != nil {
		return nil, err
	}
	s.isHit = func(h http.Header) bool { return strings.HasPrefix(h.Get("Cache-Status"), "ixmage; hit") }
	addrs, err := listeners(log)
	if err == nil {
		s.addr = addrs["public"]
		s.admin = addrs["admin"]
		key := map[string]string{"access_key_id": x.accessKey, "secret_access_key": x.secretKey}
		err = x.register(ctx, s.admin, bucket, key)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, s.child.Output())
	}
	return s, nil
}

var listening = regexp.MustCompile(`msg=listening.*listener=(\w+).*addr=(\S+)`)

// listeners reads log lines until both listeners have logged their addresses.
// A goroutine reads the rest, so that the server's writes never block.
func listeners(log io.Reader) (map[string]string, error) {
	defer func() { go func() { _, _ = io.Copy(io.Discard, log) }() }()
	addrs := make(map[string]string)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			addrs[m[1]] = m[2]
		}
		if addrs["public"] != "" && addrs["admin"] != "" {
			return addrs, nil
		}
	}
	return nil, errors.New("the log ended before both listeners were up")
}

// register makes an alias through the admin API. credential is a key, or the name of a
// credential that exists; that of an alias with a key has the alias's name.
func (x ixmage) register(ctx context.Context, admin, name string, credential any) error {
	token, err := os.ReadFile(filepath.Join(x.dir, "admin-token"))
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"name": name, "bucket": x.bucket, "region": "us-east-1", "endpoint": x.endpoint, "path_style": true,
		"credential": credential,
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+"/api/v1/aliases", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("register the alias: %s: %s", resp.Status, text)
	}
	return nil
}
