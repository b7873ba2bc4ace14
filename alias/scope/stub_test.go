package scope

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"ixmage/alias"
)

// stub is an S3, IAM and STS that answers by a table, for what no real server
// here says. Its alias is bucket media, prefix shop/.
type stub struct {
	*httptest.Server
	answers map[string]string // "404 NoSuchKey some message" by operation; unnamed ones are refused
	reason  string            // of these refusals; empty for none
	silent  bool              // never answer

	mu   sync.Mutex // guards what follows
	seen []string
}

const stubARN = "arn:aws:iam::123456789012:user/team/reader"

// goodAnswers are those to a key that is just right, on an AWS that tells why it refuses.
func goodAnswers() map[string]string {
	return map[string]string{
		"GetObject inside":  "200",
		"GetObject missing": denied("s3:ListBucket", becauseIdentity),
		"GetCallerIdentity": "200",
	}
}

// Reasons of a refusal in the words of AWS, without the action.
const (
	becauseIdentity = "because no identity-based policy allows the %s action"
	byIdentity      = "with an explicit deny in an identity-based policy"
	becauseBoundary = "because no permissions boundary allows the %s action"
	bySCP           = "with an explicit deny in a service control policy"
	byRCP           = "with an explicit deny in a resource control policy"
	becauseEndpoint = "because no VPC endpoint policy allows the %s action"
	byEndpoint      = "with an explicit deny in a VPC endpoint policy"
	byResource      = "with an explicit deny in a resource-based policy"
	bySession       = "with an explicit deny in a session policy"
)

// denied is the answer of AWS that refuses an action for a reason.
func denied(action, reason string) string {
	return "403 AccessDenied User: arn:aws:iam::1:user/u is not authorized to perform: " + action + " on resource: x " +
		strings.ReplaceAll(reason, "%s", action)
}

// actionOf is the right that an operation needs.
func actionOf(op string) string {
	switch op {
	case "GetObject version":
		return "s3:GetObjectVersion"
	case "UploadPart", "PutObject":
		return "s3:PutObject"
	case "ListObjectsV2":
		return "s3:ListBucket"
	case "ListBuckets":
		return "s3:ListAllMyBuckets"
	case "DeleteObject", "GetObjectAcl", "GetObjectTagging", "GetBucketPolicy":
		return "s3:" + op
	case "AssumeRole", "GetFederationToken", "GetCallerIdentity":
		return "sts:" + op
	}
	if strings.HasPrefix(op, "GetObject ") {
		return "s3:GetObject"
	}
	return "iam:" + op
}

func newStub(t *testing.T, answers map[string]string) *stub {
	t.Helper()
	s := &stub{answers: answers, reason: becauseIdentity}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *stub) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	op := operationOf(req, string(body))
	s.mu.Lock()
	s.seen = append(s.seen, op)
	answer, ok := s.answers[op]
	s.mu.Unlock()
	if s.silent {
		<-req.Context().Done()
		return
	}
	switch {
	case ok:
	case s.reason == "":
		answer = "403 AccessDenied"
	default:
		answer = denied(actionOf(op), s.reason)
	}
	status, code, message := split(answer)
	if status/100 == 2 {
		if code != "" {
			w.Header().Set("x-amz-version-id", code) // of an object, or a delete marker
		}
		if message != "" {
			w.Header().Set("x-amz-delete-marker", message)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, success[op])
		return
	}
	w.WriteHeader(status)
	switch {
	case code == "":
	case strings.HasPrefix(req.URL.Path, "/media") || req.Method == "GET":
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, escape(message))
	default:
		fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>", code, escape(message))
	}
}

func split(answer string) (status int, code, message string) {
	parts := strings.SplitN(answer+"  ", " ", 3)
	fmt.Sscan(parts[0], &status)
	return status, parts[1], strings.TrimSpace(parts[2])
}

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return b.String()
}

var success = map[string]string{
	"GetCallerIdentity": "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>" + stubARN +
		"</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>",
	"ListAccessKeys": "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata>" +
		"<member><AccessKeyId>A1</AccessKeyId></member><member><AccessKeyId>A2</AccessKeyId></member>" +
		"</AccessKeyMetadata></ListAccessKeysResult></ListAccessKeysResponse>",
	"GetLoginProfile": "<GetLoginProfileResponse><GetLoginProfileResult><LoginProfile><UserName>reader</UserName>" +
		"<CreateDate>2026-01-01T00:00:00Z</CreateDate></LoginProfile></GetLoginProfileResult></GetLoginProfileResponse>",
	"GetObject inside": "x",
}

// operationOf names a request as a row of the table does.
func operationOf(req *http.Request, body string) string {
	if _, action, ok := strings.Cut(body, "Action="); ok {
		action, _, _ = strings.Cut(action, "&")
		return action
	}
	key := strings.TrimPrefix(req.URL.Path, "/media")
	q := req.URL.Query()
	switch {
	case req.URL.Path == "/":
		return "ListBuckets"
	case q.Has("list-type"):
		return "ListObjectsV2"
	case q.Has("policy"):
		return "GetBucketPolicy"
	case q.Has("acl"):
		return "GetObjectAcl"
	case q.Has("tagging"):
		return "GetObjectTagging"
	case req.Method == "DELETE" && q.Has("versionId"):
		return "DeleteObject version"
	case q.Has("versionId"):
		return "GetObject version"
	case q.Has("uploadId"):
		return "UploadPart"
	case req.Method == "PUT":
		return "PutObject"
	case req.Method == "DELETE":
		return "DeleteObject"
	case strings.HasPrefix(key, "/shop/.ixmage-probe/"):
		return "GetObject missing"
	case strings.HasPrefix(key, "/shop/"):
		return "GetObject inside"
	case strings.HasPrefix(key, "/shop-"):
		return "GetObject sibling"
	}
	return "GetObject outside"
}

// asked are the operations so far, each once.
func (s *stub) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(s.seen)))
}

func (s *stub) count(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, seen := range s.seen {
		if seen == op {
			n++
		}
	}
	return n
}

func (s *stub) key(t *testing.T) Key {
	t.Helper()
	return testKey(t, s.URL, s.URL, alias.KeyPair{AccessKeyID: "AKIATESTTESTTESTTEST", SecretAccessKey: alias.NewSecret("s3cr3t")})
}
