package e2e

import (
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
)

// awsCLI runs the AWS CLI with the root key of an IAM and without anything of
// the machine's own. The test is skipped where there is no CLI.
func awsCLI(t *testing.T, g *gateway.Server, args ...string) outcome {
	t.Helper()
	aws, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: aws IS ABSENT (apt-get install awscli)")
	}
	env := append([]string{
		"AWS_ACCESS_KEY_ID=" + g.Root.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + g.Root.SecretAccessKey.Reveal(),
		"AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "PYTHONUTF8=1", "HOME=",
	}, awsAlone...)
	args = append([]string{"iam", "--endpoint-url", g.IAMURL, "--region", g.Region, "--output", "text"}, args...)
	return runCommand(t, env, exec.Command(aws, args...))
}

// TestProvisionLongName provisions an alias with a name of 63 letters, the most
// there may be, and takes it away again. What IAM has before and after is what
// the AWS CLI says.
func TestProvisionLongName(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	name := strings.Repeat("long-name-", 6) + "end"
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, name, bucket))
	if r := s.get("/" + name + "/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s", r.Status)
	}
	users := s.iamUsers(g)
	if len(users) != 1 || len(users[0]) > 64 || !strings.HasPrefix(users[0], "ixmage-s3read-long-name-long-name-") {
		t.Fatalf("users %q, want one of at most 64 letters", users)
	}
	kp := s.keyPair(alias.Name(name))
	wantUser(t, g, s.installID(), users[0], kp.AccessKeyID)
	if r := s.api(http.MethodDelete, "/api/v1/aliases/"+name, nil); r.StatusCode != http.StatusNoContent {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	s.operateWell(http.MethodDelete, "/api/v1/credentials/"+name, nil)
	if code := g.Probe(t.Context(), kp, bucket, "web/a.png"); code != "InvalidAccessKeyId" {
		t.Errorf("the key of the user that was removed is answered %q", code)
	}
	wantNoUser(t, g, s.installID(), users[0])
}

// wantUser wants the AWS CLI to show a user with one key, as it was made.
func wantUser(t *testing.T, g *gateway.Server, install, user, key string) {
	t.Helper()
	t.Run("there, says the AWS CLI", func(t *testing.T) {
		for _, look := range []struct{ args, want []string }{
			{[]string{"list-users", "--path-prefix", "/ixmage/" + install + "/"}, []string{user}},
			{[]string{"list-access-keys", "--user-name", user}, []string{key, "Active"}},
		} {
			got := awsCLI(t, g, look.args...)
			wantAll(t, "aws "+look.args[0], got.stdout, look.want...)
			if got.code != 0 {
				t.Errorf("aws %s: exit status %d: %s", look.args[0], got.code, got.stderr)
			}
		}
	})
}

// wantNoUser wants the AWS CLI to find nothing of a user.
func wantNoUser(t *testing.T, g *gateway.Server, install, user string) {
	t.Helper()
	t.Run("gone, says the AWS CLI", func(t *testing.T) {
		for _, call := range []string{"get-user", "list-access-keys"} {
			got := awsCLI(t, g, call, "--user-name", user)
			if got.code == 0 || !strings.Contains(got.stderr, "(NoSuchEntity)") {
				t.Errorf("aws %s: exit status %d: %s%s", call, got.code, got.stdout, got.stderr)
			}
		}
		got := awsCLI(t, g, "list-users", "--path-prefix", "/ixmage/"+install+"/")
		if got.code != 0 || strings.TrimSpace(got.stdout) != "" {
			t.Errorf("aws list-users: exit status %d: %s%s", got.code, got.stdout, got.stderr)
		}
	})
}

// TestTwoKeys has a key on a user that nobody here knows. A rotation would need
// the third: it stops and names both, and nothing is touched. The second
// time both are unknown.
func TestTwoKeys(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	user, own := s.iamUsers(g)[0], s.keyPair("shop")
	other, err := g.AddKey(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	if code := g.Probe(t.Context(), other, bucket, "web/a.png"); code != "" {
		t.Fatalf("the other key is answered %q", code)
	}
	s.stopsFor(g, user, own.AccessKeyID+" (last used ", other.AccessKeyID+" (last used ")
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("the alias is %s after a rotation that stopped", r.Status)
	}
	if err := g.DeleteKey(t.Context(), user, own.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	third, err := g.AddKey(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	s.stopsFor(g, user, other.AccessKeyID+" (last used ", third.AccessKeyID+" (never used)")
}

// stopsFor has a rotation stop because of keys that nobody knows, say so, and
// leave them.
func (s *server) stopsFor(g *gateway.Server, user string, says ...string) {
	s.t.Helper()
	before, err := g.Keys(s.t.Context(), user)
	if err != nil {
		s.t.Fatal(err)
	}
	op := s.operate(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	if op.State != "failed" || op.Error == nil || op.Error.Code != "unknown-keys" || op.Error.Step != "check-keys" {
		s.t.Fatalf("the rotation: %+v", op)
	}
	wantAll(s.t, "the error", op.Error.Detail, append(says, user)...)
	for _, id := range before {
		wantAll(s.t, "the error", op.Error.Detail, id)
	}
	after, err := g.Keys(s.t.Context(), user)
	if err != nil || !slices.Equal(before, after) {
		s.t.Errorf("the user has the keys %v, %v; want %v as before", after, err, before)
	}
}

// TestBoundaryDropped has a server that takes a permissions boundary and forgets
// it, as versitygw does: no key is made for a user without one, and the user is
// taken away.
func TestBoundaryDropped(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, append([]string{"--iam-boundary", "arn:aws:iam::000000000000:policy/b"}, quickWaits...)...)
	op := s.operate(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	if op.State != "failed" || op.Error == nil || op.Error.Code != "boundary-missing" {
		t.Errorf("%+v", op)
	}
	for _, step := range op.Steps {
		if step.Name == "create-key" && step.State != "pending" {
			t.Errorf("a key was made for a user without a boundary: %+v", step)
		}
	}
	if users := s.iamUsers(g); len(users) != 0 {
		t.Errorf("users left: %v", users)
	}
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusNotFound {
		t.Errorf("the alias is %s", r.Status)
	}
}
