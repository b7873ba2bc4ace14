package policy

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"ixmage/alias"
)

// The commands are lines for one POSIX shell, in order. A line stores results in
// variables for later lines. No line prints a secret or writes one to a file. A line
// exits with 0 if it succeeded; an expected refusal counts as success.
const (
	keyVariable    = "IXMAGE_KEY" // id, tab, secret
	userVariable   = "IXMAGE_USER"
	policyVariable = "IXMAGE_POLICY"

	keyID     = `"${IXMAGE_KEY%%[[:space:]]*}"`
	keySecret = `"${IXMAGE_KEY##*[[:space:]]}"`
	// withKey runs one command with the new key and nothing else. The empty session
	// token overrides one in the environment of the shell.
	defineWithKey = "with_key() { AWS_ACCESS_KEY_ID=" + keyID + " AWS_SECRET_ACCESS_KEY=" + keySecret +
		` AWS_SESSION_TOKEN= "$@"; }`
	withKey = "with_key "
	refused = " 2>&1 | grep AccessDenied"

	newKey   = "aws iam create-access-key"
	keyPair  = "--query 'AccessKey.[AccessKeyId,SecretAccessKey]' --output text"
	showUser = "aws sts get-caller-identity --query Arn --output text"

	// handPath is the path of users that an operator makes by hand. In the path of an
	// installation, reconcile would take them for orphans.
	handPath = "/ixmage/"
)

// commands are the shell commands that do the same as the steps.
func (b *planner) commands() []string {
	user := option("user-name", b.plan.User.Name)
	if b.req.Credential != "" {
		return b.reuseCommands(user)
	}
	if b.req.Kind == KindRole {
		list := b.applyCommands()
		last := len(list) - 1
		list[last] = assign(roleVariable, list[last])
		return append(list, b.registerRole()...)
	}
	list := append(b.userCommands(user), b.policyCommands(user)...)
	list = append(list, assign(keyVariable, b.iam(newKey, user, keyPair)))
	return append(list, b.checks(user)...)
}

// userCommands make the user, or give an adopted one the tags and the boundary.
func (b *planner) userCommands(user string) []string {
	tags := option("tags", tagsJSON(b.handTags()))
	boundary := b.boundaryOption()
	if b.req.Adopt != "" {
		list := []string{b.iam("aws iam get-user", user), b.iam("aws iam tag-user", user, tags)}
		if boundary != "" {
			list = append(list, b.iam("aws iam put-user-permissions-boundary", user, boundary))
		}
		return list
	}
	create := []string{"aws iam create-user", user, option("path", handPath)}
	if boundary != "" {
		create = append(create, boundary)
	}
	return []string{b.iam(append(create, tags)...), b.iam("aws iam wait user-exists", user)}
}

// reuseCommands change only the policy. The key is sealed in the registry, so
// POST …/verify must run the checks.
func (b *planner) reuseCommands(user string) []string {
	if b.plan.User.Name != "" || b.plan.Policy == alias.PolicyReadOnly {
		return b.policyCommands(user)
	}
	ask := `: "${` + userVariable + ":?set it to the name of the IAM user of credential " + string(b.req.Credential) + `}"`
	return append([]string{ask}, b.policyCommands(variable("user-name", userVariable))...)
}

// handTags omit the tags that mark a user as ours, so that ixmage does not remove a user
// that an operator made by hand.
func (b *planner) handTags() map[string]string {
	tags := map[string]string{TagAlias: string(b.req.Alias)}
	maps.Copy(tags, b.req.Tags)
	return tags
}

// policyCommands give the user or role its policy. holder is the option that names it.
func (b *planner) policyCommands(holder string) []string {
	noun := string(b.req.Kind)
	attach := func(arn string) []string {
		return []string{
			b.iam("aws iam attach-"+noun+"-policy", holder, arn), b.iam("aws iam list-attached-"+noun+"-policies", holder),
		}
	}
	document := option("policy-document", string(b.plan.Document))
	switch b.plan.Policy {
	case alias.PolicyReadOnly:
		if b.req.Credential != "" {
			return nil
		}
		return attach(option("policy-arn", b.plan.PolicyName))
	case alias.PolicyManaged:
		create := assign(policyVariable, b.iam("aws iam create-policy", option("policy-name", b.plan.PolicyName),
			option("description", ManagedDescription(GrantOf(&b.req.Request))), document, "--query Policy.Arn --output text"))
		return append([]string{create}, attach(variable("policy-arn", policyVariable))...)
	default:
		name := option("policy-name", b.plan.PolicyName)
		return []string{
			b.iam("aws iam put-"+noun+"-policy", holder, name, document),
			b.iam("aws iam get-"+noun+"-policy", holder, name),
		}
	}
}

