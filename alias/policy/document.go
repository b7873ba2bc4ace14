// Package policy is the part of provisioning without I/O: the documents that allow an
// IAM user to read a location, the names of users and policies, the validation of a
// provision request, and the plan with its commands. Everything except NewSuffix is
// deterministic.
package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"ixmage/alias"
)

const (
	policyVersion = "2012-10-17"
	// policySid is the statement's id in the walkthrough for the AWS console.
	policySid = "specBucketPolicy0"
	// keySid is followed by a number from 0.
	keySid = "specBucketKey"

	// IAM's quotas in characters: for all inline policies of a user together, and
	// for one managed policy. IAM does not count whitespace; our documents have none.
	maxInline  = 2048
	maxManaged = 6144
	// maxAttached is IAM's quota for managed policies on a user, unless AWS has raised it.
	maxAttached = 10
)

// policyDocument is a policy. Its fields are in the order of the walkthrough. Their names
// are IAM's.
type policyDocument struct {
	Version   string
	Statement []statement
}

//nolint:tagliatelle // the names are IAM's
type statement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Principal map[string]any               `json:",omitempty"`
	Action    any                          // a string, or a list of several
	Resource  any                          `json:",omitempty"` // likewise
	Condition map[string]map[string]string `json:",omitempty"`
}

// Inline is the inline policy of a user that may read grants and nothing else. It omits
// grants that another one covers, so that the same access always gives the same
// document. It returns a *alias.ValidationError if a grant is not valid, or if the
// document exceeds IAM's quota.
func Inline(partition string, grants []alias.Grant) ([]byte, error) {
	doc, err := Document(partition, grants)
	if err != nil {
		return nil, err
	}
	if len(doc) > maxInline-maxRevoke {
		return nil, policyProblem("the inline policy for %d locations has %d characters, and at most %d of IAM's 2,048 are "+
			"for it, because an emergency needs the rest: give this alias a credential of its own",
			len(grants), len(doc), maxInline-maxRevoke)
	}
	return doc, nil
}

// Managed is the customer managed policy of one location. Its errors are those of
// Inline.
func Managed(partition string, g alias.Grant) ([]byte, error) {
	doc, err := Document(partition, []alias.Grant{g})
	if err != nil {
		return nil, err
	}
	if len(doc) > maxManaged {
		return nil, policyProblem("the managed policy has %d characters, and IAM's quota is 6,144", len(doc))
	}
	return doc, nil
}

// CheckAttached returns a *alias.ValidationError if a user would need more managed policies
// than IAM attaches to one: one for each name that its locations have.
func CheckAttached(mode alias.PolicyMode, grants []alias.Grant) error {
	if mode != alias.PolicyManaged {
		return nil
	}
	names := map[string]bool{}
	for _, g := range grants {
		names[ManagedName(g.Bucket, g.Prefix)] = true
	}
	if len(names) <= maxAttached {
		return nil
	}
	return policyProblem("a user with the policy managed has a policy for each location, and IAM attaches %d to a user: "+
		"this would be number %d; give this alias a credential of its own", maxAttached, len(names))
}

// Document is Inline whatever its length. Versions before Revoke used the whole quota.
func Document(partition string, grants []alias.Grant) ([]byte, error) {
	doc, err := makeDocument(partition, grants)
	if err != nil {
		return nil, err
	}
	return encodeEscaped(doc)
}

func makeDocument(partition string, grants []alias.Grant) (policyDocument, error) {
	if !IsPartition(partition) {
		return policyDocument{}, policyProblem("%q is not an AWS partition", partition)
	}
	if len(grants) == 0 {
		return policyDocument{}, policyProblem("there is no location to allow")
	}
	for _, g := range grants {
		if err := checkGrant(partition, g); err != nil {
			return policyDocument{}, err
		}
	}
	objects := statement{
		Sid: policySid, Effect: "Allow", Action: "s3:GetObject", Resource: oneOrMany(objectARNs(partition, grants)),
	}
	return policyDocument{policyVersion, append([]statement{objects}, keyStatements(grants)...)}, nil
}

// encodeEscaped encodes a document in ASCII.
func encodeEscaped(doc policyDocument) ([]byte, error) {
	text, err := encode(doc)
	return escaped(text), err
}

