package provision

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"ixmage/alias"
	"ixmage/alias/policy"
	fakeiam "ixmage/internal/awstest/iam"
)

// ourUser makes a user as a provisioning does, and its credential.
func (w *env) ourUser() *alias.Provisioned {
	w.iam.AddUser(policy.UserPath(testInstall), "ours", "")
	w.iam.PutPolicy("ours", policy.InlineName, anything)
	u, _ := w.iam.User("ours")
	return &alias.Provisioned{User: alias.IAMUser{Name: u.Name, Path: u.Path, ARN: u.ARN, ID: u.ID}, Mode: alias.PolicyInline}
}

// TestForeign: everything that others can give a user is found and named, what this server and
// AWS gave it is not.
func TestForeign(t *testing.T) {
	t.Parallel()
	const quarantine = "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV2"
	for _, row := range []struct {
		name   string
		change func(*fakeiam.User)
		want   string
	}{
		{"nothing", func(*fakeiam.User) {}, ""},
		{"password", func(u *fakeiam.User) { u.LoginProfile = true }, "a login profile"},
		{"group", func(u *fakeiam.User) { u.Groups = []string{"admins", "readers"} }, "a group (admins, readers)"},
		{"MFA", func(u *fakeiam.User) { u.MFADevices = []string{"arn:mfa"} }, "an MFA device (arn:mfa)"},
		{"SSH", func(u *fakeiam.User) { u.SSHKeys = []string{"APKA1"} }, "an SSH key (APKA1)"},
		{"certificate", func(u *fakeiam.User) { u.SigningCerts = []string{"CERT1"} }, "a signing certificate (CERT1)"},
		{"service", func(u *fakeiam.User) { u.ServiceCredentials = []string{"ACCA1"} }, "a service-specific credential (ACCA1)"},
		{"inline", func(u *fakeiam.User) { u.Inline["admin"] = anything }, "a foreign inline policy (admin)"},
		{"managed", func(u *fakeiam.User) { u.Attached = []string{"arn:aws:iam::aws:policy/AdministratorAccess"} }, "a foreign managed policy (arn:aws:iam::aws:policy/AdministratorAccess)"},
		{"revoked", func(u *fakeiam.User) { u.Inline[policy.RevokeName] = anything }, ""},
		{"quarantine", func(u *fakeiam.User) { u.Attached = []string{quarantine} }, ""},
		{"like a quarantine", func(u *fakeiam.User) { u.Attached = []string{policyARN("AWSCompromisedKeyQuarantineV2")} }, "a foreign managed policy (" + policyARN("AWSCompromisedKeyQuarantineV2") + ")"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, fakeiam.Config{PageLimit: 1})
			p := w.ourUser()
			w.iam.ChangeUser("ours", row.change)
			id, err := caller{p: w.start().Provisioner}.identity(t.Context(), "ours")
			if err != nil || id.err() != nil || len(id.unread) > 0 {
				t.Fatal(err, id.err(), id.unread)
			}
			if got := strings.Join(id.foreign(p, nil), "; "); got != row.want {
				t.Errorf("found %q, want %q", got, row.want)
			}
			if id.user.ARN != p.User.ARN || len(id.keys) != 1 || id.keys[0].id == "" {
				t.Errorf("read %+v", id)
			}
			if got := id.quarantine(); (len(got) == 1) != (row.name == "quarantine") {
				t.Errorf("quarantine %q", got)
			}
		})
	}
}

// TestIdentityUnread: a call that is denied names its permission, one that the server does not
// have is unsupported, and a user that does not exist is neither.
func TestIdentityUnread(t *testing.T) {
	t.Parallel()
	w := newEnv(t, fakeiam.Config{})
	w.ourUser()
	w.iam.OnCall(func(c fakeiam.Call) *fakeiam.Fault {
		switch c.Action {
		case "GetLoginProfile":
			return fakeiam.Fail("AccessDenied")
		case "ListServiceSpecificCredentials":
			return fakeiam.NotImplemented()
		}
		return nil
	})
	c := caller{p: w.start().Provisioner}
	id, err := c.identity(t.Context(), "ours")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range id.unread {
		if isUnimplemented(u.err) {
			got = append(got, u.what)
		}
	}
	if !slices.Equal(got, []string{"service-specific credentials"}) {
		t.Errorf("unsupported: %q", got)
	}
	if err := id.err(); err == nil || !strings.Contains(err.Error(), "may not iam:GetLoginProfile on user ours") {
		t.Errorf("%v does not name the permission", err)
	}
	if _, err := c.identity(t.Context(), "missing"); !isGone(err) {
		t.Errorf("a missing user: %v", err)
	}
}

// TestTruncatedWithoutMarker: a list that says that it goes on, and does not say where, is not
// read for ever and is not taken for complete.
func TestTruncatedWithoutMarker(t *testing.T) {
	t.Parallel()
	for name, marker := range map[string]string{"none": "", "empty": "<Marker></Marker>", "the same": "<Marker>m</Marker>"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lists atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				action := r.FormValue("Action")
				list := ""
				if action != "GetUser" {
					lists.Add(1)
					list = "<IsTruncated>true</IsTruncated>" + marker
				}
				_, _ = w.Write([]byte("<" + action + "Response><" + action + "Result><User><UserName>ours</UserName></User>" + list +
					"</" + action + "Result></" + action + "Response>"))
			}))
			t.Cleanup(server.Close)
			w := newEnv(t, fakeiam.Config{})
			w.edit = func(cfg *Config) {
				cfg.AWS = newAWS(aws.Config{Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")},
					Endpoints{IAM: server.URL}, time.Millisecond)
			}
			id, err := caller{p: w.start().Provisioner}.identity(t.Context(), "ours")
			if err != nil {
				t.Fatal(err)
			}
			if got := len(id.unread); got != 8 { // all but GetUser and GetLoginProfile
				t.Errorf("%d lists are unread: %+v", got, id.unread)
			}
			if got := lists.Load(); got > 20 {
				t.Errorf("%d calls", got)
			}
			if err := id.err(); err == nil || !strings.Contains(err.Error(), "with no Marker") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
