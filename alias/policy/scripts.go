package policy

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"ixmage/alias"
)

const (
	boundaryVariable = "IXMAGE_BOUNDARY"
	principalOf      = "IXMAGE_PRINCIPAL"
	roleVariable     = "IXMAGE_ROLE"
)

// files are the plan in the format of the request. The last one is the step that no other
// program can do: it registers the alias in ixmage.
func (b *planner) files() ([]File, error) {
	var files []File
	var err error
	switch b.req.Format {
	case "":
		return nil, nil
	case FormatTerraform:
		files, err = b.terraform()
	case FormatCloudFormation:
		files, err = b.cloudFormation()
	default:
		files = b.scripts()
	}
	if err != nil {
		return nil, err
	}
	if b.plan.Role != nil {
		files = append(files, File{"session-policy.json", b.plan.Role.Session + "\n"})
	}
	return append(files, b.registerScript()), nil
}

// scripts are the aws commands.
func (b *planner) scripts() []File {
	files := []File{script("apply.sh", b.about(), b.applyCommands()...)}
	if b.foreignBucket() {
		files = append(files, b.bucketScript())
	}
	if b.foreignKey() {
		files = append(files, b.keyScript())
	}
	return files
}

// script is a file for a POSIX shell that stops at the first command that fails.
func script(name, about string, lines ...string) File {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for line := range strings.Lines(about) {
		b.WriteString("# " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return File{name, b.String() + "set -eu\n" + strings.Join(lines, "\n") + "\n"}
}

// about says what the files make, in text that is safe in a comment of every format.
func (b *planner) about() string {
	if b.req.Credential != "" {
		return "For the alias " + string(b.req.Alias) + " of ixmage: lets the IAM user of the credential " +
			string(b.req.Credential) + " read its location too."
	}
	text := "For the alias " + string(b.req.Alias) + " of ixmage: the IAM " + string(b.req.Kind) + " " + b.name() +
		", which may read its location in the bucket " + b.req.Bucket + " and nothing else."
	if b.plan.Policy == alias.PolicyReadOnly {
		text = strings.Replace(text, "its location in the bucket "+b.req.Bucket, "every bucket of the account", 1)
	}
	return text
}

// secretNote says where the secret of the key is, and is not.
func (b *planner) secretNote() string {
	switch {
	case b.req.Kind == KindRole:
		return "There is no secret: ixmage assumes the role. The next step is register.sh."
	case b.req.Format == FormatTerraform:
		return "The access key is not here, because aws_iam_access_key writes its secret into the state: " +
			"register.sh makes it."
	}
	return "The access key is not here, because the outputs of a stack would show its secret: register.sh makes it. " +
		"Delete it before the stack."
}

// unlessSame names the case in which a file for another account is not needed, if the
// account of the user or role is unknown.
func (b *planner) unlessSame(account string) string {
	if b.account() != "" {
		return ""
	}
	return " It is not needed if that is in the account " + account + " too."
}

// applyCommands make the user or role without a key. Each is a line.
func (b *planner) applyCommands() []string {
	holder := option(string(b.req.Kind)+"-name", b.name())
	if b.req.Credential != "" {
		return b.reuseCommands(holder)
	}
	var lines []string
	if b.req.Kind == KindRole && b.req.Role.Principal == "" { // before anything is made
		lines = append(lines, ask(principalOf,
			"the ARN of the user or role of the ixmage server, which may assume the role"))
	}
	if b.ownBoundary() {
		doc, _ := encode(b.boundaryDocument()) // strings cannot fail
		lines = append(lines, assign(boundaryVariable, b.iam("aws iam create-policy", option("policy-name", b.boundaryName()),
			option("path", handPath), option("policy-document", string(doc)), "--query Policy.Arn --output text")))
	}
	if b.req.Kind == KindRole {
		lines = append(lines, b.roleCommands(holder)...)
	} else {
		lines = append(lines, b.userCommands(holder)...)
	}
	lines = append(lines, b.policyCommands(holder)...)
	show := map[Kind]string{KindUser: "User", KindRole: "Role"}[b.req.Kind]
	return append(lines, b.iam("aws iam get-"+string(b.req.Kind), holder, "--query "+show+".Arn --output text"))
}

// boundaryOption sets the boundary; empty for none.
func (b *planner) boundaryOption() string {
	switch {
	case b.env.Boundary != "":
		return option("permissions-boundary", b.env.Boundary)
	case b.ownBoundary():
		return variable("permissions-boundary", boundaryVariable)
	}
	return ""
}

// roleCommands make the role.
func (b *planner) roleCommands(holder string) []string {
	principal := cmp.Or(b.req.Role.Principal, "\x00")
	doc, _ := encode(trustDocument(b.req.Role.Trust, principal)) // strings cannot fail
	trust := strings.Replace(option("assume-role-policy-document", string(doc)), `\u0000`, `'"$`+principalOf+`"'`, 1)
	words := []string{"aws iam create-role", holder, option("path", handPath), trust,
		fmt.Sprintf("--max-session-duration %d", b.req.Role.MaxSession/time.Second)}
	if boundary := b.boundaryOption(); boundary != "" {
		words = append(words, boundary)
	}
	return []string{
		b.iam(append(words, option("tags", tagsJSON(b.handTags())))...), b.iam("aws iam wait role-exists", holder),
	}
}

// ask stops the shell unless a variable is set.
func ask(name, what string) string { return `: "${` + name + ":?set it to " + what + `}"` }

// registerScript registers the alias, and makes the key of a user, whose secret goes to
// ixmage through a pipe and nowhere else.
func (b *planner) registerScript() File {
	verify := strings.Join(append([]string{"ixmage verify " + string(b.req.Alias)},
		options([]setting{{"inside", b.req.Inside}, {"outside", b.req.Outside}})...), " ")
	if b.plan.Role != nil {
		return script("register.sh", "Registers the alias with the role "+b.name()+
			" in ixmage. IXMAGE_ADMIN_URL names the admin API.", append(b.registerRole(), verify)...)
	}
	add := b.addAlias()
	if b.req.Credential != "" {
		return script("register.sh", "Registers the alias with the credential "+string(b.req.Credential)+
			" in ixmage, and checks what its key can do.", add+" --credential "+string(b.req.Credential), verify)
	}
	makeKey := b.iam(newKey, option("user-name", b.name()), "--output json")
	return script("register.sh", "Makes the access key of the IAM user "+b.name()+
		", registers it with the alias in ixmage,\nand checks what it can do. "+
		"The secret goes through a pipe to ixmage, which seals it.",
		add+" --anonymous --dry-run >"+null+" # before there is a key",
		makeKey+" | "+add+" --key-file -",
		"sleep 15 # a new key takes some seconds to work", verify)
}

const null = "/dev/null"

// addAlias is the command that registers the alias, without its credential.
func (b *planner) addAlias() string {
	words := append([]string{"ixmage alias add " + string(b.req.Alias)}, options([]setting{
		{"bucket", b.req.Bucket}, {"bucket-owner", b.req.BucketOwner}, {"prefix", b.req.Prefix},
		{"region", b.req.Region}, {"endpoint", b.req.Endpoint}, {"canary", NewAlias(&b.req.Request).Canary},
	})...)
	if b.req.PathStyle {
		words = append(words, "--path-style")
	}
	return strings.Join(words, " ")
}

// setting is a field of a request, as an option or a member.
type setting struct{ name, value string }

// options are those of the settings that are not empty.
func options(settings []setting) []string {
	var words []string
	for _, s := range settings {
		if s.value != "" {
			words = append(words, option(s.name, s.value))
		}
	}
	return words
}

// registerRole registers the alias with the role.
func (b *planner) registerRole() []string {
	var lines []string
	role := option("role-arn", b.arn())
	if b.arn() == "" {
		lines = append(lines, ask(roleVariable, "the ARN of the role "+b.name()))
		role = variable("role-arn", roleVariable)
	}
	words := append([]string{b.addAlias(), role}, options([]setting{
		{"external-id", b.req.Role.ExternalID}, {"kms-key-arn", b.req.KMSKeyARN},
	})...)
	return append(lines, strings.Join(words, " "))
}

// callAdmin is a call of the admin API with the body from standard input.
func callAdmin(method, path string) string {
	return `curl -fsS -X ` + method + ` "${IXMAGE_URL:-${IXMAGE_ADMIN_URL:-http://127.0.0.1:8081}}/api/v1/` + path + `"` +
		` -H "Authorization: Bearer $(cat "${IXMAGE_ADMIN_TOKEN_FILE:-ixmage-data/admin-token}")"` +
		" -H 'Content-Type: application/json' --data @-"
}

// defineMerge adds a statement to a policy. It gives up on a policy whose statements are no
// list, and the service refuses the result if that is no policy.
const defineMerge = `merge() { # policy, statement: sets merged
  rest=${1#*\"Statement\"*\[}
  head=${1%"$rest"}
  case $(printf %s "$head" | tr -d '[:space:]') in
  *'"Statement":[') ;;
  *) echo "add this statement by hand: $2" >&2; exit 1 ;;
  esac
  case $(printf %s "$rest" | tr -d '[:space:]') in
  ']'*) merged=$head$2$rest ;;
  *) merged=$head$2,$rest ;;
  esac
}`

// bucketScript adds the statement to the bucket policy of another account.
func (b *planner) bucketScript() File {
	call := func(name string, words ...string) string {
		words = append([]string{"aws s3api " + name, option("bucket", b.req.Bucket),
			option("expected-bucket-owner", b.req.BucketOwner), option("region", b.req.Region)}, words...)
		if b.req.Endpoint != "" {
			words = append(words, option("endpoint-url", b.req.Endpoint))
		}
		return strings.Join(words, " ")
	}
	get := call("get-bucket-policy", "--query Policy --output text")
	lines := []string{
		"policy=$(" + get + " 2>" + null + ") || case $(" + get + " 2>&1) in",
		`*NoSuchBucketPolicy*) policy='{"Version":"` + policyVersion + `","Statement":[]}' ;;`,
		"*) " + get + "; exit 1 ;;",
		"esac",
	}
	lines = append(append(lines, b.merging(b.bucketStatement)...), call("put-bucket-policy", variable("policy", "merged")))
	return b.mergeScript("bucket", b.req.BucketOwner, lines)
}

// keyScript adds the statement to the policy of a KMS key of another account.
func (b *planner) keyScript() File {
	call := func(name string, words ...string) string {
		key := strings.Split(b.req.KMSKeyARN, ":")
		return strings.Join(append([]string{"aws kms " + name, option("key-id", b.req.KMSKeyARN), "--policy-name default",
			option("region", key[3])}, words...), " ")
	}
	lines := []string{assign("policy", call("get-key-policy", "--query Policy --output text"))}
	lines = append(append(lines, b.merging(b.keyStatement)...), call("put-key-policy", variable("policy", "merged")))
	return b.mergeScript("key", keyAccount(b.req.KMSKeyARN), lines)
}

// merging sets merged, or ends the script if the policy has the statement.
func (b *planner) merging(statement func(principal any) statement) []string {
	var lines []string
	principal, arn := b.arn(), ""
	if principal == "" {
		principal, arn = "\x00", `'"$`+principalOf+`"'`
		lines = append(lines, ask(principalOf, "the ARN of the "+string(b.req.Kind)+" "+b.name()))
	}
	text, _ := encode(statement(principal)) // strings cannot fail
	return append(lines,
		"case $policy in *"+b.sid()+"*) echo 'it has the statement already'; exit 0 ;; esac",
		defineMerge,
		`merge "$policy" `+strings.Replace(quote(string(text)), `\u0000`, arn, 1))
}

func (b *planner) mergeScript(what, account string, lines []string) File {
	return script(what+"-account.sh", "Run this with credentials of the account "+account+", after the "+
		string(b.req.Kind)+" "+b.name()+" exists."+b.unlessSame(account)+
		"\nIt adds one statement to the policy of the "+what+", and keeps the others.", lines...)
}
