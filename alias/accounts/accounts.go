// Package accounts reads the file of --accounts: the AWS accounts in which the server may make
// IAM users, beside the one of its own credentials.
package accounts

import (
	"fmt"
	"io"
	"os"
	"strings"

	"ixmage/internal/yamlfile"
)

// Account is an AWS account of the file.
type Account struct {
	ID   string // twelve digits
	Name string // by which requests may name it, like the name of an alias; may be empty
	// Role is the ARN of the role whose IAM power the server assumes, and ExternalID the one
	// that its trust policy asks for; empty for none.
	Role       string
	ExternalID string
	// Boundary is the ARN of the permissions boundary of every user of the account. NoBoundary
	// allows users without one.
	Boundary   string
	NoBoundary bool
	// Buckets and AdoptUsers are patterns, as in --provision-buckets and --adopt-users.
	Buckets    []string
	AdoptUsers []string
	Partition  string // that of Role
	Region     string // that IAM and STS are called in; empty: that of the server
}

// String names an account in messages.
func (a *Account) String() string {
	if a.Name == "" {
		return a.ID
	}
	return a.Name + " (" + a.ID + ")"
}

// List is the accounts of one file, in its order. A nil list is that of a server without
// --accounts. Its content does not change.
type List struct {
	file     string
	accounts []*Account
}

// All returns every account. They must not be changed.
func (l *List) All() []*Account {
	if l == nil {
		return nil
	}
	return l.accounts
}

// Find returns the account with a name or an id, or nil.
func (l *List) Find(nameOrID string) *Account {
	for _, a := range l.All() {
		if nameOrID != "" && (a.ID == nameOrID || a.Name == nameOrID) {
			return a
		}
	}
	return nil
}

// File names the file in messages.
func (l *List) File() string {
	if l == nil {
		return "--accounts, which is not set"
	}
	return l.file + " (--accounts)"
}

// Unknown says that there is no account with a name or an id, and which there are. It ends a
// message that has named the text.
func (l *List) Unknown() string {
	if len(l.All()) == 0 {
		return "this server has no accounts beside its own: see --accounts"
	}
	const most = 20
	var names []string
	for _, a := range l.accounts[:min(len(l.accounts), most)] {
		names = append(names, a.String())
	}
	if more := len(l.accounts) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return "name one of " + l.File() + ": " + strings.Join(names, ", ")
}

// maxFile bounds the size of the file.
const maxFile = 4 << 20

// Load reads a file. Every problem is a line that names the file, line, column and field.
func Load(file string) (*List, []yamlfile.Problem, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("%s is larger than %d MiB", file, maxFile>>20)
	}
	list, problems := Parse(file, data)
	return list, problems, nil
}
