package doctor

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/session"
	"ixmage/alias/sqlstore/sqltest"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/netfault"
)

const (
	testAccount  = "123456789012"
	testBoundary = "arn:aws:iam::" + testAccount + ":policy/ixmage-boundary"
	testInstall  = "test"
)

// env is an account, and a server in it.
type env struct {
	t        *testing.T
	iam      *iam.Server
	registry *alias.Registry
	cfg      Config
	client   *http.Client
}

// newEnv makes a server with nothing: no credentials, no aliases, no provisioning.
func newEnv(t *testing.T) *env {
	t.Helper()
	dir := t.TempDir()
	store := sqltest.Open(t, filepath.Join(dir, "registry.db"))
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := alias.Open(t.Context(), store, keys, alias.Policy{AllowPrivateEndpoints: true})
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, iam: iam.New(t, iam.Config{}), registry: registry, client: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(e.client.CloseIdleConnections)
	e.cfg = Config{
		Registry: registry, IAM: e.iam.URL, STS: e.iam.URL, InstallID: testInstall,
		AWS: aws.Config{Region: "us-east-1", HTTPClient: e.client},
		S3: func(at alias.Location, _ alias.KeyPair) *s3.Client {
			return s3.New(s3.Options{
				Region: at.Region, BaseEndpoint: aws.String(at.Endpoint), UsePathStyle: true, HTTPClient: e.client,
				RetryMaxAttempts: 1,
			})
		},
		S3Hint: func(alias.Location, error) string { return "check the endpoint" },
		limits: limits{total: time.Minute, call: time.Minute, keys: time.Minute}, // the machine may be busy
	}
	return e
}

// signAs gives the server a key pair.
func (e *env) signAs(kp alias.KeyPair) {
	e.cfg.AWS.Credentials = credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

// signAsRole gives the server a session of a role with a policy.
func (e *env) signAsRole(name, path, document string) {
	e.iam.AddRole(iam.Role{
		Name: name, Path: path, Inline: map[string]string{"own": document},
		Trust: iam.Trust("", "arn:aws:iam::"+testAccount+":root"),
	})
	s := e.iam.NewRoleSession(name, "i-0123", time.Hour)
	e.cfg.AWS.Credentials = s
}

// provisioner is a server with --provision, a boundary, and a role with the documents that
// operators copy.
func (e *env) provisioner(more ...string) {
	e.iam.AddPolicy("/", "ixmage-boundary", copied(e.t, "boundary-policy.json"))
	e.signAsRole("server", "/", provisionerPolicy(e.t, more...))
	e.cfg.Provision, e.cfg.Boundary, e.cfg.Buckets = true, testBoundary, []string{"acme-*"}
}

// copied is a document that operators copy, with the placeholders filled in.
func copied(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("PARTITION", "aws", "BOUNDARY", testBoundary, "ACCOUNT", testAccount, "INSTALL", testInstall,
		"BUCKETS", "acme-*", "TAGS", "team", "ADOPT", "by-hand*", "GIVEN", "given*").Replace(string(text))
}

// examining is what an operator allows beside docs/provisioner-policy.json.
const examining = `{"Effect":"Allow","Action":["iam:SimulatePrincipalPolicy","iam:GetRole","iam:GetPolicy","iam:GetPolicyVersion"],"Resource":"*"}`

// provisionerPolicy is docs/provisioner-policy.json with further statements.
func provisionerPolicy(t *testing.T, more ...string) string {
	t.Helper()
	var doc struct {
		Version   string
		Statement []json.RawMessage
	}
	if err := json.Unmarshal([]byte(copied(t, "provisioner-policy.json")), &doc); err != nil {
		t.Fatal(err)
	}
	for _, st := range more {
		doc.Statement = append(doc.Statement, json.RawMessage(st))
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// open registers an alias on the S3 of the account.
func (e *env) open(name, bucket string, use alias.CredentialRef, edit ...func(*alias.Alias)) {
	e.t.Helper()
	a := alias.New()
	a.Name = alias.Name(name)
	a.Location = alias.Location{Bucket: bucket, Region: "us-east-1", Endpoint: e.iam.S3URL, PathStyle: true}
	for _, fn := range edit {
		fn(a)
	}
	if _, err := e.registry.CreateAlias(e.t.Context(), a, use); err != nil {
		e.t.Fatal(err)
	}
}

// sessions makes the sessions of the server, whose roles may be any of the account.
func (e *env) sessions() {
	if e.cfg.AssumeRoles == nil {
		e.cfg.AssumeRoles = []string{"arn:aws:iam::" + testAccount + ":role/pictures*"}
	}
	s := session.New(session.Config{
		Registry: e.registry, AWS: e.cfg.AWS, Endpoint: e.cfg.STS, InstallID: testInstall, AssumeRoles: e.cfg.AssumeRoles,
		AllowDefault: e.cfg.AllowDefault, AllowWideScope: e.cfg.AllowWideScope, Recorder: uncounted{e.t},
	})
	e.t.Cleanup(s.Close)
	e.cfg.Sessions = s
}

// uncounted fails the test if a call is counted: an examination is no renewal.
type uncounted struct{ t *testing.T }

func (u uncounted) SessionRenewal(outcome string) { u.t.Errorf("a renewal was counted: %s", outcome) }

func (e *env) examine() *Report {
	e.t.Helper()
	if e.cfg.Sessions == nil {
		e.sessions()
	}
	return New(e.cfg).Examine(e.t.Context())
}

// of are the findings with a name.
func (r *Report) of(name FindingName) []Finding {
	var found []Finding
	for _, f := range r.Findings {
		if f.Name == name {
			found = append(found, f)
		}
	}
	return found
}

// want checks the only finding with a name: its state, and texts in it.
func want(t *testing.T, r *Report, name FindingName, state FindingState, says ...string) {
	t.Helper()
	found := r.of(name)
	if len(found) != 1 || found[0].State != state {
		t.Errorf("%s: got %+v, want one that is %s", name, found, state)
		return
	}
	wantText(t, found[0], says...)
}

func wantText(t *testing.T, f Finding, says ...string) {
	t.Helper()
	for _, text := range says {
		if !strings.Contains(f.Subject+"\n"+f.Detail+"\n"+f.Remedy, text) {
			t.Errorf("%s does not say %q: %+v", f.Name, text, f)
		}
	}
	if (f.State == Bad || f.State == Warning) && f.Remedy == "" {
		t.Errorf("%s has no remedy: %+v", f.Name, f)
	}
}

// refusedURL is the URL of a port on which nothing listens.
func refusedURL(t *testing.T) string {
	t.Helper()
	return "http://" + netfault.Refused(t)
}
