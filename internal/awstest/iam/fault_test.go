package iam_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault *fakeiam.Fault
		want  string
		acted bool
	}{
		{"none", nil, "", true},
		{"zero", &fakeiam.Fault{}, "", true},
		{"throttled", fakeiam.Fail("Throttling"), "400 Throttling", false},
		{"service failure", fakeiam.Fail("ServiceFailure"), "500 ServiceFailure", false},
		{"concurrent change", fakeiam.Fail("ConcurrentModification"), "409 ConcurrentModification", false},
		{"limit", fakeiam.Fail("LimitExceeded"), "409 LimitExceeded", false},
		{"denied", fakeiam.Fail("AccessDenied"), "403 AccessDenied", false},
		{"not implemented", fakeiam.NotImplemented(), "400 InvalidAction", false},
		{"own status", &fakeiam.Fault{Code: "Odd", Status: 418, Message: "tea"}, "418 Odd", false},
		{"lost before", fakeiam.LostBefore(), "lost", false},
		{"lost after", fakeiam.LostAfter(), "lost", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			s.OnCall(func(c fakeiam.Call) *fakeiam.Fault {
				if c.Action != "CreateUser" || c.Service != "iam" || c.Params.Get("UserName") != "u" || c.AccessKeyID != s.Root.AccessKeyID {
					t.Errorf("call: %+v", c)
				}
				return tt.fault
			})
			_, err := s.IAMClient(s.Root).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("u")})
			wantRefused(t, "CreateUser", err, tt.want)
			if _, made := s.User("u"); made != tt.acted {
				t.Errorf("made: %v, want %v", made, tt.acted)
			}
			if calls := s.Calls(); len(calls) != 1 || calls[0].N != 1 || calls[0].Acted != tt.acted {
				t.Errorf("calls: %+v", calls)
			}
			if tt.name == "denied" && !strings.Contains(err.Error(), "is not authorized to perform: iam:CreateUser on resource: arn:aws:iam::123456789012:user/u") {
				t.Errorf("message: %v", err)
			}
		})
	}
}

// TestFaultRetried: the SDK's own retries see the fault go away.
func TestFaultRetried(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.OnCall(func(c fakeiam.Call) *fakeiam.Fault {
		if c.N == 1 {
			return fakeiam.Fail("Throttling")
		}
		return nil
	})
	again := func(o *iam.Options) { o.RetryMaxAttempts = 3 }
	_, err := s.IAMClient(s.Root).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("u")}, again)
	must(t, err)
	if got := len(s.Calls()); got != 2 {
		t.Errorf("got %d calls, want 2", got)
	}
}

func TestFaultDropsBoundary(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	boundary := s.AddPolicy("/", "boundary", readPolicy("media", ""))
	s.OnCall(func(fakeiam.Call) *fakeiam.Fault { return fakeiam.DropBoundary() })
	out, err := s.IAMClient(s.Root).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("u"), PermissionsBoundary: &boundary})
	must(t, err)
	if u, _ := s.User("u"); out.User.PermissionsBoundary != nil || u.Boundary != "" {
		t.Errorf("got boundary %v, %q", out.User.PermissionsBoundary, u.Boundary)
	}
}

// TestFaultCallbacks ends the client right before and right after the
// effect, as a crash would.
func TestFaultCallbacks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		after  bool
		before int // users when the client ends
	}{{"before", false, 0}, {"after", true, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			s := fakeiam.New(t, fakeiam.Config{})
			ctx, kill := context.WithCancel(t.Context())
			var users int
			die := func() {
				users = len(s.Users())
				kill()
			}
			done, ended := make(chan struct{}), make(chan struct{})
			s.OnCall(func(fakeiam.Call) *fakeiam.Fault {
				if tt.after {
					// Without the wait the answer may overtake the end of the client.
					return &fakeiam.Fault{After: func() { defer close(done); die(); <-ended }}
				}
				return &fakeiam.Fault{LoseBefore: true, Before: func() { defer close(done); die() }}
			})
			_, err := s.IAMClient(s.Root).CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("u")})
			close(ended)
			if err == nil {
				t.Error("the client that ended got an answer")
			}
			<-done
			if users != tt.before || len(s.Users()) != tt.before {
				t.Errorf("users: %d then, %d now, want %d", users, len(s.Users()), tt.before)
			}
		})
	}
}

