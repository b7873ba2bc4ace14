package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ixmage/alias"
)

// Request is a request for an alias together with its IAM user, policy and key.
type Request struct {
	Alias alias.Name `json:"alias"`
	alias.Location
	Policy alias.PolicyMode `json:"policy"`
	// Credential names an existing provisioned credential to reuse; empty for a new
	// one.
	Credential alias.Name        `json:"credential"`
	UserName   string            `json:"user_name"` // empty: generated
	Tags       map[string]string `json:"tags"`
	KMSKeyARN  string            `json:"kms_key_arn"`
	// Inside and Outside are whole object keys in the bucket, which the new key must
	// and must not be able to read; empty if the operator gives none.
	Inside      string        `json:"inside"`
	Outside     string        `json:"outside"`
	RotateEvery time.Duration `json:"rotate_every"` // 0: no scheduled rotation
	// Adopt names an existing IAM user to take over instead of a new one. Retire makes the
	// key that the user had inactive, once nothing uses it. Both are left out of the JSON
	// if unset, because requests are compared as JSON with those of older versions.
	Adopt  string `json:"adopt,omitempty"`
	Retire bool   `json:"retire,omitempty"`
	// Account names the AWS account of the user: the name or the id of an entry of --accounts,
	// or empty for that of the server. A stored request has the id.
	Account string `json:"account,omitempty"`
	// These are of the alias; zero values mean its defaults, which a list of no widths is not. They
	// are left out of the JSON like Adopt.
	Transforms alias.Transforms  `json:"transforms,omitempty"`
	Access     alias.Access      `json:"access,omitempty"`
	Widths     []int             `json:"widths,omitzero"`
	Templates  map[string]string `json:"templates,omitempty"`
}

// Limits of a request. IAM allows 50 tags on a user, five of which are ours.
const (
	maxTags        = 45
	maxTagKey      = 128
	maxTagValue    = 256
	minRotateEvery = time.Hour
	maxRotateEvery = 10 * 365 * 24 * time.Hour
)

// Normalize brings a request into the form in which it is compared and stored. An empty
// policy becomes inline, except for a reuse, where it stays empty and means the policy
// of the credential. Normalize is idempotent.
func Normalize(req *Request) {
	a := alias.Alias{Location: req.Location}
	a.Normalize()
	req.Location = a.Location
	if req.Policy == "" && req.Credential == "" {
		req.Policy = alias.PolicyInline
	}
	if len(req.Tags) == 0 {
		req.Tags = nil
	}
	if len(req.Templates) == 0 {
		req.Templates = nil
	}
}

// NewAlias makes the alias of a request, in the state provisioning. Its canary is the
// object inside, unless that is not valid; Prepare reports that problem as probe.inside.
func NewAlias(req *Request) *alias.Alias {
	a := alias.New()
	a.Name, a.Location, a.State = req.Alias, req.Location, alias.StateProvisioning
	a.Transforms, a.Access = cmp.Or(req.Transforms, a.Transforms), cmp.Or(req.Access, a.Access)
	if a.Templates = req.Templates; req.Widths != nil {
		a.Widths = req.Widths
	}
	if req.Inside != "" && insideProblem(req.Inside, req.Prefix) == "" {
		a.Canary = strings.TrimPrefix(req.Inside, req.Prefix)
	}
	a.Normalize()
	return a
}

// Prepare normalizes a request and validates it, with its alias, as far as that is
// possible without the registry and IAM. installation is what the configuration allows.
// The error is a *alias.ValidationError with all problems, under the field names of the
// request.
func Prepare(req *Request, installation alias.Policy) error {
	Normalize(req)
	req.Templates = installation.CanonicalTemplates(req.Templates)
	var problems []alias.Problem
	if v, ok := errors.AsType[*alias.ValidationError](NewAlias(req).Validate(installation)); ok {
		for _, problem := range v.Problems {
			switch problem.Field {
			case "canary": // reported as probe.inside
				continue
			case "name":
				problem.Field = "alias"
			}
			problems = append(problems, problem)
		}
	}
	if problems = append(problems, requestProblems(req)...); len(problems) > 0 {
		return &alias.ValidationError{Problems: problems}
	}
	return nil
}

