package scope

import (
	"regexp"
	"slices"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// readOnlyNeeds are the actions of AmazonS3ReadOnlyAccess
// (https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonS3ReadOnlyAccess.html).
var readOnlyNeeds = []string{"s3:get*", "s3:list*", "s3:describe*", "s3-object-lambda:get*", "s3-object-lambda:list*"}

// needsOf is what the key of a target needs: to read the objects of its grants, and to decrypt them.
func needsOf(t *Target) []need {
	var needs []need
	for _, g := range t.Grants {
		needs = append(needs, need{action: "s3:getobject", resource: "arn:aws*:s3:::" + g.Bucket + "/" + g.Prefix + "*"})
		needs = append(needs, decryptNeeds(t, g)...)
	}
	if t.Mode == "" {
		// Which KMS key encrypts the objects of a bucket is not known of an alias.
		needs = append(needs, need{accept: decryptsThroughS3})
	}
	if t.readsAll() {
		for _, action := range readOnlyNeeds {
			needs = append(needs, need{action: action, resource: "*"})
		}
	}
	return needs
}

// decryptNeeds are what the document that this server writes for a grant allows with its KMS key.
func decryptNeeds(t *Target, g alias.Grant) []need {
	if g.KMSKeyARN == "" {
		return nil
	}
	partition, _ := policy.ARNParts(t.User.ARN)
	text, err := policy.Managed(partition, g)
	if err != nil {
		return nil
	}
	doc, err := decodeDocument(text)
	if err != nil {
		return nil
	}
	var needs []need
	for _, st := range doc.statements {
		if slices.Equal(st.actions, []string{"kms:decrypt"}) {
			needs = append(needs, need{action: st.actions[0], resource: st.resources[0], conditions: st.conditions})
		}
	}
	return needs
}

var (
	keyForm     = regexp.MustCompile(`^arn:aws[a-z-]*\*?:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
	throughForm = regexp.MustCompile(`^s3\.[a-z0-9*-]+\.[a-z0-9.]+$`)
)

// decryptsThroughS3 accepts the right to decrypt with one KMS key, but only for S3, which decrypts
// what it reads for the key, and nothing else
// (https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html).
func decryptsThroughS3(r Right) bool {
	return slices.Contains(r.actions, "kms:decrypt") && slices.ContainsFunc(r.resources, keyForm.MatchString) &&
		slices.ContainsFunc(r.conditions, func(c condition) bool {
			return (c.operator == "StringEquals" || c.operator == "StringLike") && c.key == "kms:viaservice" &&
				!slices.ContainsFunc(c.values, func(v string) bool { return !throughForm.MatchString(v) })
		})
}

// readsAll reports whether the key is meant to read every bucket.
func (t *Target) readsAll() bool {
	return t.Mode == alias.PolicyReadOnly || t.Expect == alias.PolicyReadOnly
}
