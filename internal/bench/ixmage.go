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
	"slices"
	"strconv"
	"strings"
)

// startOurs runs an ixmage binary and registers an alias on the origin.
func (e *env) startOurs(ctx context.Context, path string) (*server, error) {
	dir, err := os.MkdirTemp(e.dir, "ixmage-")
	if err != nil {
		return nil, err
	}
	return e.startIxmage(ctx, ixmage{
		path: path, dir: dir, endpoint: "http://" + e.originAddr, bucket: bucket,
		accessKey: "BENCHBENCHBENCHBENCH", secretKey: "benchbenchbenchbenchbenchbenchbenchbench", flags: e.flags,
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
	cmd.Env = append(os.Environ(), e.environ...)
	s, err := e.launch(cmd, logEnd)
	if err != nil {
		return nil, err
	}
	s.isHit = func(h http.Header) bool { return strings.HasPrefix(h.Get("Cache-Status"), "ixmage; hit") }
	addrs, err := listeners(log)
	if err == nil {
		s.access = x
		s.addr, s.admin.addr = addrs["public"], addrs["admin"]
		s.admin.token, err = readToken(x.dir)
	}
	if err == nil {
		key := map[string]string{"access_key_id": x.accessKey, "secret_access_key": x.secretKey}
		err = x.register(ctx, s.admin, bucket, key)
		s.held = func(ctx context.Context) (int64, error) {
			m, err := s.admin.metrics(ctx)
			return int64(m[`ixmage_cache_bytes{tier="memory"}`]), err
		}
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

// adminClient calls the admin listener.
type adminClient struct{ addr, token string }

// readToken reads the token that the server has put into its data folder.
func readToken(dir string) (string, error) {
	token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	return strings.TrimSpace(string(token)), err
}

// register makes an alias through the admin API. credential is a key, or the name of a
// credential that exists; that of an alias with a key has the alias's name.
func (x ixmage) register(ctx context.Context, admin adminClient, name string, credential any) error {
	return admin.post(ctx, "aliases", map[string]any{
		"name": name, "bucket": x.bucket, "region": "us-east-1", "endpoint": x.endpoint, "path_style": true,
		"credential": credential,
	})
}

// post sends value as JSON.
func (a adminClient) post(ctx context.Context, path string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	url := "http://" + a.addr + "/api/v1/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("POST %s: %s: %s", path, resp.Status, text)
	}
	return err
}

// metrics reads the samples by name and labels, as they are printed.
func (a adminClient) metrics(ctx context.Context) (map[string]float64, error) {
	_, text, err := fetch(ctx, "http://"+a.addr+"/metrics")
	if err != nil {
		return nil, err
	}
	return parseMetrics(string(text)), nil
}

// sumOf adds up the series of a name that have the labels.
func sumOf(samples map[string]float64, name string, labels ...string) (sum float64) {
	for series, v := range samples {
		rest, ok := strings.CutPrefix(series, name+"{")
		lacks := func(label string) bool { return !strings.Contains(rest, label) }
		if ok && !slices.ContainsFunc(labels, lacks) {
			sum += v
		}
	}
	return sum
}

// parseMetrics reads the text format of Prometheus without timestamps.
func parseMetrics(text string) map[string]float64 {
	samples := make(map[string]float64)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			samples[line[:at]] = v
		}
	}
	return samples
}
