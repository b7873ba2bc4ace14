package policy

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s changed (-want +got); if on purpose, run with -update:\n%s", path, diff)
	}
}

const (
	euKey = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	usKey = "arn:aws:kms:us-east-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"
	cnKey = "arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

func TestDocumentIsTheWalkthroughs(t *testing.T) {
	t.Parallel()
	const walkthrough = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "specBucketPolicy0",
      "Effect": "Allow",
      "Action": "s3:GetObject",
      "Resource": "arn:aws:s3:::acme-media/website-images/*"
    }
  ]
}`
	g := alias.Grant{Bucket: "acme-media", Prefix: "website-images/"}
	inline, err := Inline("aws", []alias.Grant{g})
	if err != nil {
		t.Fatal(err)
	}
	managed, err := Managed("aws", g)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{"inline": inline, "managed": managed} {
		if diff := cmp.Diff(walkthrough, indent(t, doc)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// indent keeps the order of what it makes readable.
func indent(t *testing.T, doc []byte) string {
	t.Helper()
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(json.RawMessage(doc)); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func TestDocumentGolden(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		partition string
		grants    []alias.Grant
	}{
		{"inline-folder", "aws", []alias.Grant{{Bucket: "acme-media", Prefix: "website-images/"}}},
		{"inline-bucket", "aws", []alias.Grant{{Bucket: "acme-media"}}},
		{"inline-marks", "aws", []alias.Grant{{Bucket: "a.b-c", Prefix: "Photos/!_.'()@=+,-/deep/"}}},
		{"inline-unicode", "aws", []alias.Grant{{Bucket: "acme-media", Prefix: "Größe/日本 💥/"}}},
		{"inline-escapes", "aws", []alias.Grant{{Bucket: "acme-media", Prefix: `"a" <b> & c's/100%/#{x}/~;:|^` + "`id`/"}}},
		{"inline-china", "aws-cn", []alias.Grant{{Bucket: "acme-media", Prefix: "p/"}}},
		{"inline-govcloud", "aws-us-gov", []alias.Grant{{Bucket: "acme-media", Prefix: "p/"}}},
		{"inline-isolated", "aws-iso-b", []alias.Grant{{Bucket: "acme-media", Prefix: "p/"}}},
		{"inline-several", "aws", []alias.Grant{
			{Bucket: "zoo", Prefix: "cats/"},
			{Bucket: "acme-media", Prefix: "b/"},
			{Bucket: "acme-media", Prefix: "a/within/"}, // covered by the next
			{Bucket: "acme-media", Prefix: "a/"},
			{Bucket: "acme-media", Prefix: "a/"}, // twice
			{Bucket: "acme-media-2", Prefix: "a/"},
		}},
		{"inline-covered", "aws", []alias.Grant{
			{Bucket: "acme-media", Prefix: "a/"}, {Bucket: "acme-media"}, {Bucket: "acme-media", Prefix: "b/"},
		}},
		{"inline-kms", "aws", []alias.Grant{{Bucket: "acme-media", Prefix: "p/", KMSKeyARN: euKey, Region: "eu-west-1"}}},
		{"inline-kms-china", "aws-cn", []alias.Grant{{Bucket: "acme-media", Prefix: "p/", KMSKeyARN: cnKey, Region: "cn-north-1"}}},
		{"inline-kms-sovereign", "aws-eusc", []alias.Grant{{
			Bucket: "acme-media", Prefix: "p/", Region: "eusc-de-east-1", KMSKeyARN: "arn:aws-eusc:kms:eusc-de-east-1:123456789012:key/1234abcd",
		}}},
		{"inline-kms-some", "aws", []alias.Grant{
			{Bucket: "acme-media", Prefix: "p/", KMSKeyARN: usKey, Region: "us-east-1"},
			{Bucket: "acme-media", Prefix: "p/q/", KMSKeyARN: euKey + "2", Region: "eu-west-1"}, // covered, its key is not
			{Bucket: "acme-media", Prefix: "r/", KMSKeyARN: euKey},                              // the key's own region
			{Bucket: "zoo", Prefix: "cats/"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			doc, err := Inline(tt.partition, tt.grants)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "document-"+tt.name, string(doc)+"\n")
			if len(tt.grants) > 1 {
				return
			}
			managed, err := Managed(tt.partition, tt.grants[0])
			if err != nil || string(managed) != string(doc) {
				t.Errorf("the managed document differs: %s, %v", managed, err)
			}
		})
	}
}

