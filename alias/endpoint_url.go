package alias

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// normalEndpoint returns scheme and host in lower case if s is a plain URL of a server.
// It returns any other s unchanged; Validate refuses it.
func normalEndpoint(s string) string {
	u, err := url.Parse(s)
	if err != nil || s == "" || u.Scheme == "" || hasExtra(s, u) {
		return s
	}
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host)
}

// hasExtra reports whether a URL has more than a scheme and a host.
func hasExtra(s string, u *url.URL) bool {
	return u.Host == "" || u.User != nil || u.Opaque != "" || u.Path != "" && u.Path != "/" || strings.ContainsAny(s, "?#")
}

// endpointProblem describes why the endpoint is not the URL of a server, and what to write
// instead. The text repeats scheme and host only: a pasted URL may hold a secret elsewhere.
func (l Location) endpointProblem(p Policy) string {
	s := l.Endpoint
	if s == "" {
		return ""
	}
	if !strings.Contains(s, "://") {
		return l.schemeMissing(s)
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return endpointForm
	}
	if detail := l.partProblem(s, u); detail != "" {
		return detail
	}
	if u.Scheme == "http" && !p.AllowPrivateEndpoints {
		return "must be https; plain http needs serve --allow-private-endpoints"
	}
	return cmp.Or(hostProblem(u.Hostname(), p), l.bucketInHost(u))
}

// partProblem is about the parts of an endpoint, whose text is s.
func (l Location) partProblem(s string, u *url.URL) string {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "must begin with https:// or http://; the bucket and the prefix have fields of their own"
	case u.User != nil:
		return "must not have a user name or password: the key pair belongs in credential"
	case !validPort(u):
		return "must have a port from 1 to 65535, or none"
	case strings.ContainsAny(s, "?#"):
		return "must not have a query or a fragment" + l.instead(u, u.Hostname())
	case u.Path != "" && u.Path != "/":
		return l.pathInEndpoint(u)
	}
	return ""
}

const endpointForm = "must be empty for AWS, or a URL of scheme and host only, such as https://fra1.example.com"

// schemeMissing is the problem of an endpoint without a scheme, such as minio:9000.
func (l Location) schemeMissing(s string) string {
	u, err := url.Parse("https://" + strings.TrimPrefix(s, "//"))
	if err != nil || hasExtra(u.String(), u) || !validPort(u) || !isHost(strings.ToLower(u.Hostname())) {
		return endpointForm
	}
	if detail := l.bucketInHost(u); detail != "" {
		return detail
	}
	host := strings.ToLower(u.Host)
	return fmt.Sprintf("must begin with https:// or http://: write https://%s, or http://%s if the server has no TLS "+
		"(needs serve --allow-private-endpoints)", host, host)
}

