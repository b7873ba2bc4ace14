// Package gateway runs a real S3 and IAM server (versitygw) in child processes.
package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/internal/awstest/process"
)

// ErrMissing means that versitygw is not installed on this machine.
var ErrMissing = errors.New("versitygw is not here: run make tools, or point IXMAGE_VERSITYGW at it")

const (
	gatewayRegion = "us-east-1"
	// startTimeout ends the wait for a program that hangs. It is long, for a
	// busy machine.
	startTimeout = 5 * time.Minute
)

// Server is a real S3 server with a real IAM server beside it, in two child
// processes. Identity policies are enforced. It is safe for concurrent use and
// may be shared by a whole package of tests.
type Server struct {
	S3URL  string // path-style endpoint
	IAMURL string // IAM and STS
	Region string
	Root   alias.KeyPair // may do anything

	client  *http.Client
	iamProc *process.Child
	s3Proc  *process.Child
	s3      *s3.Client
	iam     *iam.Client
}

// New starts a Server that ends with the test. Without versitygw it skips the
// test or, if IXMAGE_REQUIRE_GATEWAY is set, fails it.
// To share one among the tests of a package, call Start in TestMain.
func New(t testing.TB) *Server {
	t.Helper()
	return process.ServerOf(t, Start, ErrMissing, "IXMAGE_REQUIRE_GATEWAY")
}

// Start starts both servers and returns when they answer. ctx bounds the start
// only. dir must exist and holds their data; the caller owns it and calls Stop
// before removing it. The error is ErrMissing if versitygw is missing.
func Start(ctx context.Context, dir string) (*Server, error) {
	program, err := process.FindTool("versitygw", "IXMAGE_VERSITYGW", ErrMissing)
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return process.StartServer(ctx, func() (*Server, error) {
		g := newServer()
		err := g.start(ctx, program, dir)
		return g, err
	})
}

func newServer() *Server {
	return &Server{
		Region: gatewayRegion,
		Root:   alias.KeyPair{AccessKeyID: "ixmagetestroot", SecretAccessKey: alias.NewSecret(rand.Text())},
		// A transport of its own, whose connections Stop can close.
		client: &http.Client{Transport: &http.Transport{}},
	}
}

// start starts IAM first: an S3 server that cannot reach IAM at first retries
// after two seconds.
func (g *Server) start(ctx context.Context, program, dir string) error {
	addresses, err := process.FreeAddresses(2)
	if err != nil {
		return err
	}
	iamAddr, s3Addr := addresses[0], addresses[1]
	g.S3URL, g.IAMURL = "http://"+s3Addr, "http://"+iamAddr
	g.s3, g.iam = g.clients()
	folders := map[string]string{}
	for _, name := range []string{"iam", "s3", "meta"} {
		folders[name] = filepath.Join(dir, name)
		if err := os.MkdirAll(folders[name], 0o700); err != nil {
			return err
		}
	}
	socket := privateSocket(dir, rand.Text())
	g.iamProc, err = process.Start("versitygw iam", g.command(program, iamAddr,
		"iam", "--dir", folders["iam"], "--private-ports", socket, "--disable-oidc-thumbprint-autofetch"))
	if err != nil {
		return err
	}
	if err := g.iamProc.WaitReady(ctx, g.iamReady); err != nil {
		return err
	}
	// Sidecar files instead of extended attributes, which some file systems
	// lack.
	g.s3Proc, err = process.Start("versitygw s3", g.command(program, s3Addr,
		"--iam-standalone-endpoint", socket, "posix", "--sidecar", folders["meta"], folders["s3"]))
	if err != nil {
		return err
	}
	return g.s3Proc.WaitReady(ctx, g.s3Ready)
}

// iamReady reports whether our own IAM answers. The gateway of another test may
// have taken the port between freeAddresses and the start of our child: it is
// healthy too, but refuses our root key.
func (g *Server) iamReady(ctx context.Context) bool {
	if !process.Healthy(ctx, g.client, g.IAMURL+"/healthz") {
		return false
	}
	_, err := g.iam.ListUsers(ctx, &iam.ListUsersInput{})
	return err == nil
}

// s3Ready is iamReady for S3.
func (g *Server) s3Ready(ctx context.Context) bool {
	if !process.Healthy(ctx, g.client, g.S3URL+"/healthz") {
		return false
	}
	_, err := g.s3.ListBuckets(ctx, &s3.ListBucketsInput{})
	return err == nil
}

func (g *Server) command(program, addr string, args ...string) *exec.Cmd {
	args = append([]string{"-q", "-p", addr, "--health", "/healthz", "--keep-alive"}, args...)
	cmd := exec.Command(program, args...)
	// Not our environment: versitygw reads VGW_… and AWS_….
	cmd.Env = []string{
		"ROOT_ACCESS_KEY=" + g.Root.AccessKeyID,
		"ROOT_SECRET_KEY=" + g.Root.SecretAccessKey.Reveal(),
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(),
	}
	return cmd
}

// Stop stops both servers and waits for their end. It may be called more than
// once.
func (g *Server) Stop() error {
	var errs []error
	for _, p := range []*process.Child{g.s3Proc, g.iamProc} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	g.client.CloseIdleConnections()
	return errors.Join(errs...)
}

// Output is the end of the output of both servers, for the log of a failed test.
func (g *Server) Output() string {
	return "s3: " + g.s3Proc.Output() + "\niam: " + g.iamProc.Output()
}
