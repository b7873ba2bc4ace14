package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/process"
)

const startTimeout = 20 * time.Second

// server is a running ixmage.
type server struct {
	process       *process.Child
	client        *http.Client
	public, admin string // host:port
	tokenFile     string
	token         alias.Secret
	log           *os.File
}

// startServer starts ixmage and returns when it is ready.
func startServer(ctx context.Context, d *demo) (*server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	cfg, dir := d.config, d.dir
	data := filepath.Join(dir, "data")
	s := &server{
		client:    &http.Client{Transport: &http.Transport{}},
		tokenFile: filepath.Join(data, "admin-token"),
	}
	var err error
	if s.log, err = os.Create(filepath.Join(dir, "ixmage.log")); err != nil {
		return nil, err
	}
	cmd := exec.Command(cfg.program, "serve", "--data", data, "--shutdown-timeout", "5s", "--allow-private-endpoints",
		"--provision", "--provision-buckets", bucket, "--provision-verify-interval", "1s",
		"--iam-endpoint", d.gateway.IAMURL, "--install-id", "demo",
		"--listen", chooseListen(cfg.listen, "127.0.0.1:8080"), "--admin-listen", chooseListen(cfg.admin, "127.0.0.1:8081"))
	if cfg.worker != "" {
		cmd.Args = append(cmd.Args, "--transform-worker", cfg.worker)
	}
	cmd.Env = append(plainEnvironment(), "AWS_REGION="+d.gateway.Region,
		"AWS_ACCESS_KEY_ID="+d.gateway.Root.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+d.gateway.Root.SecretAccessKey.Reveal())
	cmd.Stderr = s.log
	if s.process, err = process.Start("ixmage", cmd); err != nil {
		return nil, errors.Join(err, s.log.Close())
	}
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// chooseListen returns the wanted address. If it is empty, it returns the usual address
// if that is free, else any port.
func chooseListen(wanted, usual string) string {
	if wanted != "" {
		return wanted
	}
	ln, err := net.Listen("tcp", usual)
	if err != nil {
		return "127.0.0.1:0"
	}
	ln.Close()
	return usual
}

// plainEnvironment returns the environment without variables that ixmage reads.
func plainEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "IXMAGE_") || strings.HasPrefix(v, "AWS_")
	})
}

// ready waits until ixmage has logged its addresses and is ready, and reads the
// admin token.
func (s *server) ready(ctx context.Context) error {
	if err := s.process.WaitReady(ctx, s.isReady); err != nil {
		return err
	}
	token, err := os.ReadFile(s.tokenFile)
	s.token = alias.NewSecret(strings.TrimSpace(string(token)))
	return err
}

func (s *server) isReady(ctx context.Context) bool {
	s.public, s.admin = listeners(s.process.Output())
	if s.public == "" || s.admin == "" {
		return false
	}
	status, _, err := s.get(ctx, "http://"+s.public+"/-/readyz")
	return err == nil && status == http.StatusOK
}

// listeners reads the addresses of both listeners from the log, as a browser on
// this machine reaches them.
func listeners(log string) (public, admin string) {
	for line := range strings.Lines(log) {
		if !strings.HasSuffix(line, "\n") || !strings.Contains(line, " msg=listening ") {
			continue // another message, or the line is incomplete
		}
		fields := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = strings.Trim(value, `"`)
		}
		switch addr := reachable(fields["addr"]); fields["listener"] {
		case "public":
			public = addr
		case "admin":
			admin = addr
		}
	}
	return public, admin
}

// reachable replaces the address of all interfaces with localhost.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// url returns the URL of an object of an alias.
func (s *server) url(alias, key string) string {
	return (&url.URL{Scheme: "http", Host: s.public, Path: "/" + alias + "/" + key}).String()
}

