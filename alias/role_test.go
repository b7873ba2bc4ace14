package alias_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

const roleARN = "arn:aws:iam::123456789012:role/ixmage/pictures"

func role(change func(*alias.Role)) alias.CredentialRef {
	r := alias.NewRole(roleARN)
	if change != nil {
		change(&r)
	}
	return alias.CredentialRef{Temporary: r}
}

// TestRoleValidate has a row for each rule.
func TestRoleValidate(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*alias.Role)
		field  string // empty: valid
	}{
		"defaults":                 {nil, ""},
		"china":                    {func(r *alias.Role) { r.ARN = "arn:aws-cn:iam::123456789012:role/x" }, ""},
		"no ARN":                   {func(r *alias.Role) { r.ARN = "" }, "role_arn"},
		"a user":                   {func(r *alias.Role) { r.ARN = "arn:aws:iam::123456789012:user/x" }, "role_arn"},
		"a session":                {func(r *alias.Role) { r.ARN = "arn:aws:sts::123456789012:assumed-role/x/y" }, "role_arn"},
		"a pattern":                {func(r *alias.Role) { r.ARN = "arn:aws:iam::*:role/x" }, "role_arn"},
		"a short account":          {func(r *alias.Role) { r.ARN = "arn:aws:iam::12345678901:role/x" }, "role_arn"},
		"longest path":             {func(r *alias.Role) { r.ARN = "arn:aws:iam::123456789012:role/" + strings.Repeat("/a", 255) + "/x" }, ""},
		"too long path":            {func(r *alias.Role) { r.ARN = "arn:aws:iam::123456789012:role/" + strings.Repeat("/a", 255) + "a/x" }, "role_arn"},
		"a space":                  {func(r *alias.Role) { r.ARN += " x" }, "role_arn"},
		"external id":              {func(r *alias.Role) { r.ExternalID = "a_1+=,.@:/-" }, ""},
		"one character":            {func(r *alias.Role) { r.ExternalID = "a" }, "external_id"},
		"longest external id":      {func(r *alias.Role) { r.ExternalID = strings.Repeat("a", 1224) }, ""},
		"too long external id":     {func(r *alias.Role) { r.ExternalID = strings.Repeat("a", 1225) }, "external_id"},
		"external id with a space": {func(r *alias.Role) { r.ExternalID = "a b" }, "external_id"},
		"shortest":                 {func(r *alias.Role) { r.Duration = 15 * time.Minute }, ""},
		"too short":                {func(r *alias.Role) { r.Duration = 15*time.Minute - time.Second }, "duration"},
		"longest":                  {func(r *alias.Role) { r.Duration = 12 * time.Hour }, ""},
		"too long":                 {func(r *alias.Role) { r.Duration = 12*time.Hour + time.Second }, "duration"},
		"a part of a second":       {func(r *alias.Role) { r.Duration = time.Hour + time.Millisecond }, "duration"},
		"no policy":                {func(r *alias.Role) { r.SessionPolicy = alias.SessionPolicyNone }, ""},
		"another policy":           {func(r *alias.Role) { r.SessionPolicy = "all" }, "session_policy"},
		"source":                   {func(r *alias.Role) { r.Source = "root" }, ""},
		"no source":                {func(r *alias.Role) { r.Source = "" }, "source"},
		"region":                   {func(r *alias.Role) { r.Region = "eu-west-1" }, ""},
		"a host":                   {func(r *alias.Role) { r.Region = "evil.example.com" }, "region"},
		"key":                      {func(r *alias.Role) { r.KMSKeyARN = "arn:aws:kms:eu-west-1:123456789012:key/k" }, ""},
		"an alias of a key":        {func(r *alias.Role) { r.KMSKeyARN = "arn:aws:kms:eu-west-1:123456789012:alias/k" }, "kms_key_arn"},
		"a key without a policy":   {func(r *alias.Role) { r.KMSKeyARN, r.SessionPolicy = "arn:aws:kms:eu-west-1:123456789012:key/k", "none" }, "kms_key_arn"},
	} {
		err := role(row.change).Validate()
		if row.field == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if row.field != "" {
			wantInvalid(t, err, row.field)
		}
	}
	r := alias.NewRole("arn:aws-cn:iam::123456789012:role/x")
	if r.Partition() != "aws-cn" || r.AccountID() != "123456789012" || (alias.Role{}).AccountID() != "" {
		t.Errorf("parts %s and %s", r.Partition(), r.AccountID())
	}
}

func TestRoleLife(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	fromRoot := func(r *alias.Role) { r.Source = "root" }
	_, err := f.CreateCredential(ctx, "pictures", role(fromRoot))
	wantInvalid(t, err, "source")
	if _, err := f.CreateCredential(ctx, "root", pair("AKIA1")); err != nil {
		t.Fatal(err)
	}
	c, err := f.CreateCredential(ctx, "pictures", role(fromRoot))
	if got, ok := c.Role(); err != nil || !ok || got.ARN != roleARN || c.Sealed != nil || c.AccessKeyID() != "" {
		t.Fatalf("got %+v, %v", c, err)
	}
	_, err = f.CreateCredential(ctx, "chained", role(func(r *alias.Role) { r.Source = "pictures" }))
	wantInvalid(t, err, "source")
	if _, err := f.Reveal(c); !errors.Is(err, alias.ErrNoKeyPair) {
		t.Errorf("a role has a key: %v", err)
	}
	// The source stays as long as a role needs it.
	err = f.DeleteCredential(ctx, "root", 0)
	wantError(t, err, alias.ErrInUse, "as the source of the roles pictures")

	f.create(t, "shop", alias.CredentialRef{Name: "pictures"})
	next := alias.NewRole(roleARN + "2")
	_, err = f.ReplaceRole(ctx, "pictures", 9, next)
	wantError(t, err, alias.ErrStale, "credential pictures")
	_, err = f.ReplaceRole(ctx, "root", 0, next)
	wantError(t, err, alias.ErrNotRole, "of kind static")
	_, err = f.ReplaceRole(ctx, "pictures", 0, alias.Role{})
	wantInvalid(t, err, "role_arn", "duration", "session_policy", "source")
	c, err = f.ReplaceRole(ctx, "pictures", 1, next)
	if err != nil || c.Version != 2 || c.Revision != 2 || c.Provider != next || c.RotatedAt.IsZero() {
		t.Errorf("got %+v, %v", c, err)
	}
	if err := f.DeleteCredential(ctx, "root", 0); err != nil {
		t.Errorf("the source that no role needs: %v", err)
	}
	_, err = f.ReplaceKeyPair(ctx, "pictures", 0, *pair("AKIA2").KeyPair)
	wantError(t, err, alias.ErrNotStatic, "of kind role")
	f.wantAsStored(t, "shop", "pictures")
}

// A credential that was registered with its alias goes with it, unless a role needs it.
func TestRoleInline(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for name, use := range map[alias.Name]alias.CredentialRef{"role": role(nil), "own": {Temporary: alias.Default{}}, "key": pair("AKIA1")} {
		a := f.create(t, name, use)
		if a.Credential != name {
			t.Errorf("%s has the credential %s", name, a.Credential)
		}
	}
	if _, err := f.CreateCredential(ctx, "pictures", role(func(r *alias.Role) { r.Source = "key" })); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[alias.Name]bool{"role": false, "own": false, "key": true} {
		if err := f.DeleteAlias(ctx, name, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Credential(ctx, name); (err == nil) != stays {
			t.Errorf("credential %s after its alias: %v", name, err)
		}
	}
}