// checks are a part of the verification. Those of what must work come first, because
// every call is refused until all servers know the key.
func (b *planner) checks(user string) []string {
	list := []string{defineWithKey, withKey + b.iam(showUser)}
	if b.req.Inside != "" {
		list = append(list, b.get(b.req.Inside))
	}
	if b.plan.Policy != alias.PolicyReadOnly {
		if b.req.Outside != "" {
			list = append(list, b.get(b.req.Outside)+refused)
		}
		list = append(list, b.s3("list-objects-v2", "--max-keys 1")+refused)
	}
	// A part of an upload that does not exist is never stored. A key that may write
	// gets NoSuchUpload.
	part := b.s3("upload-part", option("key", b.req.Prefix+".ixmage-probe"), "--part-number 1 --upload-id none")
	return append(list, part+refused, withKey+b.iam("aws iam list-access-keys", user)+refused)
}

func (b *planner) get(key string) string {
	return b.s3("get-object", option("key", key), "--range bytes=0-0 /dev/null")
}

// s3 is a command that calls S3 with the new key.
func (b *planner) s3(call string, args ...string) string {
	words := []string{"aws s3api", call, option("bucket", b.req.Bucket)}
	if b.req.BucketOwner != "" {
		words = append(words, option("expected-bucket-owner", b.req.BucketOwner))
	}
	words = append(words, option("region", b.req.Region))
	if b.req.Endpoint != "" {
		words = append(words, option("endpoint-url", b.req.Endpoint))
	}
	return withKey + strings.Join(append(words, args...), " ")
}

// iam adds the endpoint and region of IAM and STS to a command. Without a region the
// AWS CLI uses those of the partition aws.
func (b *planner) iam(words ...string) string {
	if b.env.IAMEndpoint != "" {
		words = append(words, option("endpoint-url", b.env.IAMEndpoint))
	}
	if b.env.IAMEndpoint != "" || b.env.Partition != "aws" {
		words = append(words, option("region", b.req.Region))
	}
	return strings.Join(words, " ")
}

// HandRotation returns the commands that replace the key of a static credential by hand,
// in the form that commands has. If user is empty, the commands ask IAM for the owner of
// the key. The last command deletes the old key; the operator should check before that
// pictures are served with the new one.
func HandRotation(c *alias.Credential, user string) []string {
	old := option("access-key-id", c.AccessKeyID())
	whose := "$(aws iam get-access-key-last-used " + old + " --query UserName --output text)"
	if user != "" {
		whose = quote(user)
	}
	name := variable("user-name", userVariable)
	return []string{
		userVariable + "=" + whose,
		assign(keyVariable, newKey+" "+name+" "+keyPair),
		defineWithKey,
		withKey + showUser,
		"sleep 15",
		`printf '{"access_key_id":"%s","secret_access_key":"%s"}' ` + keyID + " " + keySecret +
			" | " + callAdmin("PUT", "credentials/"+string(c.Name)),
		"unset " + keyVariable,
		"aws iam update-access-key " + name + " " + old + " --status Inactive",
		"aws iam delete-access-key " + name + " " + old,
	}
}

// assign stores the output of a command in a variable.
func assign(name, command string) string { return name + "=$(" + command + ")" }

// variable is an option whose value is in a variable.
func variable(name, value string) string { return "--" + name + `="$` + value + `"` }

// option is an option with its quoted value. A value that begins with a hyphen needs an
// equals sign, or the command would take it for another option.
func option(name, value string) string {
	if strings.HasPrefix(value, "-") {
		return "--" + name + "=" + quote(value)
	}
	return "--" + name + " " + quote(value)
}

// plainWord matches words that need no quotes in any shell.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@+,-]+$`)

func quote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// tagsJSON encodes tags as JSON, because the short form has no quoting.
func tagsJSON(tags map[string]string) string {
	type tag struct{ Key, Value string }
	list := make([]tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, tag{key, tags[key]})
	}
	text, _ := encode(list) // strings cannot fail
	return string(text)
}
