package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/client"
	"ixmage/internal/awstest/process"
)

// program is a running ixmage.
type program struct {
	*env

	child  *process.Child
	public string // URL
	api    *client.Client
	done   []string // what went well, for the answer
}

// start runs the built ixmage with the key of a principal; without one with the credentials of
// the caller.
func (e *env) start(ctx context.Context, as *principal, flags ...string) (*program, error) {
	data := filepath.Join(e.folder(), e.check)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--install-id", e.id, "--shutdown-timeout", "5s"}, flags...)
	if e.o.custom() {
		args = append(args, "--allow-private-endpoints", "--sts-endpoint", e.o.stsURL)
	}
	args = append(args, strings.Fields(e.o.serveFlags)...)
	cmd := exec.Command(e.o.program, args...) //nolint:gosec,noctx // our own program, which stop ends
	cmd.Env = e.environment(as)
	p := &program{env: e}
	var err error
	if p.child, err = process.Start("ixmage", cmd); err != nil {
		return nil, err
	}
	if err := p.connect(ctx, data); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// environment has the key of a principal and nothing else of AWS.
func (e *env) environment(as *principal) []string {
	without := []string{"IXMAGE_"}
	if as != nil {
		without = append(without, "AWS_")
	}
	list := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc(without, func(begin string) bool { return strings.HasPrefix(v, begin) })
	})
	if as != nil {
		list = append(list, "AWS_ACCESS_KEY_ID="+as.pair.AccessKeyID,
			"AWS_SECRET_ACCESS_KEY="+as.pair.SecretAccessKey.Reveal(),
			"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
	}
	return append(list, "AWS_REGION="+e.o.region)
}

var listening = regexp.MustCompile(`msg=listening listener=(public|admin) addr="?([^\s"]+)`)

// connect waits until the program is ready.
func (p *program) connect(ctx context.Context, data string) error {
	admin := ""
	err := p.child.WaitReady(ctx, func(ctx context.Context) bool {
		for _, found := range listening.FindAllStringSubmatch(p.child.Output(), -1) {
			switch found[1] {
			case "public":
				p.public = "http://" + found[2]
			case "admin":
				admin = "http://" + found[2]
			}
		}
		if p.public == "" || admin == "" {
			return false
		}
		status, _, err := p.get(ctx, "/-/readyz")
		return err == nil && status == http.StatusOK
	})
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err != nil {
		return err
	}
	secret := strings.TrimSpace(string(token))
	p.keepSecret(secret)
	p.api, err = client.New(admin, alias.NewSecret(secret))
	return err
}

func (p *program) stop() error {
	if p.api != nil {
		p.api.CloseIdle()
	}
	return p.child.Stop()
}

// get asks the public listener.
func (p *program) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.public+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// call calls the admin API and reads the answer into out, unless that is nil.
func (p *program) call(ctx context.Context, req client.Request, out any) error {
	resp, err := p.api.Do(ctx, req)
	if err != nil || out == nil || len(resp.Body) == 0 {
		return err
	}
	return json.Unmarshal(resp.Body, out)
}

// change is call without a look at the answer.
func (p *program) change(ctx context.Context, method, path string, body any) error {
	return p.call(ctx, client.Request{Method: method, Path: path, Body: body}, nil)
}

// operation is the part of an operation that is looked at.
type operation struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Error *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"error"`
}

// operate begins an operation and waits until it ends, longer than one call of the API may.
func (p *program) operate(ctx context.Context, method, path string, body any) error {
	var op operation
	begin := client.Request{Method: method, Path: path, Body: body, Wait: 5 * time.Minute}
	if err := p.call(ctx, begin, &op); err != nil {
		return err
	}
	for op.State == "running" {
		if err := pause(ctx, p.o.poll); err != nil {
			return err
		}
		if err := p.call(ctx, client.Request{Path: client.Path("operations", op.ID)}, &op); err != nil {
			return err
		}
	}
	if op.Error != nil {
		return fmt.Errorf("%s: %s", op.Error.Code, op.Error.Detail)
	}
	return nil
}

// picture expects the object of the bucket at a path.
func (p *program) picture(ctx context.Context, path string) error {
	status, body, err := p.get(ctx, path)
	if err == nil && (status != http.StatusOK || !bytes.Equal(body, sample().Body)) {
		err = fmt.Errorf("GET %s is %d with %d bytes", path, status, len(body))
	}
	return err
}

// verify runs the checks of an alias and returns their verdicts.
func (p *program) verify(ctx context.Context, name string) (string, error) {
	var out struct {
		Scope  string `json:"scope"`
		Checks []struct {
			Name    string `json:"name"`
			Verdict string `json:"verdict"`
		} `json:"checks"`
	}
	err := p.call(ctx, client.Request{
		Method: http.MethodPost, Path: client.Path("aliases", name, "verify"),
		Body: map[string]any{"probe": map[string]string{"inside": inside, "outside": outside}},
	}, &out)
	parts := []string{"scope " + out.Scope}
	for _, c := range out.Checks {
		if c.Verdict != "proven" {
			parts = append(parts, c.Name+" "+c.Verdict)
		}
	}
	text := joined(parts...)
	if err == nil && out.Scope == "violated" {
		err = errors.New("verify: " + text)
	}
	return text, err
}

// location has the members of an alias and of a provision request for the bucket.
func (p *program) location() map[string]any {
	at := map[string]any{"bucket": p.bucketName(), "prefix": prefix, "region": p.o.region}
	if p.o.s3URL != "" {
		at["endpoint"], at["path_style"] = p.o.s3URL, true
	}
	return at
}

// steps does one after another, and answers with those that went well.
func (p *program) steps(list ...step) error {
	for _, s := range list {
		began := time.Now()
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, withoutURL(err))
		}
		p.done = append(p.done, s.name+" "+rounded(time.Since(began)))
	}
	return nil
}

type step struct {
	name string
	do   func() error
}

// withoutURL leaves out the address of the listener, which is another one in each run.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
