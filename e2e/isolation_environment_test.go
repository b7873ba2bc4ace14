package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestEnvironmentIsNotUsed starts the program on a machine that offers
// credentials, endpoints and proxies of its own in every way that AWS's tools
// know. Requests bear the key of their alias or none, and go where the alias
// says.
func TestEnvironmentIsNotUsed(t *testing.T) {
	t.Parallel()
	fakeS3, stranger := s3.New(t), s3.New(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	cmd := exec.Command(program, serveArgs(data)...)
	cmd.Env = append(os.Environ(), temptations(t, dir, stranger.URL)...)
	s := startCommand(t, data, cmd)
	body := png(faultSize, "own")
	key := pairOf("own").AccessKeyID
	fakeS3.Put("own", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	fakeS3.Put("own", "b.png", s3.Object{Body: body, ContentType: "binary/octet-stream"})
	for name, credential := range map[string]any{"signed": inJSON(pairOf("own")), "open": nil} {
		s.admit(http.MethodPost, "/api/v1/aliases", map[string]any{
			"name": name, "bucket": "own", "endpoint": fakeS3.URL, "path_style": true, "credential": credential,
		}, http.StatusCreated)
	}
	// Refused, it might look for another key.
	fakeS3.Next("own", "a.png", s3.Fail("ExpiredToken"))
	(&given{method: "get", want: fails(502, "origin-credential", 1, ""), got: single(s.public, http.MethodGet, "/open/a.png")}).check(t)
	for _, name := range []string{"signed", "open"} {
		for _, method := range []string{"head", "part", "get"} {
			for _, file := range []string{"a.png", "b.png"} {
				g := &given{method: method, want: whole(0), body: body}
				g.got = g.ask(s.public, "/"+name+"/"+file)
				g.check(t)
			}
		}
	}
	byKey := map[string]int{}
	for _, r := range fakeS3.Requests() {
		byKey[r.AccessKeyID]++
		if (r.Header.Get("Authorization") == "") != (r.AccessKeyID == "") || r.Header.Get("X-Amz-Security-Token") != "" {
			t.Errorf("%s %s comes with %v", r.Method, r.Target, r.Header)
		}
	}
	if len(byKey) != 2 || byKey[""] < 4 || byKey[key] < 4 {
		t.Errorf("requests by access key id: %v, want %s and none", byKey, key)
	}
	if n := stranger.Accepted(); n != 0 {
		t.Errorf("%d connections went where the environment points", n)
	}
}

// temptations are settings of AWS's tools, and of net/http, that lead to another
// server and other keys.
func temptations(t *testing.T, dir, url string) []string {
	t.Helper()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const keys = "aws_access_key_id = AKIAFROMAFILEXAMPLE\naws_secret_access_key = never-to-be-used\naws_session_token = never\n"
	return []string{
		"AWS_ACCESS_KEY_ID=AKIAFROMENVIRONMENT", "AWS_SECRET_ACCESS_KEY=never-to-be-used", "AWS_SESSION_TOKEN=never",
		"AWS_PROFILE=tempting", "AWS_REGION=xx-tempting-1", "AWS_DEFAULT_REGION=xx-tempting-1", "AWS_SDK_LOAD_CONFIG=1",
		"AWS_SHARED_CREDENTIALS_FILE=" + write("credentials", "[default]\n"+keys+"[tempting]\n"+keys),
		"AWS_CONFIG_FILE=" + write("config", "[profile tempting]\nendpoint_url = "+url+"\ncredential_process = /bin/false\n"+keys),
		"AWS_ENDPOINT_URL=" + url, "AWS_ENDPOINT_URL_S3=" + url, "AWS_USE_FIPS_ENDPOINT=true", "AWS_USE_DUALSTACK_ENDPOINT=true",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + url, "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + url + "/credentials",
		"AWS_WEB_IDENTITY_TOKEN_FILE=" + write("token", "never"), "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/tempting",
		"AWS_MAX_ATTEMPTS=9", "AWS_RETRY_MODE=adaptive", "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT=regional", "AWS_S3_USE_ARN_REGION=true",
		"HTTP_PROXY=" + url, "HTTPS_PROXY=" + url, "ALL_PROXY=" + url, "http_proxy=" + url, "https_proxy=" + url, "NO_PROXY=",
	}
}

// TestBucketOwner has S3 told, with each request, whose bucket it must be: one
// of that name in another's account is not read.
func TestBucketOwner(t *testing.T) {
	t.Parallel()
	const owner = "123456789012"
	fakeS3 := s3.New(t)
	s := start(t)
	fakeS3.CreateBucket("owned", owner)
	body := png(faultSize, "owned")
	for _, key := range []string{"a.png", "b.png"} {
		fakeS3.Put("owned", key, s3.Object{Body: body, ContentType: "image/png"})
	}
	for name, expected := range map[string]string{"ours": owner, "theirs": "210987654321"} {
		s.admit(http.MethodPost, "/api/v1/aliases", map[string]any{
			"name": name, "bucket": "owned", "bucket_owner": expected, "endpoint": fakeS3.URL, "path_style": true, "credential": inJSON(pairOf("own")),
		}, http.StatusCreated)
	}
	fakeS3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodGet && r.Header.Get("If-Match") == "" {
			return s3.CloseAfter(100)
		}
		return nil
	})
	for i, method := range []string{"head", "part", "get"} {
		path := "/" + []string{"a.png", "a.png", "b.png"}[i]
		for name, want := range map[string]*verdict{"ours": whole(0), "theirs": fails(404, "not-found", 0, "")} {
			g := &given{method: method, want: want, body: body}
			g.got = g.ask(s.public, "/"+name+path)
			g.check(t)
		}
	}
	said := map[string]int{}
	for _, r := range fakeS3.Requests() {
		said[r.Header.Get("X-Amz-Expected-Bucket-Owner")]++
	}
	// A HEAD, and two bodies with their rests; a HEAD with its GET, and a GET of the
	// other: the refusal of the first is remembered.
	if len(said) != 2 || said[owner] != 5 || said["210987654321"] != 3 {
		t.Errorf("expected owners are %v", said)
	}
}