// TestFaultsOfS3: the same hook stands before S3.
func TestFaultsOfS3(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("b", "k", fakes3.Object{Body: []byte("x")})
	s.OnCall(func(c fakeiam.Call) *fakeiam.Fault {
		switch {
		case c.Service != "s3" || c.Params.Get("Bucket") != "b" || c.Params.Get("Key") != "k":
			t.Errorf("call: %+v", c)
		case c.Action == "GetObject":
			return fakeiam.Fail("SlowDown")
		case c.Action == "PutObject":
			return fakeiam.LostAfter()
		}
		return nil
	})
	c := s.S3Client(s.Root)
	_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	wantRefused(t, "GetObject", err, "503 SlowDown")
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), Body: strings.NewReader("y")})
	wantRefused(t, "PutObject", err, "lost")
	s.OnCall(nil)
	if body, _ := sdk.Get(t, c, "b", "k"); body != "y" {
		t.Errorf("got %q, want the lost write", body)
	}
}

// TestCallsHoldNoSecret: what is logged and what can be printed.
func TestCallsHoldNoSecret(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	_, err := s.IAMClient(s.Root).CreateLoginProfile(ctx, &iam.CreateLoginProfileInput{UserName: aws.String("u"), Password: aws.String("hunter2")})
	wantRefused(t, "CreateLoginProfile", err, "404 NoSuchEntity")
	if got := s.Calls()[0].Params; got.Has("Password") || got.Get("UserName") != "u" {
		t.Errorf("params: %v", got)
	}
}

// TestConcurrent: limits and unique names hold for concurrent calls.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.AddUser("/", "u", "")
	s.OnCall(func(fakeiam.Call) *fakeiam.Fault {
		s.Users()
		return nil
	})
	var wg sync.WaitGroup
	outcomes := make([]string, 16)
	for i := range outcomes {
		wg.Go(func() {
			c := s.IAMClient(s.Root)
			if i%2 == 0 {
				_, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("same")})
				outcomes[i] = refused(err)
				return
			}
			_, err := c.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("u")})
			outcomes[i] = refused(err)
		})
	}
	wg.Wait()
	slices.Sort(outcomes)
	if outcomes[0] != "" || outcomes[1] != "" || outcomes[2] != "409 EntityAlreadyExists" || len(s.Keys("u")) != 2 {
		t.Errorf("got %q", outcomes)
	}
	if calls := s.Calls(); len(calls) != 16 || calls[15].N != 16 {
		t.Errorf("got %d calls", len(calls))
	}
}

// TestDirectChanges makes direct changes of a user and reads them as a client.
func TestDirectChanges(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.AddUser("/", "u", "")
	c, user := s.IAMClient(s.Root), aws.String("u")
	_, err := c.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: user})
	wantRefused(t, "no login profile", err, "404 NoSuchEntity")
	s.AddLoginProfile("u")
	s.AddToGroup("u", "staff")
	s.ChangeUser("u", func(u *fakeiam.User) {
		u.MFADevices, u.SSHKeys = []string{"mfa"}, []string{"APKA1"}
		u.SigningCerts, u.ServiceCredentials = []string{"cert"}, []string{"ACCA1"}
	})
	s.AttachPolicy("u", s.ReadOnlyARN())
	profile, err := c.GetLoginProfile(ctx, &iam.GetLoginProfileInput{UserName: user})
	must(t, err)
	groups, err := c.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: user})
	must(t, err)
	mfa, err := c.ListMFADevices(ctx, &iam.ListMFADevicesInput{UserName: user})
	must(t, err)
	ssh, err := c.ListSSHPublicKeys(ctx, &iam.ListSSHPublicKeysInput{UserName: user})
	must(t, err)
	certs, err := c.ListSigningCertificates(ctx, &iam.ListSigningCertificatesInput{UserName: user})
	must(t, err)
	services, err := c.ListServiceSpecificCredentials(ctx, &iam.ListServiceSpecificCredentialsInput{UserName: user})
	must(t, err)
	attached, err := c.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: user})
	must(t, err)
	got := []string{
		*profile.LoginProfile.UserName, *groups.Groups[0].GroupName, *mfa.MFADevices[0].SerialNumber,
		*ssh.SSHPublicKeys[0].SSHPublicKeyId, *certs.Certificates[0].CertificateId,
		*services.ServiceSpecificCredentials[0].ServiceSpecificCredentialId, *attached.AttachedPolicies[0].PolicyName,
	}
	if want := []string{"u", "staff", "mfa", "APKA1", "cert", "ACCA1", "AmazonS3ReadOnlyAccess"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, id := range s.Keys("u") {
		s.SetKey(id.ID, false)
		wantRefused(t, "key switched off", who(ctx, s, id.Pair()), "403 InvalidClientTokenId")
		s.RemoveKey(id.ID)
	}
	for _, loosen := range []func(*fakeiam.User){
		func(u *fakeiam.User) { u.Attached = nil }, func(u *fakeiam.User) { u.Groups = nil },
		func(u *fakeiam.User) { u.LoginProfile = false }, func(u *fakeiam.User) { u.MFADevices = nil },
		func(u *fakeiam.User) { u.SSHKeys = nil }, func(u *fakeiam.User) { u.SigningCerts = nil },
		func(u *fakeiam.User) { u.ServiceCredentials = nil },
	} {
		_, err = c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: user})
		wantRefused(t, "DeleteUser", err, "409 DeleteConflict")
		s.ChangeUser("u", loosen)
	}
	_, err = c.DeleteUser(ctx, &iam.DeleteUserInput{UserName: user})
	must(t, err)
}

