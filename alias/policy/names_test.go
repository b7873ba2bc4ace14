package policy

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

func TestUserName(t *testing.T) {
	t.Parallel()
	long := alias.Name(strings.Repeat("a", 63))
	for _, tt := range []struct {
		name  string
		alias alias.Name
		want  string
	}{
		{"short", "shop", "ixmage-s3read-shop-x7k2"},
		{"of 45 characters", long[:45], "ixmage-s3read-" + string(long[:45]) + "-x7k2"},
		{"of 63 characters", long, "ixmage-s3read-" + string(long[:45]) + "-x7k2"},
		{"cut after a hyphen", long[:44] + "-" + long[:18], "ixmage-s3read-" + string(long[:44]) + "-x7k2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := UserName(tt.alias, "x7k2")
			if got != tt.want || userNameProblem(got) != "" {
				t.Errorf("got %s (%d characters), want %s", got, len(got), tt.want)
			}
		})
	}
}

func TestNewSuffix(t *testing.T) {
	t.Parallel()
	form, seen := regexp.MustCompile(`^[a-z0-9]{4}$`), map[rune]bool{}
	for range 1000 {
		s := NewSuffix()
		if !form.MatchString(s) {
			t.Fatalf("%q", s)
		}
		for _, r := range s {
			seen[r] = true
		}
	}
	if len(seen) != 36 {
		t.Errorf("only %d of 36 characters were seen", len(seen))
	}
}

func TestUserPath(t *testing.T) {
	t.Parallel()
	if got := UserPath("home"); got != "/ixmage/home/" {
		t.Error(got)
	}
}

func TestUserTags(t *testing.T) {
	t.Parallel()
	req := Request{Alias: "shop", Tags: map[string]string{
		"team": "web", "managed-by": "me", "ixmage-operation": "mine", "ixmage-alias": "mine", "ixmage-install": "mine",
	}}
	ours := map[string]string{
		"managed-by": "ixmage", "ixmage-install": "home", "ixmage-alias": "shop", "ixmage-operation": "op1", "team": "web",
	}
	if diff := cmp.Diff(ours, UserTags("home", "op1", req)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	delete(ours, "ixmage-operation")
	if diff := cmp.Diff(ours, UserTags("home", "", req)); diff != "" {
		t.Errorf("without an operation (-want +got):\n%s", diff)
	}
	if req.Tags["managed-by"] != "me" {
		t.Error("the request was changed")
	}
}

func TestManagedName(t *testing.T) {
	t.Parallel()
	bucket := strings.Repeat("b", 63)
	for _, tt := range []struct {
		name           string
		bucket, prefix string
		want           string
	}{
		{"bucket", "acme-media", "", "bucket-specific-acme-media"},
		{"folder", "acme-media", "website-images/", "bucket-specific-acme-media-website-images"},
		{"dots and marks", "a.b", "x_y.z+=,@/", "bucket-specific-a.b-x_y.z+=,@"},
		{"just short enough", bucket, strings.Repeat("p", 48) + "/", "bucket-specific-" + bucket + "-" + strings.Repeat("p", 48)},
		{"too long", bucket, strings.Repeat("p", 49) + "/", "bucket-specific-" + bucket + "-" + strings.Repeat("p", 31) + "-c9b793d4310d08f7"},
		{"within a folder", "acme-media", "a/b/", "bucket-specific-acme-media-a-b-2f066ff93b8f7445"},
		{"a capital letter", "acme-media", "Photos/", "bucket-specific-acme-media-Photos-40e0e29e495c25c1"},
		{"odd characters", "acme-media", "(it's)!/", "bucket-specific-acme-media--it-s-2151d04d49d1c661"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := ManagedName(tt.bucket, tt.prefix); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestManagedNamesDiffer(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", 400)
	seen := map[string]string{}
	for _, prefix := range []string{
		"", "a/", "a/b/", "a-b/", "a!b/", "a'b/", "a(b/", "A/", "A/B/", "A/b/", "a/B/", "A-B/", "aB/", "Ab/",
		long + "1/", long + "2/", long + "/1/", long + "/2/",
	} {
		// IAM does not tell names apart by case.
		name := strings.ToLower(ManagedName("acme-media", prefix))
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %q are both %s", prefix, other, name)
		}
		seen[name] = prefix
	}
}

func FuzzManagedName(f *testing.F) {
	f.Add("acme-media", "website-images/")
	f.Add(strings.Repeat("b", 63), strings.Repeat("p/", 256))
	f.Add("\xff", "\u212a/")
	form := regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,128}$`)
	f.Fuzz(func(t *testing.T, bucket, prefix string) {
		name := ManagedName(bucket, prefix)
		if !form.MatchString(name) {
			t.Errorf("%q", name)
		}
		if ManagedName(bucket, prefix) != name {
			t.Error("not the same twice")
		}
	})
}

func TestManagedDescription(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		grant alias.Grant
		want  string
	}{
		{
			"bucket", alias.Grant{Bucket: "acme-media"},
			"Allows ixmage s3:GetObject on every object of the bucket acme-media, and nothing else.",
		},
		{
			"folder", alias.Grant{Bucket: "acme-media", Prefix: "website-images/"},
			"Allows ixmage s3:GetObject on the objects under website-images/ in the bucket acme-media, and nothing else.",
		},
		{
			"key", alias.Grant{Bucket: "acme-media", KMSKeyARN: euKey},
			"Allows ixmage s3:GetObject on every object of the bucket acme-media, " +
				"kms:Decrypt through S3 with the key " + euKey + ", and nothing else.",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := ManagedDescription(tt.grant); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	odd := ManagedDescription(alias.Grant{Bucket: "acme\x00\n\u2028é", Prefix: strings.Repeat("p", 2000)})
	if len(odd) != 1000 || strings.ContainsFunc(odd, func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%d characters: %q", len(odd), odd)
	}
}
