package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/minio"
)

// TestGateway runs what versitygw has at it: keys of users, and the program with a user.
func TestGateway(t *testing.T) {
	t.Parallel()
	g, err := gateway.Start(t.Context(), t.TempDir())
	if errors.Is(err, gateway.ErrMissing) {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	f := &fake{Server: &iam.Server{URL: g.IAMURL, S3URL: g.S3URL}, t: t, dir: filepath.Join(t.TempDir(), "aws-test"), caller: g.Root}
	who := f.run("0", "-region", g.Region)
	_, account, _ := strings.Cut(who.out, "Account")
	account = strings.TrimSpace(strings.SplitN(account, "\n", 2)[0])
	got := f.run(account, "-region", g.Region, "-only", "^(new-key|inactive|deleted-key|s3-refusal|program-user)")
	for name, verdict := range map[string]string{
		"new-key-sts": measured, "new-key-s3": measured, "inactive-key": measured, "program-user": asAssumed,
	} {
		if x := got.row(t, name); x.Verdict != verdict {
			t.Errorf("%+v, want %s", x, verdict)
		}
	}
	if got.code == exitRefused || got.report.Error != "" {
		t.Errorf("exit status %d:\n%s\n%s", got.code, got.out, got.md)
	}
	users, err := g.Users(t.Context(), "/")
	if err != nil || len(users) != 0 {
		t.Errorf("left: %v, %v", users, err)
	}
	entries, _ := os.ReadDir(f.dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "report-") {
			t.Errorf("left: file %s", e.Name())
		}
	}
}

// TestMinIO runs the checks of session policies at MinIO, which enforces them. It has no
// IAM of AWS, so that root stands for the user and no role is made.
func TestMinIO(t *testing.T) {
	t.Parallel()
	m := minio.New(t)
	root := m.Root
	f := &fake{Server: &iam.Server{URL: m.URL, S3URL: m.URL}, t: t, dir: filepath.Join(t.TempDir(), "aws-test"), caller: root}
	r := f.testRun(t)
	if err := r.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.assumer = func() (*principal, error) { return &principal{keys: static(root), pair: root}, nil }
	r.reader = func() (*role, error) { return &role{"reader", r.arn("role", "reader")}, nil }
	var list []check
	for _, c := range sessionChecks() {
		switch c.name {
		case "session-policy", "token-malformed", "packed-size":
			list = append(list, c)
		}
	}
	results, err := r.all(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range results {
		t.Logf("%+v", x)
		if x.Name == "session-policy" && x.Verdict != asAssumed || x.Verdict == failed {
			t.Errorf("%+v", x)
		}
	}
	if existed, err := r.removeBucket(t.Context(), r.bucketName()); !existed || err != nil {
		t.Errorf("the bucket: %v, %v", existed, err)
	}
}