// requestProblems lists the problems of a normalized request, without those of its
// alias.
func requestProblems(req *Request) []alias.Problem {
	var problems []alias.Problem
	add := func(field, detail string) {
		if detail != "" {
			problems = append(problems, alias.Problem{Field: field, Detail: detail})
		}
	}
	add("policy", modeProblem(req))
	add("user_name", userNameProblem(req.UserName))
	for _, detail := range tagProblems(req.Tags) {
		add("tags", detail)
	}
	add("kms_key_arn", keyProblem(req))
	problems = append(problems, Probe{req.Inside, req.Outside}.problems(req.Prefix)...)
	add("rotate_every", rotateProblem(req.RotateEvery))
	add("adopt", adoptProblem(req))
	add("retire", retireProblem(req))
	return append(problems, reuseProblems(req)...)
}

func modeProblem(req *Request) string {
	switch req.Policy {
	case alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly:
		return ""
	case "":
		if req.Credential != "" {
			return ""
		}
	}
	return "must be inline, managed or read-only-access"
}

var userNameForm = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)

func userNameProblem(s string) string {
	if s == "" || userNameForm.MatchString(s) {
		return ""
	}
	return "must be 1 to 64 of A-Z, a-z, 0-9 and +=,.@_-"
}

func tagProblems(tags map[string]string) []string {
	if len(tags) > maxTags {
		return []string{fmt.Sprintf("must be at most %d: IAM allows 50 on a user, and ixmage sets five", maxTags)}
	}
	var problems []string
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		lower := strings.ToLower(key)
		if detail := tagProblem(lower, tags[key]); detail != "" {
			problems = append(problems, fmt.Sprintf("%q: %s", key, detail))
		}
		if other, twice := seen[lower]; twice {
			problems = append(problems, fmt.Sprintf("%q: IAM takes it for the same tag as %q", key, other))
		}
		seen[lower] = key
	}
	return problems
}

// tagProblem gets the key in lower case, because keys of tags are case-insensitive in
// IAM.
func tagProblem(key, value string) string {
	const marks = " _.:/=+-@"
	switch {
	case key == "" || utf8.RuneCountInString(key) > maxTagKey || !isTagText(key):
		return "the name of a tag must be 1 to 128 letters, digits, spaces and" + marks
	case strings.HasPrefix(key, "aws:") || strings.HasPrefix(strings.ToLower(value), "aws:"):
		return "must not begin with aws:, which AWS reserves"
	case strings.HasPrefix(key, "ixmage") || strings.HasPrefix(key, TagManagedBy):
		return "must not begin with ixmage or managed-by, which ixmage reserves"
	case utf8.RuneCountInString(value) > maxTagValue || !isTagText(value):
		return "the value must be at most 256 letters, digits, spaces and" + marks
	}
	return ""
}

func isTagText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r)
	})
}

func keyProblem(req *Request) string {
	if req.KMSKeyARN == "" {
		return ""
	}
	key, ok := parseKey(req.KMSKeyARN)
	switch {
	case !ok:
		return keyForm
	case key.region != req.Region:
		return "must be in the region of the bucket, which is " + req.Region + ", and not in " + key.region
	case req.AtAWS() && key.partition != lookUpRegion(req.Region).partition:
		return fmt.Sprintf("must be in the partition of the region %s, which is %s, and not in %s",
			req.Region, lookUpRegion(req.Region).partition, key.partition)
	case req.Policy == alias.PolicyReadOnly:
		return "must be empty with the policy read-only-access, which allows no KMS key"
	}
	return ""
}

// Probe holds whole object keys for the scope checks of an alias: one that the key must be
// able to read, and one that it must not. Both may be empty.
type Probe struct{ Inside, Outside string }

