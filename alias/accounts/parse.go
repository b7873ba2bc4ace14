package accounts

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/yamlfile"
)

// Parse reads the text of a file. With problems, the list is not complete.
func Parse(file string, data []byte) (*List, []yamlfile.Problem) {
	p := &parser{Reader: yamlfile.Reader{File: file}, list: &List{file: file}}
	docs := p.Documents(data)
	switch {
	case len(p.Problems) > 0:
	case len(docs) == 0:
		p.Problemf(&yaml.Node{}, "", "the file is empty: it needs a list below accounts:, or accounts: [] for none")
	case len(docs) > 1:
		p.Problemf(docs[1], "", "the file must be one document")
	case p.plain(docs[0]):
		p.document(docs[0])
	}
	yamlfile.Sort(p.Problems, []string{file})
	return p.list, p.Problems
}

type parser struct {
	yamlfile.Reader

	list *List
}

// plain reports whether a node has no references to anchors, with problems. A file that decides
// about accounts states each value where it applies.
func (p *parser) plain(n *yaml.Node) bool {
	plain := true
	if n.Kind == yaml.AliasNode {
		p.Problemf(n, "", "a reference to an anchor (*) is not supported: write the value out")
		return false
	}
	for i, below := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && below.Tag == "!!merge" {
			p.Problemf(below, "", "a merge key (<<) is not supported: write the fields out")
			plain = false
			continue
		}
		plain = p.plain(below) && plain
	}
	return plain
}

func (p *parser) document(root *yaml.Node) {
	members, ok := p.Members(root, "the file must be a mapping with a list below accounts:")
	if !ok {
		return
	}
	found := false
	for _, m := range members {
		if m.Key.Value != "accounts" {
			p.Problemf(m.Key, yamlfile.Cut(m.Key.Value), "unknown field: the file has accounts: only")
			continue
		}
		found = true
		p.Entries(m.Value, "accounts", p.account)
	}
	if !found {
		p.Problemf(root, "accounts", "is required: a list of accounts, or [] for none")
	}
}

// fields are those of an account, in the order of the documentation.
var fields = []string{
	"id", "name", "role", "external_id", "boundary", "no_boundary", "buckets", "adopt_users", "partition", "region",
}

// account reads one entry.
func (p *parser) account(n *yaml.Node) {
	before, a := len(p.Problems), &Account{}
	members, ok := p.Members(n, "an account must be a mapping of its fields")
	if !ok {
		return
	}
	at := map[string]*yaml.Node{}
	for _, m := range members {
		name := m.Key.Value
		if !slices.Contains(fields, name) {
			p.Problemf(m.Key, yamlfile.Cut(name), "unknown field: an account has %s", strings.Join(fields, ", "))
			continue
		}
		at[name] = m.Value
		p.field(a, name, m.Value)
	}
	for _, name := range []string{"id", "role"} {
		if at[name] == nil {
			p.Problemf(n, name, "is required")
		}
	}
	p.compare(a, at)
	if a.ID != "" {
		p.About(before, "account "+a.String())
	}
	p.list.accounts = append(p.list.accounts, a)
}

// field reads a field by itself. It stays empty if it has a problem.
func (p *parser) field(a *Account, name string, n *yaml.Node) {
	switch name {
	case "id":
		a.ID = p.id(n)
	case "name":
		a.Name = p.matching(n, name, nameProblem)
	case "role":
		a.Role = p.matching(n, name, form(alias.IsRoleARN, alias.RoleARNProblem))
	case "external_id":
		a.ExternalID = p.matching(n, name, form(alias.IsExternalID, alias.ExternalIDProblem))
	case "boundary":
		a.Boundary = p.matching(n, name,
			form(policy.IsBoundary, "must be the ARN of a policy, like arn:aws:iam::123456789012:policy/name"))
	case "no_boundary":
		a.NoBoundary = p.flag(n, name)
	case "buckets":
		a.Buckets = p.patterns(n, name, policy.PatternProblem)
	case "adopt_users":
		a.AdoptUsers = p.patterns(n, name, policy.UserPatternProblem)
	case "partition":
		a.Partition = p.matching(n, name, form(policy.IsPartition, "must be the name of a partition, like aws or aws-cn"))
	case "region":
		a.Region = p.matching(n, name, form(alias.IsName[string], "must be a region, like eu-west-1"))
	}
}

