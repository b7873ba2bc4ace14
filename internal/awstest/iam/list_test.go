package iam_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	fakeiam "ixmage/internal/awstest/iam"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

// TestPages reads a list in pages, by what the client and what the server
// wants, while users come and go.
func TestPages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		limit    int
		maxItems int32
		pages    int
	}{{"one page", 0, 0, 1}, {"client", 0, 3, 3}, {"server", 2, 0, 4}, {"both", 2, 3, 4}} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{PageLimit: tt.limit}), t.Context()
			for i := range 7 {
				s.AddUser("/ixmage/i1/", fmt.Sprintf("u%d", i), "")
			}
			s.AddUser("/ixmage/i2/", "u-other", "")
			s.AddUser("/", "u-stranger", "")
			s.ChangeUser("u0", func(u *fakeiam.User) { u.Tags["a"], u.Boundary = "b", s.ReadOnlyARN() })
			in := &iam.ListUsersInput{PathPrefix: aws.String("/ixmage/i1/")}
			if tt.maxItems > 0 {
				in.MaxItems = &tt.maxItems
			}
			var names []string
			pages := 0
			for p := iam.NewListUsersPaginator(s.IAMClient(s.Root), in); p.HasMorePages(); pages++ {
				out, err := p.NextPage(ctx)
				must(t, err)
				for _, u := range out.Users {
					names = append(names, *u.UserName)
					if u.Tags != nil || u.PermissionsBoundary != nil {
						t.Errorf("%s: a list has no tags and no boundary, got %v, %v", *u.UserName, u.Tags, u.PermissionsBoundary)
					}
				}
				s.RemoveUser(names[len(names)-1]) // the marker stands for a place, not for a user
			}
			if got := strings.Join(names, " "); got != "u0 u1 u2 u3 u4 u5 u6" || pages != tt.pages {
				t.Errorf("got %q in %d pages, want %d pages", got, pages, tt.pages)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{UsersQuota: 2}), t.Context()
	c := s.IAMClient(s.Root)
	s.AddUser("/", "u", "")
	var many []string
	for i := range 51 {
		many = append(many, fmt.Sprintf("k%d=v", i))
	}
	name := func(s string) *string { return &s }
	for _, tt := range []struct {
		name string
		in   *iam.CreateUserInput
		want string
	}{
		{"name too long", &iam.CreateUserInput{UserName: name(strings.Repeat("n", 65))}, "400 ValidationError"},
		{"name with a slash", &iam.CreateUserInput{UserName: name("a/b")}, "400 ValidationError"},
		{"path without a slash", &iam.CreateUserInput{UserName: name("n"), Path: name("/p")}, "400 ValidationError"},
		{"too many tags", &iam.CreateUserInput{UserName: name("n"), Tags: tagsOf(many...)}, "409 LimitExceeded"},
		{"tag twice", &iam.CreateUserInput{UserName: name("n"), Tags: tagsOf("a=1", "A=2")}, "400 InvalidInput"},
		{"name in other case", &iam.CreateUserInput{UserName: name("U")}, "409 EntityAlreadyExists"},
		{"boundary that is not there", &iam.CreateUserInput{UserName: name("n"), PermissionsBoundary: name("arn:aws:iam::aws:policy/No")}, "404 NoSuchEntity"},
		{"longest name", &iam.CreateUserInput{UserName: name(strings.Repeat("n", 64))}, ""},
		{"too many users", &iam.CreateUserInput{UserName: name("n")}, "409 LimitExceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := c.CreateUser(ctx, tt.in)
			wantRefused(t, tt.name, err, tt.want)
		})
	}
}

// TestSignatures: a wrong or missing signature is refused with the error of each
// service.
func TestSignatures(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("odd", "ü +&=?%2F/a//b.txt", fakes3.Object{Body: []byte("x")})
	kp, off := s.AddUser("/", "u", statements(`{'Effect':'Allow','Action':'*','Resource':'*'}`)), s.AddUser("/", "off", "")
	s.SetKey(off.AccessKeyID, false)
	for _, tt := range []struct {
		name       string
		keys       alias.KeyPair
		query, odd string
	}{
		{"right", kp, "", ""},
		{"root", s.Root, "", ""},
		{"wrong secret", alias.KeyPair{AccessKeyID: kp.AccessKeyID, SecretAccessKey: off.SecretAccessKey}, "403 SignatureDoesNotMatch", "403 SignatureDoesNotMatch"},
		{"unknown key", alias.KeyPair{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: kp.SecretAccessKey}, "403 InvalidClientTokenId", "403 InvalidAccessKeyId"},
		{"inactive key", off, "403 InvalidClientTokenId", "403 InvalidAccessKeyId"},
		{"anonymous", alias.KeyPair{}, "403 MissingAuthenticationToken", "403 AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.keys.AccessKeyID != "" { // the SDK does not call IAM without a key
				_, err := s.IAMClient(tt.keys).ListUsers(ctx, &iam.ListUsersInput{})
				wantRefused(t, "IAM", err, tt.query)
				wantRefused(t, "STS", who(ctx, s, tt.keys), tt.query)
			}
			_, err := s.S3Client(tt.keys).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("odd"), Key: aws.String("ü +&=?%2F/a//b.txt")})
			wantRefused(t, "S3", err, tt.odd)
		})
	}
	form := "Action=ListUsers&Version=2010-05-08"
	sum := sha256.Sum256([]byte(form))
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL, nil) // signed as Python's SDK does: without the length
	must(t, err)
	must(t, v4.NewSigner().SignHTTP(ctx, aws.Credentials{AccessKeyID: kp.AccessKeyID, SecretAccessKey: kp.SecretAccessKey.Reveal()}, req, hex.EncodeToString(sum[:]), "iam", "us-east-1", time.Now()))
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("length not signed: got %d, want 200", resp.StatusCode)
	}
	resp, err = http.Post(s.URL, "application/x-www-form-urlencoded", strings.NewReader(form))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("without a signature: got %d, want 403", resp.StatusCode)
	}
	_, err = s.IAMClient(kp).CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("g")})
	wantRefused(t, "unknown action", err, "400 InvalidAction")
}

