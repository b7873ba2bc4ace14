package policy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
)

// cloud is a place where the commands of a plan can be run with the real AWS
// CLI.
type cloud struct {
	iamURL, s3URL string
	root          alias.KeyPair
	env           []string
}

func newCloud(t *testing.T, iamURL, s3URL string, root alias.KeyPair) cloud {
	t.Helper()
	needPrograms(t, "sh", "grep", "aws")
	c := cloud{iamURL: iamURL, s3URL: s3URL, root: root, env: []string{
		"AWS_ACCESS_KEY_ID=" + root.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + root.SecretAccessKey.Reveal(),
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "PYTHONUTF8=1",
	}}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "IXMAGE_") {
			c.env = append(c.env, v)
		}
	}
	c.env = append(c.env, serveAWS(t, c.env)...)
	return c
}

func needPrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("SKIPPED, NOT TESTED: %s IS ABSENT, no command was run (apt-get install awscli curl)", name)
		}
	}
}

// sh runs lines in one shell and stops at the first that fails.
func (c cloud) sh(ctx context.Context, lines ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-e")
	cmd.Stdin, cmd.Env = strings.NewReader(strings.Join(lines, "\n")+"\n"), c.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// reads is the code that S3 answers a key pair with that reads an object, or
// OK.
func (c cloud) reads(t *testing.T, kp alias.KeyPair, bucket, key string) string {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := s3.New(s3.Options{
		BaseEndpoint: &c.s3URL, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), ""),
		HTTPClient:  &http.Client{Transport: transport},
	})
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err == nil {
		out.Body.Close()
		return "OK"
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return err.Error()
}