// Validate returns the error of a probe for an alias with a prefix, a
// *alias.ValidationError with the field names of a request, or nil.
func (p Probe) Validate(prefix string) error {
	if problems := p.problems(prefix); len(problems) > 0 {
		return &alias.ValidationError{Problems: problems}
	}
	return nil
}

func (p Probe) problems(prefix string) []alias.Problem {
	var problems []alias.Problem
	if detail := insideProblem(p.Inside, prefix); detail != "" {
		problems = append(problems, alias.Problem{Field: "probe.inside", Detail: detail})
	}
	if detail := outsideProblem(p.Outside, prefix); detail != "" {
		problems = append(problems, alias.Problem{Field: "probe.outside", Detail: detail})
	}
	return problems
}

// insideProblem validates the object as a canary, because it becomes the canary.
func insideProblem(key, prefix string) string {
	if key == "" {
		return ""
	}
	rest, under := strings.CutPrefix(key, prefix)
	if !under || rest == "" {
		return "must be the key of an object under the prefix " + prefix
	}
	return objectProblem(key)
}

func outsideProblem(key, prefix string) string {
	switch {
	case key == "":
		return ""
	case prefix == "":
		return "must be empty for an alias on a whole bucket, which has no outside"
	case strings.HasPrefix(key, prefix):
		return "must be the key of an object that is not under the prefix " + prefix
	}
	return objectProblem(key)
}

// objectProblem applies the rules of a path to a whole key, more strictly than S3: a
// key that a client, server or proxy on the way takes for another one proves nothing.
func objectProblem(key string) string {
	if alias.IsPath([]byte(key)) {
		return ""
	}
	return fmt.Sprintf("must be a whole object key of at most %d bytes, valid UTF-8 without control characters and "+
		`backslashes, without a slash at either end and without empty, "." or ".." segments`, alias.MaxKey)
}

func rotateProblem(d time.Duration) string {
	if d == 0 || d >= minRotateEvery && d <= maxRotateEvery {
		return ""
	}
	return fmt.Sprintf("must be 0s for never, or from %s to %s", minRotateEvery, maxRotateEvery)
}

// reuseProblems validates the reuse of a credential, which cannot change its user.
func reuseProblems(req *Request) []alias.Problem {
	if req.Credential == "" {
		return nil
	}
	var problems []alias.Problem
	if _, err := alias.ParseName(string(req.Credential)); err != nil {
		problems = append(problems, alias.Problem{
			Field: "credential", Detail: "must be the name of a provisioned credential, or empty for a new one",
		})
	}
	const detail = "must be empty if credential is set: it belongs to the existing user"
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"user_name", req.UserName != ""},
		{"tags", len(req.Tags) > 0},
		{"rotate_every", req.RotateEvery != 0},
	} {
		if f.given {
			problems = append(problems, alias.Problem{Field: f.name, Detail: detail})
		}
	}
	return problems
}

func adoptProblem(req *Request) string {
	switch {
	case req.Adopt == "":
		return ""
	case req.Credential != "":
		return "must be empty if credential is set, which names a user already"
	case req.UserName != "":
		return "must be empty if user_name is set: adopt names an existing user, user_name a new one"
	}
	return userNameProblem(req.Adopt)
}

func retireProblem(req *Request) string {
	if req.Retire && req.Adopt == "" {
		return "must be false unless adopt names a user: only an adopted user has a key to retire"
	}
	return ""
}

// Allowed reports whether the name of a bucket or of an IAM user matches one of the
// patterns. Without patterns no name does.
func Allowed(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// RoleAllowed is Allowed for the ARN of a role. A * stands for text of one part of the ARN, so
// that one for a partition or an account does not match the ARN of a role whose path contains the
// rest of the pattern: IAM allows colons there. The pattern * alone matches every role.
func RoleAllowed(patterns []string, arn string) bool {
	parts := strings.SplitN(arn, ":", arnParts)
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return pattern == "*" || slices.EqualFunc(strings.SplitN(pattern, ":", arnParts), parts, matches)
	})
}

// arnParts is how many parts an ARN has; the last one may contain colons
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html).
const arnParts = 6