func TestKeyLastUsed(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	kp := s.AddUser("/", "u", "")
	c := s.IAMClient(s.Root)
	out, err := c.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &kp.AccessKeyID})
	must(t, err)
	if out.AccessKeyLastUsed.LastUsedDate != nil || *out.AccessKeyLastUsed.ServiceName != "N/A" || *out.UserName != "u" {
		t.Errorf("never used: got %+v", out.AccessKeyLastUsed)
	}
	s.CreateBucket("b")
	sdk.Get(t, s.S3Client(kp), "b", "k")
	out, err = c.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: &kp.AccessKeyID})
	must(t, err)
	if out.AccessKeyLastUsed.LastUsedDate == nil || *out.AccessKeyLastUsed.ServiceName != "s3" {
		t.Errorf("used: got %+v", out.AccessKeyLastUsed)
	}
	self, err := s.IAMClient(s.Root).GetUser(ctx, &iam.GetUserInput{})
	must(t, err)
	if *self.User.Arn != "arn:aws:iam::123456789012:root" {
		t.Errorf("root: got %s", *self.User.Arn)
	}
	s.PutPolicy("u", "self", statements(`{'Effect':'Allow','Action':'iam:GetUser','Resource':'arn:aws:iam::123456789012:user/u'}`))
	self, err = s.IAMClient(kp).GetUser(ctx, &iam.GetUserInput{})
	must(t, err)
	if *self.User.UserName != "u" {
		t.Errorf("self: got %s", *self.User.UserName)
	}
}

// TestNoMarker: a list that says that it goes on, and not where.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListUsers.html
func TestNoMarker(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{PageLimit: 1}), t.Context()
	s.AddUser("/", "u", "")
	s.AddUser("/", "v", "")
	s.SetFault(fakeiam.NoMarker(), "ListUsers", "ListGroupsForUser")
	out, err := s.IAMClient(s.Root).ListUsers(ctx, &iam.ListUsersInput{})
	must(t, err)
	if len(out.Users) != 1 || !out.IsTruncated || out.Marker != nil {
		t.Errorf("got %d users, more %v, at %v", len(out.Users), out.IsTruncated, out.Marker)
	}
	groups, err := s.IAMClient(s.Root).ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: aws.String("u")})
	must(t, err)
	if len(groups.Groups) != 0 || !groups.IsTruncated || groups.Marker != nil {
		t.Errorf("got %d groups, more %v, at %v", len(groups.Groups), groups.IsTruncated, groups.Marker)
	}
}

// TestPagesOfOneUser: what a user has is listed in pages too.
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListGroupsForUser.html
func TestPagesOfOneUser(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{PageLimit: 2}), t.Context()
	s.AddUser("/", "u", "")
	for _, group := range []string{"c", "a", "b"} {
		s.AddToGroup("u", group)
	}
	var names []string
	pages := 0
	in := &iam.ListGroupsForUserInput{UserName: aws.String("u")}
	for p := iam.NewListGroupsForUserPaginator(s.IAMClient(s.Root), in); p.HasMorePages(); pages++ {
		out, err := p.NextPage(ctx)
		must(t, err)
		for _, g := range out.Groups {
			names = append(names, *g.GroupName)
		}
	}
	if got := strings.Join(names, " "); got != "c a b" || pages != 2 {
		t.Errorf("got %q in %d pages", got, pages)
	}
}

// TestCallLog: every call is in the log in the order of arrival, with the mark of the
// client and the outcome, whether it was allowed, denied, refused or not signed.
func TestCallLog(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.PutObject("media", "a", fakes3.Object{Body: []byte("x")})
	kp := s.AddUser("/", "u", statements(allowNone))
	session := s.NewSession("u")
	mark := func(o *iam.Options) { o.AppID = "ixmage-probe" }
	_, err := s.IAMClient(kp).GetUser(ctx, &iam.GetUserInput{}, mark)
	wantRefused(t, "GetUser", err, "403 AccessDenied")
	_, err = s.S3ClientOf(session).GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("media"), Key: aws.String("a")}, func(o *s3.Options) { o.AppID = "ixmage-probe" })
	wantRefused(t, "GetObject", err, "403 AccessDenied")
	_, err = s.S3Client(alias.KeyPair{}).HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("media")})
	wantRefused(t, "HeadBucket", err, "403 Forbidden")
	_, err = s.IAMClient(s.Root).GetUser(ctx, &iam.GetUserInput{UserName: aws.String("u")}, mark)
	must(t, err)
	for i, want := range []struct {
		action, key, code string
		marked            bool
	}{
		{"iam GetUser", kp.AccessKeyID, "AccessDenied", true},
		{"s3 GetObject", session.AccessKeyID, "AccessDenied", true},
		{"s3 HeadBucket", "", "AccessDenied", false},
		{"iam GetUser", s.Root.AccessKeyID, "", true},
	} {
		c := s.Calls()[i]
		if c.N != i+1 || c.Service+" "+c.Action != want.action || c.AccessKeyID != want.key || c.Code != want.code ||
			strings.Contains(c.UserAgent, "ixmage-probe") != want.marked || c.UserAgent == "" {
			t.Errorf("call %d: got %+v, want %+v", i+1, c, want)
		}
	}
}
