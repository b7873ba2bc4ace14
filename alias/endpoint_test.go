package alias

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheckAddr(t *testing.T) {
	t.Parallel()
	const public, private, never = "public", "private", "never"
	for text, kind := range map[string]string{
		"8.8.8.8":              public,
		"100.63.255.255":       public,
		"100.128.0.0":          public,
		"172.32.0.1":           public,
		"169.253.255.255":      public,
		"2606:4700::6810:84e5": public,
		"fd00:ec1::254":        private,

		"127.0.0.1":       private,
		"127.255.255.254": private,
		"10.0.0.1":        private,
		"172.16.0.1":      private,
		"172.31.255.255":  private,
		"192.168.1.1":     private,
		"100.64.0.1":      private,
		"100.127.255.255": private,
		"100.100.100.201": private,
		"198.18.0.1":      private,
		"::1":             private,
		"fc00::1":         private,
		"fd12::1":         private,
		"fec0::1":         private,

		"169.254.0.1":                          never,
		"169.254.169.254":                      never,
		"169.254.170.2":                        never,
		"100.100.100.200":                      never,
		"168.63.129.16":                        never,
		"192.0.0.192":                          never,
		"0.0.0.0":                              never,
		"0.1.2.3":                              never,
		"224.0.0.1":                            never,
		"240.0.0.1":                            never,
		"255.255.255.255":                      never,
		"::":                                   never,
		"fe80::1":                              never,
		"fe80::1%eth0":                         never,
		"febf::1":                              never,
		"ff02::1":                              never,
		"fd00:ec2::254":                        never,
		"fd00:ec2::23":                         never,
		"fd00:ec2::254%eth0":                   never,
		"fd20:ce::254":                         never,
		"::ffff:8.8.8.8":                       public,
		"::ffff:10.0.0.1":                      private,
		"::ffff:169.254.1.1":                   never,
		"::ffff:0.0.0.0":                       never,
		"::8.8.8.8":                            public,
		"::127.0.0.1":                          private,
		"::169.254.169.254":                    never,
		"::ffff:0:8.8.8.8":                     public,
		"::ffff:0:10.0.0.1":                    private,
		"::ffff:0:a9fe:a9fe":                   never,
		"64:ff9b::8.8.8.8":                     public,
		"64:ff9b::10.0.0.1":                    private,
		"64:ff9b::a9fe:a9fe":                   never,
		"64:ff9b::100.100.100.200":             never,
		"64:ff9b:1::a9fe:a9fe":                 never, // with a /96
		"64:ff9b:1:0:a9:fea9:fe00:0":           never, // with a /64
		"64:ff9b:1:a9:fe:a9fe::":               never, // with a /56
		"64:ff9b:1:a9fe:a9:fe00::":             never, // with a /48
		"2002:808:808::1":                      public,
		"2002:a00:1::1":                        private,
		"2002:a9fe:a9fe::1":                    never,
		"2001:0:4136:e378:8000:63bf:f7f7:f7f7": public,
		"2001:0:4136:e378:8000:63bf:f5ff:fffe": private,
		"2001:0:4136:e378:8000:63bf:5601:5601": never,
	} {
		addr := netip.MustParseAddr(text)
		if got := CheckAddr(addr, Policy{}) == nil; got != (kind == public) {
			t.Errorf("CheckAddr(%s): got allowed %v, want %v", text, got, kind == public)
		}
		if got := CheckAddr(addr, Policy{AllowPrivateEndpoints: true}) == nil; got != (kind != never) {
			t.Errorf("CheckAddr(%s) with private endpoints: got allowed %v, want %v", text, got, kind != never)
		}
	}
	if CheckAddr(netip.Addr{}, Policy{AllowPrivateEndpoints: true}) == nil {
		t.Error("CheckAddr of no address: got no error")
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	const always, private, never = "always", "private", "never"
	for endpoint, kind := range map[string]string{
		"":                                     always,
		"https://s3.example.com":               always,
		"https://s3.example.com:9000":          always,
		"https://fra1.digitaloceanspaces.com":  always,
		"https://abc.r2.cloudflarestorage.com": always,
		"https://under_score.example.com":      always,
		"https://8.8.8.8":                      always,
		"https://[2606:4700::6810:84e5]:443":   always,
		"https://localhosts":                   always,

		"http://s3.example.com":  private,
		"http://127.0.0.1:7070":  private,
		"https://127.0.0.1":      private,
		"https://[::1]:7070":     private,
		"https://10.1.2.3":       private,
		"http://minio:9000":      private,
		"https://localhost":      private,
		"https://localhost:9000": private,
		"https://a.b.localhost":  private,
		"https://[fd12::1]":      private,
		"https://100.64.0.1":     private,

		"https://169.254.169.254":                     never,
		"https://[fe80::1]":                           never,
		"https://[fe80::1%25eth0]":                    never,
		"https://[fd00:ec2::254]":                     never,
		"https://[::ffff:169.254.169.254]":            never,
		"https://[64:ff9b::a9fe:a9fe]":                never,
		"https://0.0.0.0":                             never,
		"https://[::]":                                never,
		"https://100.100.100.200":                     never,
		"https://0":                                   never,
		"https://127.1":                               never,
		"https://2130706433":                          never,
		"https://0x7f000001":                          never,
		"https://0x7f.0.0.0x1":                        never,
		"https://0177.0.0.1":                          never,
		"https://127.0.0.1.":                          never,
		"https://s3.example.com.":                     never,
		"https://s3..example.com":                     never,
		"https://-s3.example.com":                     never,
		"https://s3.example.com:0":                    never,
		"https://s3.example.com:65536":                never,
		"https://s3.example.com:":                     never,
		"https://s3.example.com:http":                 never,
		"https://user@s3.example.com":                 never,
		"https://user:pass@s3.example.com":            never,
		"https://@s3.example.com":                     never,
		"https://s3.example.com/":                     always,
		"https://s3.example.com/path":                 never,
		"https://s3.example.com//":                    never,
		"https://s3.example.com?x=1":                  never,
		"https://s3.example.com?":                     never,
		"https://s3.example.com#x":                    never,
		"https://s3.example.com#":                     never,
		"https://s3.example.com\\@evil":               never,
		"https://s3.exämple.com":                      never,
		"https://s3%2eexample.com":                    never,
		"https://":                                    never,
		"https:///path":                               never,
		"https:s3.example.com":                        never,
		"ftp://s3.example.com":                        never,
		"unix:///run/s3.sock":                         never,
		"s3.example.com":                              never,
		"s3.example.com:9000":                         never,
		"//s3.example.com":                            never,
		"https://s3.example.com\n":                    never,
		" https://s3.example.com":                     never,
		"https://a b":                                 never,
		"https://" + strings.Repeat("a.", 126) + "aa": never, // a name of 254
	} {
		for _, policy := range []Policy{{}, {AllowPrivateEndpoints: true}} {
			want := kind == always || kind == private && policy.AllowPrivateEndpoints
			a := good()
			a.Endpoint = endpoint
			err := a.Validate(policy)
			if (err == nil) != want {
				t.Errorf("endpoint %q, %+v: got %v, want valid %v", endpoint, policy, err, want)
			}
			if err != nil {
				wantField(t, err, "endpoint")
			}
		}
	}
}

// TestEndpointHelp: a wrong endpoint is refused with the one to write instead.
func TestEndpointHelp(t *testing.T) {
	t.Parallel()
	const secret = "canary-secret-0123456789"
	at := func(endpoint string) Location { return Location{Bucket: "media", Endpoint: endpoint} }
	inPath := func(endpoint string) Location { return Location{Bucket: "media", Endpoint: endpoint, PathStyle: true} }
	aws := func(endpoint, region string) Location {
		return Location{Bucket: "media", Endpoint: endpoint, Region: region}
	}
	named := func(bucket, endpoint string, pathStyle bool) Location {
		return Location{Bucket: bucket, Endpoint: endpoint, PathStyle: pathStyle}
	}
	for _, tt := range []struct {
		name string
		at   Location
		want string // "" for none; the problem begins with its field
	}{
		{"a host", at("https://s3.example.com"), ""},
		{"no scheme", at("minio:9000"), "endpoint: must begin with https:// or http://: write https://minio:9000, or http://minio:9000 if the server has no TLS (needs serve --allow-private-endpoints)"},
		{"no scheme, a name", at("S3.Example.com"), "endpoint: must begin with https:// or http://: write https://s3.example.com, or"},
		{"no scheme, an address", at("10.0.0.1:9000"), "endpoint: must begin with https:// or http://: write https://10.0.0.1:9000, or"},
		{"no scheme, an IPv6 address", at("[fd12::1]:9000"), "endpoint: must begin with https:// or http://: write https://[fd12::1]:9000, or"},
		{"no scheme, two slashes", at("//s3.example.com"), "endpoint: must begin with https:// or http://: write https://s3.example.com, or"},
		{"no scheme, nothing to name", at("s3 example"), "endpoint: must be empty for AWS, or a URL of scheme and host only"},
		{"no scheme, the bucket in the host", at("media.s3.example.com"), "endpoint: must not have the bucket media in its host: write https://s3.example.com"},
		{"no scheme, a bucket in a host of AWS", at("media.s3.amazonaws.com"), "endpoint: must not have a bucket in its host: leave it empty for AWS"},
		{"a path, and the bucket in the host", at("https://Media.S3.example.com:9000/web"), "endpoint: must not have a path: write https://s3.example.com:9000; the bucket belongs"},
		{"a query, and the bucket in the host", at("https://media.s3.example.com?x"), "endpoint: must not have a query or a fragment: write https://s3.example.com"},
		{"scheme s3", at("s3://media/web"), "endpoint: must begin with https:// or http://; the bucket and the prefix have fields of their own"},
		{"user and password", at("https://AKIAIOSFODNN7EXAMPLE:" + secret + "@s3.example.com"), "endpoint: must not have a user name or password: the key pair belongs in credential"},
		{"query", at("https://s3.example.com?x=" + secret), "endpoint: must not have a query or a fragment: write https://s3.example.com"},
		{"port", at("https://s3.example.com:99999"), "endpoint: must have a port from 1 to 65535, or none"},
		{"path", at("https://s3.example.com:9000/web"), "endpoint: must not have a path: write https://s3.example.com:9000; the bucket belongs in bucket, a folder in prefix"},
		{"bucket in the path", at("https://acct.r2.cloudflarestorage.com/media"), "endpoint: must not have a path: write https://acct.r2.cloudflarestorage.com; the bucket stands in bucket already"},
		{"bucket and slash in the path", at("https://acct.r2.cloudflarestorage.com/media/"), "endpoint: must not have a path: write https://acct.r2.cloudflarestorage.com; the bucket stands in bucket already"},
		{"bucket and folder in the path", at("https://s3.example.com/media/web/"), "endpoint: must not have a path: write https://s3.example.com; the bucket stands in bucket, and the folder belongs in prefix"},
		{"path at AWS", at("https://s3.eu-west-1.amazonaws.com/media"), "endpoint: must not have a path: leave it empty for AWS, with the region eu-west-1; the bucket stands in bucket already"},
		{"IPv6 and a path", at("https://[2606:4700::1]:9000/media"), "endpoint: must not have a path: write https://[2606:4700::1]:9000; the bucket stands in bucket already"},

		{"bucket in the host", at("https://media.s3.example.com"), "endpoint: must not have the bucket media in its host: write https://s3.example.com; if that is the name of the server itself, set path_style"},
		{"bucket in the host, with a port", at("https://MEDIA.minio.local:9000"), "endpoint: must not have the bucket media in its host: write https://minio.local:9000; if"},
		{"bucket in the host of localhost", at("https://media.localhost"), "endpoint: must be at an allowed address"},
		{"bucket in the host, path style", inPath("https://media.s3.example.com"), "endpoint: must not have the bucket media in its host: write https://s3.example.com"},
		{"bucket in the host of MinIO, path style", inPath("https://media.minio.local:9000"), "endpoint: must not have the bucket media in its host: write https://minio.local:9000"},
		{"bucket in the host of Spaces, path style", inPath("https://media.fra1.digitaloceanspaces.com"), "endpoint: must not have the bucket media in its host: write https://fra1.digitaloceanspaces.com"},
		{"bucket in the host of R2, path style", inPath("https://media.acct.r2.cloudflarestorage.com"), "endpoint: must not have the bucket media in its host: write https://acct.r2.cloudflarestorage.com"},
		{"server named like the bucket, path style", inPath("https://media.example.com"), ""},
		{"server whose name begins like the bucket", at("https://media-store.example.com"), ""},
		{"bucket deeper in the host", at("https://s3.media.example.com"), ""},
		{"server of one label named like the bucket", named("minio", "https://minio", true), ""},
		{"bucket with dots in the host", named("a.media", "https://a.media.s3.example.com", false), "endpoint: must not have the bucket a.media in its host: write https://s3.example.com; if"},
		{"address", at("https://192.0.2.1:9000"), ""},

		{"bucket in the host at AWS", aws("https://media.s3.eu-west-1.amazonaws.com", "eu-west-1"), "endpoint: must not have a bucket in its host: leave it empty for AWS, with the bucket media and the region eu-west-1"},
		{"another bucket in the host at AWS", aws("https://other.s3.eu-west-1.amazonaws.com", "eu-west-1"), "endpoint: must not have a bucket in its host: leave it empty for AWS, with the bucket other and the region eu-west-1"},
		{"bucket in the host at AWS without a region", aws("https://media.s3.amazonaws.com", "eu-west-1"), "endpoint: must not have a bucket in its host: leave it empty for AWS, with the bucket media and the region of the bucket"},
		{"bucket in the host at AWS, old", aws("https://media.s3-eu-west-1.amazonaws.com", "eu-west-1"), "endpoint: must not have a bucket in its host: leave it empty"},
		{"bucket in the host in China", aws("https://media.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"), "endpoint: must not have a bucket in its host: leave it empty"},
		{"bucket in the host, dual stack", aws("https://media.s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"), "endpoint: must not have a bucket in its host: leave it empty"},
		{"website at AWS", aws("https://media.s3-website-eu-west-1.amazonaws.com", "eu-west-1"), "endpoint: must not have a bucket in its host: leave it empty"},
		{"AWS", aws("https://s3.eu-west-1.amazonaws.com", "eu-west-1"), ""},
		{"AWS without a region", aws("https://s3.eu-west-1.amazonaws.com", ""), ""},
		{"AWS of any region", aws("https://s3.amazonaws.com", "eu-west-1"), ""},
		{"dual stack", aws("https://s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"), ""},
		{"interface endpoint", named("bucketx", "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com", false), ""},
		{"AWS in another region", aws("https://s3.eu-west-1.amazonaws.com", "us-east-1"), "region: must be eu-west-1, the region in the endpoint, and not us-east-1"},
		{"sovereign cloud in another region", aws("https://s3.eusc-de-east-1.amazonaws.eu", "eu-central-1"), "region: must be eusc-de-east-1, the region in the endpoint"},
		{"not AWS", aws("https://s3.eu-west-1.amazonaws.com.example.com", "us-east-1"), ""},
	} {
		a := good()
		a.Location = tt.at
		a.Normalize()
		err := a.Validate(Policy{})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if strings.Contains(got, secret) {
			t.Errorf("%s: a secret is repeated: %s", tt.name, got)
		}
	}
	a := good()
	a.Location = aws("https://s3.eu-west-1.amazonaws.com", "")
	if a.Normalize(); a.Region != "eu-west-1" {
		t.Errorf("the region of an endpoint at AWS: got %s, want eu-west-1", a.Region)
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"https://s3.example.com", "https://[::ffff:169.254.169.254]:1", "https://127.1", "https://h?", "http://u@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if (Location{Endpoint: normalEndpoint(s)}).endpointProblem(Policy{AllowPrivateEndpoints: true}) != "" || s == "" {
			return
		}
		e := normalEndpoint(s)
		if e != normalEndpoint(e) || !strings.HasPrefix(e, "http") || strings.ContainsAny(strings.SplitN(e, "://", 2)[1], "/?#@\\ %") {
			t.Errorf("endpoint %q became %q", s, e)
		}
	})
}

