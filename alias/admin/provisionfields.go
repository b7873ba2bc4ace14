package admin

import (
	"encoding/json"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// provisionFields is the body of a provision request.
func provisionFields(in *policy.Request) []field {
	return []field{
		{name: "alias", read: into(&in.Alias, asName)},
		{name: "bucket", read: into(&in.Bucket, asString)},
		{name: "bucket_owner", read: into(&in.BucketOwner, asString)},
		{name: "prefix", read: into(&in.Prefix, asString)},
		{name: "region", read: into(&in.Region, asString)},
		{name: "endpoint", read: into(&in.Endpoint, asString)},
		{name: "path_style", read: into(&in.PathStyle, asBool)},
		{name: "policy", read: into(&in.Policy, asPolicy)},
		{name: "credential", read: into(&in.Credential, asName)},
		{name: "user_name", read: into(&in.UserName, asString)},
		{name: "tags", read: tagsInto(&in.Tags)},
		{name: "kms_key_arn", read: into(&in.KMSKeyARN, asString)},
		{name: "probe", read: members([]field{
			{name: "inside", read: into(&in.Inside, asString)},
			{name: "outside", read: into(&in.Outside, asString)},
		})},
		{name: "rotate_every", read: into(&in.RotateEvery, asDuration)},
	}
}

func asPolicy(raw json.RawMessage) (alias.PolicyMode, string) {
	text, wrong := as[string](raw, "a string")
	return alias.PolicyMode(text), wrong
}

// members makes a reader of an object that has the given fields.
func members(fields []field) reader {
	return func(path string, raw json.RawMessage) []alias.Problem {
		if is := typeOf(raw); is != "an object" {
			return one(path, "must be an object, not "+is)
		}
		return decodeObject(path, raw, fields)
	}
}

// tagsInto makes a reader of an object of strings, whatever their names.
func tagsInto(dst *map[string]string) reader {
	return func(path string, raw json.RawMessage) []alias.Problem {
		if is := typeOf(raw); is != "an object" {
			return one(path, `must be an object of strings, like {"team":"web"}, not `+is)
		}
		tags := map[string]string{}
		problems := eachMember(path, raw, func(name, at string, value json.RawMessage) []alias.Problem {
			text, wrong := asString(value)
			if wrong != "" {
				return one(at, wrong)
			}
			tags[name] = text
			return nil
		})
		*dst = tags
		return problems
	}
}
