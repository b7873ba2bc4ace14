package scope

import "slices"

// BeyondBoundary is what a permissions boundary allows beyond docs/boundary-policy.json for the
// buckets of some patterns: reading and listing them, and decrypting through S3.
func BeyondBoundary(text PolicyText, buckets []string) Rights {
	needs := make([]need, 1, 1+2*len(buckets))
	needs[0] = need{accept: boundsDecryption}
	for _, b := range buckets {
		needs = append(needs,
			need{action: "s3:getobject", resource: "arn:aws*:s3:::" + b + "/*"},
			need{action: "s3:listbucket", resource: "arn:aws*:s3:::" + b})
	}
	p := Policies{Texts: []PolicyText{text}}
	return p.beyond(needs)
}

// boundsDecryption accepts the right to decrypt with any key, but only for S3.
func boundsDecryption(r Right) bool {
	return slices.Equal(r.actions, []string{"kms:decrypt"}) && slices.ContainsFunc(r.conditions, func(c condition) bool {
		return (c.operator == "StringEquals" || c.operator == "StringLike") && c.key == "kms:viaservice" &&
			!slices.ContainsFunc(c.values, func(v string) bool { return v != "s3.*" && !throughForm.MatchString(v) })
	})
}

// AllowsSessions reports whether a policy allows to read objects with the temporary keys that
// somebody made from a key, which outlive that key.
func AllowsSessions(text []byte) bool {
	doc, err := decodeDocument(text)
	if err != nil {
		return false
	}
	noSession := condition{operator: "Null", key: "aws:tokenissuetime", values: []string{"true"}}
	return slices.ContainsFunc(doc.statements, func(st statement) bool {
		return st.allow && slices.ContainsFunc(st.actions, func(a string) bool { return overlap(a, "s3:getobject") }) &&
			!slices.ContainsFunc(st.conditions, noSession.equals)
	})
}