func TestAtAWS(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]bool{
		"": true, "https://s3.eu-west-1.amazonaws.com": true, "https://s3.dualstack.eu-west-1.amazonaws.com": true,
		"https://s3-fips.us-gov-west-1.amazonaws.com": true, "https://s3-fips.dualstack.us-east-1.amazonaws.com": true,
		"https://s3.cn-north-1.amazonaws.com.cn": true, "https://s3.eusc-de-east-1.amazonaws.eu": true,
		"https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com":                true,
		"https://bucket.vpce-1a2b3c4d-5e6f-us-east-1a.s3.us-east-1.vpce.amazonaws.com:443": true,
		"https://bucket.vpce-1a2b3c4d-5e6f.s3.cn-north-1.vpce.amazonaws.com.cn":            true,
		"https://vpce-svc-1a2b3c4d.us-east-1.vpce.amazonaws.com":                           false, // anybody's service
		"https://s3.vpce-svc-1a2b3c4d.us-east-1.vpce.amazonaws.com":                        false,
		"https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com.example.com":    false,
		"https://s3.example.com": false, "http://127.0.0.1:9000": false, "https://fra1.digitaloceanspaces.com": false,
	} {
		if got := (Location{Endpoint: endpoint}).AtAWS(); got != want {
			t.Errorf("%s: got %v, want %v", endpoint, got, want)
		}
	}
}
