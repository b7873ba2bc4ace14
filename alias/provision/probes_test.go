package provision

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awstest/iam"
)

// TestProbeRegion: at AWS the probes of a key go to the partition and region of its bucket,
// and STS of the region that every account has is there for a second question.
func TestProbeRegion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		own, bucket   string // regions
		iam           string // endpoint
		want, another string // regions of STS
	}{
		{"same", "eu-west-1", "eu-west-1", "", "eu-west-1", "us-east-1"},
		{"opt-in", "us-east-1", "ap-east-1", "", "ap-east-1", "us-east-1"},
		{"oldest", "eu-west-1", "us-east-1", "", "us-east-1", ""},
		{"China", "us-east-1", "cn-northwest-1", "", "cn-northwest-1", "cn-north-1"},
		{"GovCloud", "", "us-gov-east-1", "", "us-gov-east-1", "us-gov-west-1"},
		{"no region", "eu-west-1", "", "", "eu-west-1", ""},
		{"own IAM", "eu-west-1", "ap-east-1", "http://127.0.0.1:1", "eu-west-1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAWS(aws.Config{Region: tt.own}, Endpoints{IAM: tt.iam}, 0)
			var key scope.Key
			a.probesAt(&key, alias.Location{Bucket: "media", Region: tt.bucket}, keysOf(alias.KeyPair{AccessKeyID: "A", SecretAccessKey: alias.NewSecret("s")}))
			another := ""
			if key.STSDefault != nil {
				another = key.STSDefault.Options().Region
			}
			if got := key.STS.Options().Region; got != tt.want || another != tt.another {
				t.Errorf("STS in %q, then %q, want %q, %q", got, another, tt.want, tt.another)
			}
			if got := key.IAM.Options().Region; got != tt.want {
				t.Errorf("IAM in %q, want %q", got, tt.want)
			}
		})
	}
}

// TestProbeMarks: every call that is signed with a key which is probed names the operation or
// the verification, as the audit does.
func TestProbeMarks(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	seen := 0
	marked := func(id string) {
		t.Helper()
		services := map[string]bool{}
		for _, c := range w.iam.Calls()[seen:] {
			seen++
			if c.AccessKeyID == "" || c.AccessKeyID == w.iam.Root.AccessKeyID {
				continue
			}
			services[c.Service] = true
			if !strings.Contains(c.UserAgent, "ixmage-probe/"+id) {
				t.Errorf("%s: %s %s has the user agent %q", id, c.Service, c.Action, c.UserAgent)
			}
		}
		if !services["s3"] || !services["sts"] {
			t.Errorf("%s: probes of %v only", id, services)
		}
	}
	marked(p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop"))).ID)
	if _, err := p.Verify(t.Context(), actor, "shop", policy.Probe{}); err != nil {
		t.Fatal(err)
	}
	lines, err := w.store.Audit(t.Context(), 0, 1)
	if err != nil || len(lines) != 1 || !strings.HasPrefix(lines[0].Operation, "verify-") {
		t.Fatalf("the audit does not name the verification: %v", err)
	}
	marked(lines[0].Operation)
	marked(p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true)).ID)
}