// step is a step of an operation.
type step struct {
	Name       string    `json:"name"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Detail     string    `json:"detail"`
}

func (s step) took() string { return s.FinishedAt.Sub(s.StartedAt).Round(time.Millisecond).String() }

// verification is the result of the checks of a key.
type verification struct {
	Scope  alias.Verdict `json:"scope"`
	Checks []checkResult `json:"checks"`
	// NotTried is what the checks say nothing about.
	NotTried []alias.NotTried `json:"not_tried"`
}

type checkResult struct {
	Name    string        `json:"name"`
	Verdict alias.Verdict `json:"verdict"`
	Detail  string        `json:"detail"`
}

// summary counts the proven checks. versitygw has no STS calls except the one that
// identifies a key, so the others are not tried.
func (v verification) summary() string {
	var proven, absent int
	for _, c := range v.Checks {
		if c.Verdict == alias.VerdictProven {
			proven++
		}
	}
	for _, n := range v.NotTried {
		if n.Why == alias.WhyNotImplemented {
			absent++
		}
	}
	text := fmt.Sprintf("scope %s: %d of %d checks proven", v.Scope, proven, len(v.Checks))
	if absent > 0 {
		text += fmt.Sprintf(", %d not tried because this test server has no such calls", absent)
	}
	return text
}

// provision makes an alias through the admin API and waits for the end of the operation.
func (s *server) provision(ctx context.Context, request map[string]any) ([]step, error) {
	var operation struct {
		State string `json:"state"`
		Error any    `json:"error"`
		Steps []step `json:"steps"`
	}
	err := s.call(ctx, "/api/v1/provision", request, &operation)
	if err == nil && operation.State != "done" {
		err = fmt.Errorf("the operation is %s: %v", operation.State, operation.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("provision alias %v: %w", request["alias"], err)
	}
	return operation.Steps, nil
}

// verify checks the key of an alias.
func (s *server) verify(ctx context.Context, name string) (verification, error) {
	var v verification
	if err := s.call(ctx, "/api/v1/aliases/"+name+"/verify", nil, &v); err != nil {
		return v, fmt.Errorf("verify alias %s: %w", name, err)
	}
	return v, nil
}

// call posts to the admin API and waits for the end of the operation.
func (s *server) call(ctx context.Context, path string, fields map[string]any, answer any) error {
	return s.send(ctx, "POST "+path, fields, answer)
}

// send makes a call of the admin API: METHOD PATH.
func (s *server) send(ctx context.Context, call string, fields map[string]any, answer any) error {
	method, path, _ := strings.Cut(call, " ")
	var body io.Reader = http.NoBody
	if fields != nil {
		text, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.admin+path, body)
	if err != nil {
		return err
	}
	if fields != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Prefer", "wait=120")
	req.Header.Set("Authorization", "Bearer "+s.token.Reveal())
	status, text, err := s.do(req)
	if err != nil {
		return err
	}
	if status != http.StatusOK && status != http.StatusCreated {
		return fmt.Errorf("status %d: %s", status, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// fetch checks that a URL answers with this picture, or with 404 if want is nil.
func (s *server) fetch(ctx context.Context, url string, want []byte) error {
	status, body, err := s.get(ctx, url)
	switch {
	case err != nil:
		return err
	case want == nil && status != http.StatusNotFound:
		return fmt.Errorf("%s: status %d, want 404", url, status)
	case want != nil && status != http.StatusOK:
		return fmt.Errorf("%s: status %d: %s", url, status, body)
	case want != nil && !bytes.Equal(body, want):
		return fmt.Errorf("%s: got %d bytes, not the %d bytes of the object", url, len(body), len(want))
	}
	return nil
}

// fetchPicture checks that a URL answers with a picture.
func (s *server) fetchPicture(ctx context.Context, url string) error {
	status, body, err := s.get(ctx, url)
	if err == nil && (status != http.StatusOK || !strings.HasPrefix(http.DetectContentType(body), "image/")) {
		err = fmt.Errorf("%s: status %d, want a picture: %.200q", url, status, body)
	}
	return err
}

func (s *server) get(ctx context.Context, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	return s.do(req)
}

func (s *server) do(req *http.Request) (status int, body []byte, err error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// stop stops ixmage and waits for its end.
func (s *server) stop() error {
	s.client.CloseIdleConnections() // ixmage waits for open connections
	return errors.Join(s.process.Stop(), s.log.Close())
}