// instead says which endpoint to write for one with this host, which may begin with the bucket.
func (l Location) instead(u *url.URL, host string) string {
	host = l.withoutBucket(strings.ToLower(host))
	if !isHost(host) {
		return ""
	}
	if region, ok := awsRegion(host); ok && u.Port() == "" {
		return ": leave it empty for AWS, with " + regionText(region)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if u.Port() != "" {
		host += ":" + u.Port()
	}
	return fmt.Sprintf(": write %s://%s", u.Scheme, host)
}

// pathInEndpoint names the bucket if it is the path: clients of S3 differ in where they
// want it.
func (l Location) pathInEndpoint(u *url.URL) string {
	first, rest, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	text := "must not have a path" + l.instead(u, u.Hostname())
	if first != l.Bucket {
		return text + "; the bucket belongs in bucket, a folder in prefix"
	}
	if rest != "" {
		return text + "; the bucket stands in bucket, and the folder belongs in prefix"
	}
	return text + "; the bucket stands in bucket already"
}

// storageHost matches names of S3 servers, as far as one can tell from a name: those of AWS
// and of others that give a bucket a host name below theirs.
var storageHost = regexp.MustCompile(`^(s3|minio|ceph|rgw|garage|r2|objects?|obs|cos|oss|storage)\b|` +
	`\.(r2\.cloudflarestorage|digitaloceanspaces|backblazeb2|wasabisys|linodeobjects|vultrobjects|scw|` +
	`your-objectstorage)\.\w+$`)

// bucketInHost describes an endpoint whose host begins with the bucket. With host names
// for buckets the S3 client would put it there once more.
func (l Location) bucketInHost(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if bucket, region, ok := awsBucket(host); ok && bucket != "" {
		return fmt.Sprintf("must not have a bucket in its host: leave it empty for AWS, with the bucket %s and %s",
			bucket, regionText(region))
	}
	if l.withoutBucket(host) == host {
		return ""
	}
	text := "must not have the bucket " + l.Bucket + " in its host" + l.instead(u, host)
	if l.PathStyle {
		return text
	}
	return text + "; if that is the name of the server itself, set path_style"
}

// withoutBucket removes the bucket from the beginning of a host. With path_style a server of
// that name may exist, so the rest must be the name of an S3 server.
func (l Location) withoutBucket(host string) string {
	rest, ok := strings.CutPrefix(host, l.Bucket+".")
	if !ok || l.Bucket == "" || !isHost(rest) || l.PathStyle && !storageHost.MatchString(rest) {
		return host
	}
	return rest
}

// awsHost matches the host names of S3 at AWS, with the bucket before and the region in
// them (https://docs.aws.amazon.com/general/latest/gr/s3.html).
var awsHost = regexp.MustCompile(`^(?:([a-z0-9.-]+)\.)?s3(?:-fips|-website|-accelerate)?(?:[.-]dualstack)?` +
	`(?:[.-]([a-z]{2,}(?:-[a-z]+)+-[0-9]+))?\.(?:amazonaws\.com|amazonaws\.com\.cn|` +
	`api\.aws|api\.amazonwebservices\.com\.cn|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|` +
	`cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`)

// awsBucket returns the bucket and the region in a host name of S3 at AWS; "" for none.
func awsBucket(host string) (bucket, region string, ok bool) {
	m := awsHost.FindStringSubmatch(host)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

func regionText(region string) string {
	if region == "" {
		return "the region of the bucket"
	}
	return "the region " + region
}

// interfaceHost matches the host names of S3 at interface endpoints of a VPC
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/privatelink-interface-endpoints.html).
var interfaceHost = regexp.MustCompile(
	`^bucket\.vpce-[a-z0-9-]+\.s3\.[a-z0-9-]+\.vpce\.amazonaws\.(?:com|com\.cn|eu)$`)

// AtAWS reports whether the location is at S3 of AWS.
func (l Location) AtAWS() bool {
	if l.Endpoint == "" {
		return true
	}
	u, err := url.Parse(l.Endpoint)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	return awsHost.MatchString(host) || interfaceHost.MatchString(host)
}

// regionIn returns the region that an endpoint at AWS names, "" if it names none.
func regionIn(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	region, _ := awsRegion(strings.ToLower(u.Hostname()))
	return region
}

// awsRegion returns the region in a host name of S3 at AWS, "" for none.
func awsRegion(host string) (region string, ok bool) {
	_, region, ok = awsBucket(host)
	return region, ok
}

func validPort(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ":") {
		return false
	}
	if u.Port() == "" {
		return true
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// isHost reports whether s is a host name or an address in its usual form.
func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || isHostName(s)
}

func hostProblem(host string, p Policy) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		if err := CheckAddr(addr, p); err != nil {
			return "must be at an allowed address: " + err.Error()
		}
		return ""
	}
	if !isHostName(host) {
		return "must have a host name of lower-case labels, or an IP address in its usual form"
	}
	if (host == "localhost" || strings.HasSuffix(host, ".localhost")) && !p.AllowPrivateEndpoints {
		return "must be at an allowed address: localhost: " + errPrivateAddr.Error()
	}
	return ""
}

// isHostName also refuses the numbers that some resolvers read as IPv4 addresses:
// 127.1, 0x7f.1, 2130706433.
func isHostName(s string) bool {
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !isLabel(strings.ReplaceAll(l, "_", "x")) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(s) <= 253 && !isDigit(last[0])
}