// escaped replaces the characters of a JSON text that are not ASCII with \u escapes,
// because IAM refuses a document with others
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutUserPolicy.html).
func escaped(doc []byte) []byte {
	out := make([]byte, 0, len(doc))
	for _, r := range string(doc) {
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}

// encode omits HTML escaping, which would count against the quota and is hard to read in
// a plan.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

func policyProblem(format string, args ...any) error {
	return Invalid("policy", fmt.Sprintf(format, args...))
}

// checkGrant validates a grant as a location again: a wildcard, or a prefix without its
// slash, would allow more than the request.
func checkGrant(partition string, g alias.Grant) error {
	a := alias.New()
	a.Name, a.State = "grant", alias.StateActive
	a.Location = alias.Location{Bucket: g.Bucket, Prefix: g.Prefix, Region: cmp.Or(g.Region, "us-east-1")}
	if err := a.Validate(alias.Policy{}); err != nil {
		return err
	}
	at := alias.Location{Endpoint: g.Endpoint}
	if needed := lookUpRegion(g.Region).partition; g.Region != "" && at.AtAWS() && needed != partition {
		return Invalid("region", fmt.Sprintf("must be in the partition of the account, which is %s; %s is in %s",
			partition, g.Region, needed))
	}
	if g.KMSKeyARN == "" {
		return nil
	}
	key, ok := parseKey(g.KMSKeyARN)
	switch {
	case !ok:
		return Invalid("kms_key_arn", keyForm)
	case key.partition != partition:
		return Invalid("kms_key_arn", "must be in the partition of the account, which is "+partition+
			", and not in "+key.partition)
	}
	return nil
}

var partitionForm = regexp.MustCompile(`^aws(-[a-z]+)*$`)

// IsPartition reports whether s has the form of the name of a partition, like aws or aws-cn
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html).
func IsPartition(s string) bool { return partitionForm.MatchString(s) }

// objectARNs are the resources that cover all grants, sorted. None of them contains
// another.
func objectARNs(partition string, grants []alias.Grant) []string {
	var list []string
	for _, g := range grants {
		if !slices.ContainsFunc(grants, func(wider alias.Grant) bool { return covers(wider, g) }) {
			list = append(list, "arn:"+partition+":s3:::"+g.Bucket+"/"+g.Prefix+"*")
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// covers reports whether wider allows all that g does, and more.
func covers(wider, g alias.Grant) bool {
	return wider.Bucket == g.Bucket && wider.Prefix != g.Prefix && strings.HasPrefix(g.Prefix, wider.Prefix)
}

// keyStatements allow S3 in the region of the bucket to decrypt with the KMS keys of the
// grants. There is one statement for each region.
func keyStatements(grants []alias.Grant) []statement {
	keys := map[string][]string{}
	for _, g := range grants {
		if key, ok := parseKey(g.KMSKeyARN); ok {
			region := cmp.Or(g.Region, key.region)
			keys[region] = append(keys[region], g.KMSKeyARN)
		}
	}
	list := make([]statement, 0, len(keys))
	for i, region := range slices.Sorted(maps.Keys(keys)) {
		arns := keys[region]
		slices.Sort(arns)
		list = append(list, statement{
			Sid: fmt.Sprint(keySid, i), Effect: "Allow", Action: "kms:Decrypt", Resource: oneOrMany(slices.Compact(arns)),
			Condition: map[string]map[string]string{"StringEquals": {"kms:ViaService": s3Service(region)}},
		})
	}
	return list
}

// s3Service is the name of S3 in a region for kms:ViaService.
func s3Service(region string) string {
	return "s3." + region + "." + lookUpRegion(region).suffix
}

// oneOrMany returns a list of one as its element, as the walkthrough has it.
func oneOrMany(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

// kmsKey holds parts of the ARN of a KMS key.
type kmsKey struct{ partition, region string }

const keyForm = "must be the ARN of a key: arn:aws:kms:REGION:ACCOUNT:key/ID, not of an alias"

var keyARN = regexp.MustCompile(`^arn:(aws(?:-[a-z]+)*):kms:([a-z0-9-]{1,63}):[0-9]{12}:key/[A-Za-z0-9-]{1,128}$`)

func parseKey(arn string) (kmsKey, bool) {
	m := keyARN.FindStringSubmatch(arn)
	if m == nil {
		return kmsKey{}, false
	}
	return kmsKey{m[1], m[2]}, true
}

// DecodeDocument decodes a policy document from IAM. It is percent-encoded after RFC 3986, as the
// API reference says, so a plus in a prefix stays a plus. Some servers do not encode it; their
// documents begin with the brace that the encoding replaces.
func DecodeDocument(text string) (string, error) {
	if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return text, nil
	}
	return url.PathUnescape(text)
}
