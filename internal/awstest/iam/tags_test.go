package iam_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	fakeiam "ixmage/internal/awstest/iam"
)

// TestTagLimits: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules
func TestTagLimits(t *testing.T) {
	t.Parallel()
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, fmt.Sprintf("k%02d=v", i))
	}
	const bad = "400 ValidationError"
	for _, tt := range []struct {
		name string
		has  []string
		add  []string
		want string
		tags string
	}{
		{"new", []string{"a=1"}, []string{"b=2"}, "", "a=1 b=2"},
		{"again", []string{"a=1"}, []string{"a=2"}, "", "a=2"},
		{"in other case", []string{"Team=1"}, []string{"team=2"}, "", "team=2"},
		{"no value", nil, []string{"a="}, "", "a="},
		{"no key", nil, []string{"=1"}, bad, ""},
		{"longest", nil, []string{strings.Repeat("ö", 128) + "=" + strings.Repeat("ö", 256)}, "", strings.Repeat("ö", 128) + "=" + strings.Repeat("ö", 256)},
		{"key too long", nil, []string{strings.Repeat("k", 129) + "=1"}, bad, ""},
		{"value too long", nil, []string{"k=" + strings.Repeat("v", 257)}, bad, ""},
		{"letters of a key", nil, []string{"a*b=1"}, bad, ""},
		{"letters of a value", nil, []string{"a=<b>"}, bad, ""},
		{"reserved", nil, []string{"aws:x=1"}, "400 InvalidInput", ""},
		{"twice", nil, []string{"a=1", "A=2"}, "400 InvalidInput", ""},
		{"none", nil, nil, bad, ""},
		{"fifty", nil, fifty, "", strings.Join(slices.Sorted(slices.Values(fifty)), " ")},
		{"fifty-first", fifty, []string{"more=1"}, "409 LimitExceeded", strings.Join(slices.Sorted(slices.Values(fifty)), " ")},
		{"one of fifty", fifty, []string{"k00=v"}, "", strings.Join(slices.Sorted(slices.Values(fifty)), " ")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			c, user := s.IAMClient(s.Root), aws.String("u")
			_, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: user, Tags: tagsOf(tt.has...)})
			must(t, err)
			add := tagsOf(tt.add...)
			if add == nil {
				add = []iamtypes.Tag{}
			}
			_, err = c.TagUser(ctx, &iam.TagUserInput{UserName: user, Tags: add})
			wantRefused(t, "TagUser", err, tt.want)
			out, err := c.ListUserTags(ctx, &iam.ListUserTagsInput{UserName: user})
			must(t, err)
			var got []string
			for _, tag := range out.Tags {
				got = append(got, *tag.Key+"="+*tag.Value)
			}
			if strings.Join(got, " ") != tt.tags {
				t.Errorf("got %q, want %q", got, tt.tags)
			}
		})
	}
}

// TestFaultDropsTags: Ceph keeps no tags and says nothing, in CreateUser and after.
// https://github.com/ceph/ceph/blob/main/src/rgw/rgw_rest_iam_user.cc
func TestFaultDropsTags(t *testing.T) {
	t.Parallel()
	s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
	s.SetFault(fakeiam.DropTags(), "CreateUser", "TagUser")
	c, user := s.IAMClient(s.Root), aws.String("u")
	out, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: user, Tags: tagsOf("a=1")})
	must(t, err)
	_, err = c.TagUser(ctx, &iam.TagUserInput{UserName: user, Tags: tagsOf("b=1")})
	must(t, err)
	got, err := c.GetUser(ctx, &iam.GetUserInput{UserName: user})
	must(t, err)
	if len(out.User.Tags)+len(got.User.Tags) != 0 || *out.User.UserId != *got.User.UserId {
		t.Errorf("made %+v, got %+v", out.User, got.User)
	}
}

// TestSetFault: a set of actions is refused, OnCall goes first, and nil ends it.
func TestSetFault(t *testing.T) {
	t.Parallel()
	tag := func(ctx context.Context, c *iam.Client) error {
		_, err := c.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("u"), Tags: tagsOf("a=1")})
		return err
	}
	for _, tt := range []struct {
		name  string
		fault *fakeiam.Fault
		want  string
	}{
		{"AWS's code", fakeiam.NotImplemented(), "400 InvalidAction"},
		{"501", fakeiam.Fail("NotImplemented"), "501 NotImplemented"},
		{"405", fakeiam.Fail("MethodNotAllowed"), "405 MethodNotAllowed"},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ctx := fakeiam.New(t, fakeiam.Config{}), t.Context()
			s.AddUser("/", "u", "")
			c := s.IAMClient(s.Root)
			s.SetFault(tt.fault, fakeiam.CephMissing()...)
			wantRefused(t, "TagUser", tag(ctx, c), tt.want)
			_, err := c.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("u")})
			must(t, err)
			s.OnCall(func(fakeiam.Call) *fakeiam.Fault { return fakeiam.Fail("Throttling") })
			wantRefused(t, "with a hook", tag(ctx, c), "400 Throttling")
			s.OnCall(nil)
			s.SetFault(nil, fakeiam.CephMissing()...)
			must(t, tag(ctx, c))
			calls := s.Calls()
			if calls[0].Code != strings.TrimLeft(tt.want, "0123456789 ") || calls[1].Action != "GetUser" || calls[1].Code != "" {
				t.Errorf("calls: %+v", calls)
			}
		})
	}
}
