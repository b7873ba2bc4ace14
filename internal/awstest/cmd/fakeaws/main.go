// Command fakeaws runs the AWS account of package iam as a process of its own, for tests
// of other programs and for people:
//
//	go run ./internal/awstest/cmd/fakeaws -account account.json
//
// It prints a line of JSON with its addresses, keys and ARNs, and runs until SIGINT or
// SIGTERM. account.json describes users, roles, managed policies, buckets, and the
// servers of instances and tasks; see the type account.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/metadata"
	"ixmage/internal/awstest/s3"
)

// account is the content of the file.
type account struct {
	Account string `json:"account"` // number; empty: 123456789012
	Region  string `json:"region"`
	// SessionLife is how long each session of a role is, whatever was asked for.
	SessionLife duration `json:"session_life"`
	Lag         duration `json:"lag"` // until a change is visible
	Users       []user   `json:"users"`
	Roles       []role   `json:"roles"`
	Policies    []policy `json:"policies"` // managed ones
	Buckets     []bucket `json:"buckets"`
	// Metadata are roles by the server that hands out their sessions: ec2, ecs or
	// pod_identity.
	Metadata map[string]string `json:"metadata"`
}

type user struct {
	Name   string          `json:"name"`
	Path   string          `json:"path"`
	Policy json.RawMessage `json:"policy"` // inline
}

type role struct {
	Name       string          `json:"name"`
	Path       string          `json:"path"`
	Trust      json.RawMessage `json:"trust"`
	Policy     json.RawMessage `json:"policy"` // inline
	Attached   []string        `json:"attached"`
	Boundary   string          `json:"boundary"`
	MaxSession duration        `json:"max_session"`
}

type policy struct {
	Name     string          `json:"name"`
	Path     string          `json:"path"`
	Document json.RawMessage `json:"document"`
}

type bucket struct {
	Name    string            `json:"name"`
	Region  string            `json:"region"`
	Owner   string            `json:"owner"` // account
	Policy  json.RawMessage   `json:"policy"`
	Objects map[string]string `json:"objects"` // texts by key
	Files   map[string]string `json:"files"`   // names of files by key
}

// duration is a time.Duration as text.
type duration time.Duration

// UnmarshalText reads a duration such as 1h30m.
func (d *duration) UnmarshalText(text []byte) error {
	value, err := time.ParseDuration(string(text))
	*d = duration(value)
	return err
}

// description is the line that the program prints.
type description struct {
	IAM   string                       `json:"iam"`
	STS   string                       `json:"sts"`
	S3    string                       `json:"s3"`
	Root  keyPair                      `json:"root"`
	Users map[string]keyPair           `json:"users"`
	Roles map[string]string            `json:"roles"` // ARNs by name
	Env   map[string]map[string]string `json:"env"`   // by server, for the program that uses it
}

type keyPair struct {
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fakeaws:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

// run serves until ctx ends. It returns the requests for what is not implemented, if any.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fakeaws", flag.ContinueOnError)
	file := flags.String("account", "", "JSON `file` of the account (none: an empty account)")
	address := flags.String("listen", "127.0.0.1:0", "`address` of IAM and STS")
	s3Address := flags.String("listen-s3", "127.0.0.1:0", "`address` of S3")
	life := flags.Duration("session-life", 0, "how long a session of a role is (0: as asked for)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var a account
	if *file != "" {
		if err := readAccount(*file, &a); err != nil {
			return err
		}
	}
	if *life != 0 {
		a.SessionLife = duration(*life)
	}
	cfg := iam.Config{
		Account: a.Account, Region: a.Region, Lag: time.Duration(a.Lag), Listen: *address, ListenS3: *s3Address,
	}
	if a.SessionLife != 0 {
		cfg.SessionLife = func(time.Duration) time.Duration { return time.Duration(a.SessionLife) }
	}
	server, err := iam.Start(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	about, err := a.fill(ctx, server)
	if err == nil {
		err = json.NewEncoder(out).Encode(about)
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return problems(server)
}

func readAccount(file string, a *account) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(a); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

func problems(server *iam.Server) error {
	if all := server.Problems(); len(all) > 0 {
		return errors.New(strings.Join(all, "\n"))
	}
	return nil
}

// fill makes what the file describes.
func (a *account) fill(ctx context.Context, server *iam.Server) (*description, error) {
	out := &description{
		IAM: server.URL, STS: server.URL, S3: server.S3URL,
		Root:  keyPair{server.Root.AccessKeyID, server.Root.SecretAccessKey.Reveal()},
		Users: map[string]keyPair{}, Roles: map[string]string{}, Env: map[string]map[string]string{},
	}
	for _, p := range a.Policies {
		server.AddPolicy(path(p.Path), p.Name, string(p.Document))
	}
	for _, u := range a.Users {
		kp := server.AddUser(path(u.Path), u.Name, string(u.Policy))
		out.Users[u.Name] = keyPair{kp.AccessKeyID, kp.SecretAccessKey.Reveal()}
	}
	for _, one := range a.Roles {
		made := iam.Role{
			Name: one.Name, Path: one.Path, Trust: string(one.Trust), MaxSession: time.Duration(one.MaxSession),
			Boundary: one.Boundary, Attached: one.Attached, Inline: map[string]string{},
		}
		if one.Policy != nil {
			made.Inline["policy"] = string(one.Policy)
		}
		out.Roles[one.Name] = server.AddRole(made)
	}
	for _, b := range a.Buckets {
		if err := b.fill(server); err != nil {
			return nil, err
		}
	}
	for name, role := range a.Metadata {
		env, err := startMetadata(ctx, server, name, role)
		if err != nil {
			return nil, err
		}
		out.Env[name] = env
	}
	return out, problems(server)
}

func path(text string) string {
	if text == "" {
		return "/"
	}
	return text
}

func (b *bucket) fill(server *iam.Server) error {
	server.CreateBucket(b.Name)
	for key, text := range b.Objects {
		server.PutObject(b.Name, key, s3.Object{Body: []byte(text)})
	}
	for key, name := range b.Files {
		body, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		server.PutObject(b.Name, key, s3.Object{Body: body})
	}
	if b.Policy != nil {
		server.SetBucketPolicy(b.Name, string(b.Policy))
	}
	if b.Region != "" {
		server.SetBucketRegion(b.Name, b.Region)
	}
	if b.Owner != "" {
		server.SetBucketOwner(b.Name, b.Owner)
	}
	return nil
}

// startMetadata starts a server that ends with ctx.
func startMetadata(ctx context.Context, account *iam.Server, name, role string) (map[string]string, error) {
	kinds := map[string]metadata.Kind{"ec2": metadata.EC2, "ecs": metadata.ECS, "pod_identity": metadata.PodIdentity}
	kind, ok := kinds[name]
	if !ok {
		return nil, fmt.Errorf("metadata %q: want ec2, ecs or pod_identity", name)
	}
	dir, err := os.MkdirTemp("", "fakeaws-")
	if err != nil {
		return nil, err
	}
	server, err := metadata.Start(kind, account, metadata.Config{Role: role, Dir: dir})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	context.AfterFunc(ctx, func() {
		server.Close()
		_ = os.RemoveAll(dir) // the process ends
	})
	return server.Env(), nil
}