var idForm = regexp.MustCompile(`^[0-9]{12}$`)

// form returns a function that reports a text without the form as a problem.
func form(ok func(string) bool, must string) func(string) string {
	return func(text string) string {
		if ok(text) {
			return ""
		}
		return must
	}
}

func nameProblem(text string) string {
	if _, err := alias.ParseName(text); err != nil {
		return "must be 1 to 63 of a-z, 0-9 and hyphen, and begin and end with a letter or digit"
	}
	if idForm.MatchString(text) {
		return "must not have the form of an account id"
	}
	return ""
}

// id reads the id of an account. Without quotes YAML takes it for a number, and its digits are
// those of the file all the same.
func (p *parser) id(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && idForm.MatchString(n.Value) {
		return n.Value
	}
	p.Problemf(n, "id", "must be the twelve digits of an AWS account")
	return ""
}

// matching reads a text that has no problem.
func (p *parser) matching(n *yaml.Node, name string, problem func(string) string) string {
	text, ok := p.Text(n, name)
	if !ok {
		return ""
	}
	if detail := problem(text); detail != "" {
		p.Problemf(n, name, "%s", detail)
		return ""
	}
	return text
}

func (p *parser) flag(n *yaml.Node, name string) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		p.Problemf(n, name, "must be true or false, not %s", yamlfile.KindOf(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

func (p *parser) patterns(n *yaml.Node, name string, problem func(string) string) []string {
	var list []string
	p.Entries(n, name, func(n *yaml.Node) {
		if pattern := p.matching(n, name, problem); pattern != "" {
			list = append(list, pattern)
		}
	})
	return list
}

// compare checks fields against each other, and the account against those before it.
func (p *parser) compare(a *Account, at map[string]*yaml.Node) {
	p.compareOthers(a, at)
	if a.NoBoundary && at["boundary"] != nil {
		p.Problemf(at["no_boundary"], "no_boundary", "contradicts boundary: use one of them")
	}
	if a.Role != "" {
		p.compareRole(a, at)
		p.compareBoundary(a, at["boundary"])
	}
}

func (p *parser) compareOthers(a *Account, at map[string]*yaml.Node) {
	for _, other := range p.list.accounts {
		if a.ID != "" && a.ID == other.ID {
			p.Problemf(at["id"], "id", "appears more than once: %s is in the list already", a.ID)
		}
		if a.Name != "" && a.Name == other.Name {
			text := "appears more than once: it is that of another account"
			if other.ID != "" {
				text = "appears more than once: it is that of the account " + other.ID
			}
			p.Problemf(at["name"], "name", "%s", text)
		}
	}
}

// compareRole sets the partition to that of the role.
func (p *parser) compareRole(a *Account, at map[string]*yaml.Node) {
	partition, account := policy.ARNParts(a.Role)
	if a.ID != "" && account != a.ID {
		p.Problemf(at["role"], "role", "must be a role of the account %s, not of %s", a.ID, account)
	}
	if a.Partition != "" && a.Partition != partition {
		p.Problemf(at["partition"], "partition", "must be %s, the partition of role", partition)
	}
	a.Partition = partition
	if a.Region != "" && policy.PartitionOf(a.Region) != partition {
		p.Problemf(at["region"], "region", "must be in %s, the partition of role; %s is in %s",
			partition, a.Region, policy.PartitionOf(a.Region))
	}
}

func (p *parser) compareBoundary(a *Account, n *yaml.Node) {
	if a.Boundary == "" {
		return
	}
	partition, account := policy.ARNParts(a.Boundary)
	switch {
	case partition != a.Partition:
		p.Problemf(n, "boundary", "must be in %s, the partition of role", a.Partition)
	case account != "aws" && a.ID != "" && account != a.ID:
		p.Problemf(n, "boundary", "must be a policy of the account %s, not of %s", a.ID, account)
	}
}