// TestManagedPolicies makes, uses, changes and deletes a customer managed policy.
func TestManagedPolicies(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
	kp := s.AddUser("/", "u", "")
	c, user, doc := s.IAMClient(s.Root), aws.String("u"), readPolicy("media", "")
	made, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: aws.String("bucket-specific-media"), PolicyDocument: &doc, Description: aws.String("reads media"), Tags: tagsOf("managed-by=ixmage"),
	})
	must(t, err)
	arn := made.Policy.Arn
	if *arn != "arn:aws:iam::123456789012:policy/bucket-specific-media" || *made.Policy.DefaultVersionId != "v1" {
		t.Errorf("got %s %s", *arn, *made.Policy.DefaultVersionId)
	}
	_, err = c.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("bucket-specific-media"), PolicyDocument: &doc})
	wantRefused(t, "the name is taken", err, "409 EntityAlreadyExists")
	for range 2 { // again is no error
		_, err = c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: user, PolicyArn: arn})
		must(t, err)
	}
	if body, code := sdk.Get(t, s.S3Client(kp), "media", "a"); body != "x" {
		t.Errorf("attached: got code %q", code)
	}
	got, err := c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})
	must(t, err)
	version, err := c.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: got.Policy.DefaultVersionId})
	must(t, err)
	if *got.Policy.AttachmentCount != 1 || *got.Policy.Description != "reads media" || len(got.Policy.Tags) != 1 ||
		!strings.HasPrefix(*version.PolicyVersion.Document, "%7B%22Version%22") {
		t.Errorf("got %+v, document %s", got.Policy, *version.PolicyVersion.Document)
	}
	list, err := c.ListPolicies(ctx, &iam.ListPoliciesInput{Scope: iamtypes.PolicyScopeTypeLocal})
	must(t, err)
	if len(list.Policies) != 1 || list.Policies[0].Tags != nil {
		t.Errorf("local policies: %v", list.Policies)
	}
	_, err = c.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: arn, Tags: tagsOf("a=b")})
	must(t, err)
	tags, err := c.ListPolicyTags(ctx, &iam.ListPolicyTagsInput{PolicyArn: arn})
	must(t, err)
	entities, err := c.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{PolicyArn: arn})
	must(t, err)
	if len(tags.Tags) != 2 || len(entities.PolicyUsers) != 1 || *entities.PolicyUsers[0].UserName != "u" {
		t.Errorf("tags %v, entities %v", tags.Tags, entities.PolicyUsers)
	}
	_, err = c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: arn})
	wantRefused(t, "delete while attached", err, "409 DeleteConflict")
	_, err = c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: user, PolicyArn: arn})
	must(t, err)
	_, err = c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: user, PolicyArn: arn})
	wantRefused(t, "detach again", err, "404 NoSuchEntity")
	s.AddPolicy("/", "bucket-specific-media", readPolicy("other", "")) // somebody makes a new version
	versions, err := c.ListPolicyVersions(ctx, &iam.ListPolicyVersionsInput{PolicyArn: arn})
	must(t, err)
	if len(versions.Versions) != 2 || versions.Versions[0].IsDefaultVersion || !versions.Versions[1].IsDefaultVersion {
		t.Errorf("versions: %+v", versions.Versions)
	}
	_, err = c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: arn})
	wantRefused(t, "delete with versions", err, "409 DeleteConflict")
	s.RemovePolicy(*arn)
	_, err = c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: arn})
	wantRefused(t, "removed", err, "404 NoSuchEntity")
	_, err = c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: user, PolicyArn: arn})
	wantRefused(t, "attach what is gone", err, "404 NoSuchEntity")
}

// TestBoundaryLifecycle puts a boundary on a user and takes it away.
func TestBoundaryLifecycle(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	arn := s.AddPolicy("/", "boundary", readPolicy("media", ""))
	s.AddUser("/", "u", "")
	c, user := s.IAMClient(s.Root), aws.String("u")
	_, err := c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: user, PermissionsBoundary: aws.String(arn + "x")})
	wantRefused(t, "no such policy", err, "404 NoSuchEntity")
	_, err = c.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: user, PermissionsBoundary: &arn})
	must(t, err)
	_, err = c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: &arn})
	wantRefused(t, "delete while in use", err, "409 DeleteConflict")
	_, err = c.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: user})
	must(t, err)
	_, err = c.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: user})
	wantRefused(t, "again", err, "404 NoSuchEntity")
	_, err = c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: &arn})
	must(t, err)
	if left := s.Policies(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