func TestDocumentOrderOfGrantsDoesNotMatter(t *testing.T) {
	t.Parallel()
	a := alias.Grant{Bucket: "acme-media", Prefix: "p/", KMSKeyARN: euKey, Region: "eu-west-1"}
	b := alias.Grant{Bucket: "zoo", KMSKeyARN: usKey, Region: "us-east-1"}
	ab, errAB := Inline("aws", []alias.Grant{a, b})
	ba, errBA := Inline("aws", []alias.Grant{b, a, b})
	if errAB != nil || errBA != nil || string(ab) != string(ba) {
		t.Errorf("%s, %v\n%s, %v", ab, errAB, ba, errBA)
	}
}

func TestDocumentRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		partition string
		grant     alias.Grant
		field     string
	}{
		{"no partition", "", alias.Grant{Bucket: "acme-media"}, "policy"},
		{"odd partition", "aws:s3", alias.Grant{Bucket: "acme-media"}, "policy"},
		{"wildcard partition", "aws*", alias.Grant{Bucket: "acme-media"}, "policy"},
		{"no bucket", "aws", alias.Grant{Prefix: "p/"}, "bucket"},
		{"wildcard bucket", "aws", alias.Grant{Bucket: "acme-*"}, "bucket"},
		{"bucket with a slash", "aws", alias.Grant{Bucket: "acme/x"}, "bucket"},
		{"prefix without a slash", "aws", alias.Grant{Bucket: "acme-media", Prefix: "team"}, "prefix"},
		{"prefix from the root", "aws", alias.Grant{Bucket: "acme-media", Prefix: "/"}, "prefix"},
		{"wildcard prefix", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a*/"}, "prefix"},
		{"question mark", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a?/"}, "prefix"},
		{"policy variable", "aws", alias.Grant{Bucket: "acme-media", Prefix: "${aws:username}/"}, "prefix"},
		{"variable of a wildcard", "aws", alias.Grant{Bucket: "acme-media", Prefix: "${*}/"}, "prefix"},
		{"control character", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a\n/"}, "prefix"},
		{"replacement character", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a\ufffd/"}, "prefix"},
		{"not UTF-8", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a\xff/"}, "prefix"},
		{"dots", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a/../"}, "prefix"},
		{"odd region", "aws", alias.Grant{Bucket: "acme-media", Region: "eu west"}, "region"},
		{"odd key", "aws", alias.Grant{Bucket: "acme-media", KMSKeyARN: "arn:aws:kms:eu-west-1:123456789012:key/*"}, "kms_key_arn"},
		{"key alias", "aws", alias.Grant{Bucket: "acme-media", KMSKeyARN: "arn:aws:kms:eu-west-1:123456789012:alias/x"}, "kms_key_arn"},
		{"region of another partition", "aws", alias.Grant{Bucket: "acme-media", Region: "us-iso-east-1"}, "region"},
		{"key of another partition", "aws", alias.Grant{Bucket: "acme-media", KMSKeyARN: cnKey}, "kms_key_arn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, grants := range [][]alias.Grant{{tt.grant}, {{Bucket: "zoo"}, tt.grant}} {
				doc, err := Inline(tt.partition, grants)
				wantProblem(t, doc, err, tt.field)
			}
			doc, err := Managed(tt.partition, tt.grant)
			wantProblem(t, doc, err, tt.field)
		})
	}
	doc, err := Inline("aws", nil)
	wantProblem(t, doc, err, "policy")
}

func wantProblem(t *testing.T, doc []byte, err error, field string) {
	t.Helper()
	invalid, ok := errors.AsType[*alias.ValidationError](err)
	if !ok || doc != nil || invalid.Problems[0].Field != field {
		t.Errorf("got %s, %v; want a problem with %s", doc, err, field)
	}
}

func TestDocumentQuota(t *testing.T) {
	t.Parallel()
	full := func(extra int) []alias.Grant {
		// A document with four resources; the last prefix fills it up.
		grants := []alias.Grant{
			{Bucket: "acme-media", Prefix: strings.Repeat("a", 400) + "/"},
			{Bucket: "acme-media", Prefix: strings.Repeat("b", 400) + "/"},
			{Bucket: "acme-media", Prefix: strings.Repeat("c", 400) + "/"},
			{Bucket: "acme-media", Prefix: "d/"},
		}
		doc, err := Inline("aws", grants)
		if err != nil {
			t.Fatal(err)
		}
		grants[3].Prefix = strings.Repeat("d", maxInline-maxRevoke-len(doc)+1+extra) + "/"
		return grants
	}
	doc, err := Inline("aws", full(0))
	if err != nil || len(doc) != 1798 {
		t.Errorf("a document of %d characters: %v", len(doc), err)
	}
	doc, err = Inline("aws", full(1))
	wantProblem(t, doc, err, "policy")
	if err != nil && (!strings.Contains(err.Error(), "2,048") || !strings.Contains(err.Error(), "1799")) {
		t.Errorf("the error does not name the quota and what is needed: %v", err)
	}
	for _, text := range []string{"p", "ö", "日", "💥", `"`} { // the longest escapes
		longest := alias.Grant{
			Bucket: strings.Repeat("b", 63), Prefix: strings.Repeat(text, (alias.MaxKey/2-1)/len(text)) + "/", KMSKeyARN: euKey,
		}
		if doc, err := Managed("aws", longest); err != nil || len(doc) > maxManaged {
			t.Errorf("the longest location of %s does not fit in a managed policy: %d characters, %v", text, len(doc), err)
		}
	}
}

// FuzzDocument holds every document to what was asked for: one statement whose
// resource, read back, is that very folder and has one wildcard, at its end.
func FuzzDocument(f *testing.F) {
	f.Add("aws", "acme-media", "website-images/", "")
	f.Add("aws-cn", "a.b", "", cnKey)
	f.Add("aws", "acme-media", "a*/", "")
	f.Add("aws", "acme-media", `x","Action":"s3:*/`, "")
	f.Add("aws", "acme-media", "<&>/", euKey)
	f.Add("aws", "acme-media", "${aws:username}/", "")
	f.Add("aws", "acme-media", "\xff/", "")
	f.Add("aws", "acme-media", "Größe 💥\u2028/\"x\"/%41+/", "")
	f.Fuzz(func(t *testing.T, partition, bucket, prefix, key string) {
		doc, err := Inline(partition, []alias.Grant{{Bucket: bucket, Prefix: prefix, KMSKeyARN: key}})
		if err != nil {
			return
		}
		var got struct {
			Version   string
			Statement []struct {
				Sid, Effect, Action, Resource string
				Condition                     map[string]map[string]string
			}
		}
		if err := json.Unmarshal(doc, &got); err != nil {
			t.Fatal(err)
		}
		want := "arn:" + partition + ":s3:::" + bucket + "/" + prefix + "*"
		first := got.Statement[0]
		if first.Resource != want || strings.Count(first.Resource, "*") != 1 || !strings.HasSuffix(first.Resource, "/"+prefix+"*") {
			t.Errorf("resource %q, want %q", first.Resource, want)
		}
		if strings.ContainsFunc(string(doc), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("IAM takes printable ASCII only: %s", doc)
		}
		if strings.ContainsAny(first.Resource, "?$") || prefix != "" && !strings.HasSuffix(prefix, "/") {
			t.Errorf("resource %q opens more than one folder", first.Resource)
		}
		if first.Sid != policySid || first.Effect != "Allow" || first.Action != "s3:GetObject" || first.Condition != nil {
			t.Errorf("statement %+v", first)
		}
		rest := got.Statement[1:]
		if (key == "") != (len(rest) == 0) || len(rest) > 1 {
			t.Fatalf("%d more statements with the key %q", len(rest), key)
		}
		if key != "" && (rest[0].Action != "kms:Decrypt" || rest[0].Resource != key || strings.Contains(key, "*") || len(rest[0].Condition) != 1) {
			t.Errorf("statement %+v", rest[0])
		}
		if !Same(doc, doc) {
			t.Error("the document is not the same as itself")
		}
	})
}