// perform runs the commands of a plan as an operator would, who has a token in
// the shell from then on, and returns the key pair.
func (c cloud) perform(t *testing.T, commands []string) alias.KeyPair {
	t.Helper()
	var lines []string
	for _, line := range commands {
		lines = append(lines, line)
		if strings.Contains(line, newKey) {
			lines = append(lines, "export AWS_SESSION_TOKEN=of-the-shell")
		}
	}
	out, err := c.sh(t.Context(), append(lines, `printf '\nKEY %s %s\n' `+keyID+" "+keySecret)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shown, pair, _ := strings.Cut(out, "\nKEY ")
	id, secret, _ := strings.Cut(strings.TrimSpace(pair), " ")
	if secret == "" || strings.Contains(shown, secret) {
		t.Fatalf("there is no secret, or the commands show it: %d characters", len(secret))
	}
	return alias.KeyPair{AccessKeyID: id, SecretAccessKey: alias.NewSecret(secret)}
}

// at is where commands go that are not of a plan.
func (c cloud) at() string { return " --endpoint-url " + c.iamURL + " --region us-east-1" }

// remove undoes a plan with an inline policy.
func (c cloud) remove(t *testing.T, kp alias.KeyPair, user string) {
	t.Helper()
	to := " --user-name " + user + c.at()
	out, err := c.sh(t.Context(),
		"aws iam delete-access-key --access-key-id "+kp.AccessKeyID+to,
		"aws iam delete-user-policy --policy-name ixmage-read"+to,
		"aws iam delete-user"+to,
		"! aws iam get-user"+to)
	if err != nil || !strings.Contains(out, "NoSuchEntity") {
		t.Errorf("%v\n%s", err, out)
	}
}

// oddFolder has every character that a prefix may have and a shell gives a meaning to.
const oddFolder = "it's-(mine)! & \"yours\";/`touch x`|<a>#~{b,c}[d]%s^/Größe 日本 💥/"

// oddRequest has everything in its names that a shell could take for more than
// a name.
func oddRequest(s3URL string) Request {
	return Request{
		Alias: "shop",
		Location: alias.Location{
			Bucket: "acme-media", Prefix: oddFolder, Region: "us-east-1", Endpoint: s3URL, PathStyle: true,
		},
		Tags:   map[string]string{"Équipe de nuit": "été=1"},
		Inside: oddFolder + "$(id) `id` \"a\" *.jpg", Outside: "-private'; exit 0; '.jpg",
	}
}

// TestPlanCommands runs the commands of a plan, line for line, against a real
// IAM and S3 server that enforces the policy.
func TestPlanCommands(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	c, ctx := newCloud(t, g.IAMURL, g.S3URL, g.Root), t.Context()
	req := oddRequest(c.s3URL)
	if err := g.CreateBucket(ctx, req.Bucket); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{req.Inside, req.Outside} {
		if err := g.PutObject(ctx, req.Bucket, key, fakes3.Object{Body: []byte("picture")}); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := MakePlan(PlanRequest{Request: req}, Env{InstallID: "home", IAMEndpoint: c.iamURL, Suffix: "x7k2"})
	if err != nil {
		t.Fatal(err)
	}
	kp := c.perform(t, plan.Commands)
	for key, want := range map[string]string{req.Inside: "OK", req.Outside: "AccessDenied"} {
		if got := c.reads(t, kp, req.Bucket, key); got != want {
			t.Errorf("reading %s: got %s, want %s", key, got, want)
		}
	}
	out, err := c.sh(ctx, "aws iam list-users"+c.at())
	if err != nil || !strings.Contains(out, "user/ixmage/"+plan.User.Name) {
		t.Errorf("the user is not in /ixmage/: %v\n%s", err, out)
	}
	broader(t, c, kp, plan)
	c.remove(t, kp, plan.User.Name)
}

// broader makes sure that no check of a plan passes with a key that may do
// everything, and that none of them writes anything then.
func broader(t *testing.T, c cloud, kp alias.KeyPair, plan *Plan) {
	t.Helper()
	const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	to := " --user-name " + plan.User.Name + c.at()
	if out, err := c.sh(t.Context(), "aws iam put-user-policy --policy-name ixmage-read --policy-document '"+everything+"'"+to); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key := keyVariable + "='" + kp.AccessKeyID + "\t" + kp.SecretAccessKey.Reveal() + "'"
	checks := 0
	for _, command := range plan.Commands {
		if !strings.HasSuffix(command, refused) {
			continue
		}
		checks++
		if out, err := c.sh(t.Context(), key, defineWithKey, command); err == nil {
			t.Errorf("passed with a key that may do everything: %s\n%s", command, out)
		}
	}
	if checks != 4 {
		t.Errorf("%d checks of what must be refused, want 4", checks)
	}
	const list = "aws s3api list-objects-v2 --bucket acme-media --query 'length(Contents)' --region us-east-1 --endpoint-url "
	if out, err := c.sh(t.Context(), list+c.s3URL); err != nil || strings.TrimSpace(out) != "2" {
		t.Errorf("a check wrote an object: %v\n%s", err, out)
	}
}

// TestPlanCommandsAttached runs those of the modes that the real server has no
// calls for against the fake.
func TestPlanCommandsAttached(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	c := newCloud(t, f.URL, f.S3URL, f.Root)
	boundary := f.AddPolicy("/", "ixmage-boundary", `{"Version":"2012-10-17","Statement":[`+
		`{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":"*"}]}`)
	f.CreateBucket("acme-media")
	for _, key := range []string{oddFolder + "a.jpg", "private/b.jpg"} {
		f.PutObject("acme-media", key, fakes3.Object{Body: []byte("picture")})
	}
	for _, tt := range []struct {
		mode    alias.PolicyMode
		arn     string
		outside string
	}{
		{alias.PolicyManaged, ManagedARN("arn:aws:iam::123456789012:user/u", "/", alias.Grant{Bucket: "acme-media", Prefix: oddFolder}), "AccessDenied"},
		{alias.PolicyReadOnly, f.ReadOnlyARN(), "OK"},
	} {
		t.Run(string(tt.mode), func(t *testing.T) {
			req := request()
			req.Policy, req.Endpoint, req.Region, req.BucketOwner = tt.mode, c.s3URL, "us-east-1", "123456789012"
			req.Prefix, req.Inside = oddFolder, oddFolder+"a.jpg"
			plan, err := MakePlan(PlanRequest{Request: req}, Env{
				InstallID: "home", IAMEndpoint: c.iamURL, AllowWideScope: true, Boundary: boundary,
			})
			if err != nil {
				t.Fatal(err)
			}
			var commands []string
			for _, line := range plan.Commands {
				if !strings.Contains(line, "upload-part") { // the fake has no uploads in parts
					commands = append(commands, line)
				}
			}
			kp := c.perform(t, commands)
			user, _ := f.User(plan.User.Name)
			if user.Boundary != boundary || user.Path != "/ixmage/" || user.Tags["team"] != "web" || !slices.Equal(user.Attached, []string{tt.arn}) {
				t.Errorf("the user is %+v", user)
			}
			for key, want := range map[string]string{req.Inside: "OK", req.Outside: tt.outside} {
				if got := c.reads(t, kp, req.Bucket, key); got != want {
					t.Errorf("reading %s: got %s, want %s", key, got, want)
				}
			}
		})
	}
}

// TestHandRotation rotates a key by hand: with the real AWS CLI, a real IAM and
// somebody who takes the PUT.
func TestHandRotation(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	c := newCloud(t, g.IAMURL, g.S3URL, g.Root)
	needPrograms(t, "curl")
	var got *http.Request
	var body string
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got, body = r, string(text)
	}))
	defer api.Close()
	token := filepath.Join(t.TempDir(), "token with a space")
	if err := os.WriteFile(token, []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.CreateBucket(t.Context(), "acme-media"); err != nil {
		t.Fatal(err)
	}
	old, err := g.ReadOnlyUser(t.Context(), "pasted", "acme-media", "")
	if err != nil {
		t.Fatal(err)
	}
	c.env = append(c.env, "AWS_ENDPOINT_URL_IAM="+c.iamURL, "AWS_ENDPOINT_URL_STS="+c.iamURL, "AWS_DEFAULT_REGION=us-east-1",
		"IXMAGE_URL="+api.URL, "IXMAGE_ADMIN_TOKEN_FILE="+token)
	lines := []string{"sleep() { :; }"} // nothing has to spread here
	for _, line := range HandRotation(&alias.Credential{Name: "media", Provider: alias.Static{AccessKeyID: old.AccessKeyID}}, "") {
		lines = append(lines, line, `test -z "$IXMAGE_KEY" || echo "KEY $IXMAGE_KEY"`)
	}
	out, err := c.sh(t.Context(), append(lines, `aws iam list-access-keys --user-name pasted --query 'AccessKeyMetadata[].AccessKeyId' --output text`)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, pair, _ := strings.Cut(out, "KEY ")
	id, rest, _ := strings.Cut(pair, "\t")
	secret, _, _ := strings.Cut(rest, "\n")
	if want := `{"access_key_id":"` + id + `","secret_access_key":"` + secret + `"}`; body != want || secret == "" {
		t.Errorf("another body than wanted was sent, of %d characters", len(body))
	}
	if got == nil || got.Method != "PUT" || got.URL.Path != "/api/v1/credentials/media" || got.Header.Get("Authorization") != "Bearer sesame" {
		t.Errorf("the request was %+v", got)
	}
	if left := strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]); left != id {
		t.Errorf("the keys left are %s, want %s", left, id)
	}
}

func TestHandRotationOfAKnownUser(t *testing.T) {
	t.Parallel()
	c := &alias.Credential{Name: "media", Provider: alias.Static{AccessKeyID: "AKIA'odd"}}
	golden(t, "rotation", strings.Join(HandRotation(c, ""), "\n")+"\n")
	if got := HandRotation(c, "it's")[0]; got != `IXMAGE_USER='it'\''s'` {
		t.Error(got)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	needPrograms(t, "sh")
	for name, text := range map[string]string{
		"nothing": "", "a word": "ixmage-s3read_shop.x7k2/a:b@c,d+e", "a quote": "it's", "only quotes": "''", "both quotes": `'"`,
		"commands": "$(id) `id` ; id | id & id", "wildcards": "* ? [a] {a,b} ~ !", "a backslash": `a\`, "equals": "=ls", "script": "été 世界",
		"a hash": "#a", "lines": "a\nb\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quote(text)).Output()
			if err != nil || string(out) != text {
				t.Errorf("%q became %q: %v", text, out, err)
			}
		})
	}
}