// CheckTagKeys returns alias.ErrForbidden if the request has a tag whose key is not among
// allowed, the keys of --provision-tags. Tags of a user become aws:PrincipalTag in the
// conditions of bucket and key policies, so they can grant rights
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html).
func CheckTagKeys(req *Request, allowed []string) error {
	for _, key := range slices.Sorted(maps.Keys(req.Tags)) {
		if !slices.Contains(allowed, key) {
			return fmt.Errorf("%w: the tag key %q is not among --provision-tags", alias.ErrForbidden, key)
		}
	}
	return nil
}

// matches reports whether s matches pattern, in which a * stands for any text.
func matches(pattern, s string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	s, ok := strings.CutPrefix(s, first)
	if !wild || !ok {
		return ok && s == ""
	}
	parts := strings.Split(rest, "*")
	last := parts[len(parts)-1]
	for _, part := range parts[:len(parts)-1] {
		if _, s, ok = strings.Cut(s, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(s, last)
}

var patternForm = regexp.MustCompile(`^[a-z0-9.*-]{1,63}$`)

// PatternProblem describes why a pattern is not valid for bucket names. It is empty if
// the pattern is valid.
func PatternProblem(pattern string) string {
	if patternForm.MatchString(pattern) {
		return ""
	}
	return "must be a bucket name, in which * stands for any text, such as acme-*"
}

var userPatternForm = regexp.MustCompile(`^[A-Za-z0-9+=.@_*-]{1,64}$`)

// UserPatternProblem describes why a pattern is not valid for names of IAM users. It is
// empty if the pattern is valid.
func UserPatternProblem(pattern string) string {
	if userPatternForm.MatchString(pattern) {
		return ""
	}
	return "must be the name of an IAM user, in which * stands for any text, such as ixmage-s3read*"
}

var rolePatternForm = regexp.MustCompile(`^arn:[a-z*-]{1,32}:iam::[0-9*]{1,12}:role/([A-Za-z0-9+=,.@_/*-]+)$`)

// RolePatternProblem describes why a pattern is not valid for ARNs of roles. It is empty if the
// pattern is valid.
func RolePatternProblem(pattern string) string {
	if pattern == "*" || matchesBounded(rolePatternForm, pattern) {
		return ""
	}
	return "must be the ARN of a role, in which * stands for any text, such as arn:aws:iam::123456789012:role/ixmage-*"
}

// TagKeyProblem describes why a key is not valid for tags of a request. It is empty if
// the key is valid.
func TagKeyProblem(key string) string { return tagProblem(strings.ToLower(key), "") }

// GrantOf is the grant for the location of a request.
func GrantOf(r *Request) alias.Grant {
	return alias.Grant{
		Bucket: r.Bucket, Prefix: r.Prefix, KMSKeyARN: r.KMSKeyARN,
		Region: r.Region, Endpoint: r.Endpoint, PathStyle: r.PathStyle,
	}
}

// Invalid is a *alias.ValidationError about one field.
func Invalid(field, detail string) error {
	return &alias.ValidationError{Problems: []alias.Problem{{Field: field, Detail: detail}}}
}

// ErrWideScope is returned for the policy read-only-access if the installation does not
// allow it. It wraps alias.ErrForbidden.
var ErrWideScope = fmt.Errorf("%w: the policy read-only-access reads every bucket of the account; "+
	"it needs --allow-wide-scope", alias.ErrForbidden)

var boundaryForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/([\w+=,.@/-]+)$`)

// IsBoundary reports whether s has the form of the ARN of a managed policy, which can be a
// permissions boundary.
func IsBoundary(s string) bool { return matchesBounded(boundaryForm, s) }

// matchesBounded reports whether s has a form whose first group is at most 512 characters long. A
// repetition of that length in the expression would cost milliseconds at each start of the program.
func matchesBounded(form *regexp.Regexp, s string) bool {
	found := form.FindStringSubmatch(s)
	return len(found) > 1 && len(found[1]) <= 512
}
