// Package cli has the commands that call the admin API. A command prints the answer of
// the API and has no other source of data: a program can do the same with package client.
package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"ixmage/alias/client"
)

// Commands are the client commands; the program embeds them in its command line.
type Commands struct {
	Alias      aliasCmd      `cmd:"" help:"List, read, register, change and remove aliases."`
	Credential credentialCmd `cmd:"" help:"List, read, register, replace and remove credentials."`
	Provision  provisionCmd  `cmd:"" help:"Make an IAM user with a key for an alias, prove what the key can do, and open the alias."`
	Verify     verifyCmd     `cmd:"" help:"Check what the key of an alias can do, now."`
	Rotate     rotateCmd     `cmd:"" help:"Give a provisioned credential a new key, and retire the current one."`
	Apply      applyCmd      `cmd:"" help:"Make the server have the aliases of YAML files."`
	Purge      purgeCmd      `cmd:"" help:"Drop pictures from the cache."`
	SigningKey signingKeyCmd `cmd:"" help:"List, make and delete the signing keys of an alias."`
	Sign       signCmd       `cmd:"" help:"Sign a URL, so that it may use all options, or opens a locked alias."`
	Explain    explainCmd    `cmd:"" help:"Explain how a URL resolves, and what to do."`
	Usage      usageCmd      `cmd:"" help:"Print what aliases have cost at S3, and what the cache has saved."`
	Doctor     doctorCmd     `cmd:"" help:"Examine the server: its credentials and rights, buckets, roles, endpoints and clock."`
	Operation  operationCmd  `cmd:"" help:"List, read and wait for operations on IAM users."`
	Audit      auditCmd      `cmd:"" help:"Print who did what to which user, policy, key and token."`
	Orphans    orphansCmd    `cmd:"" help:"List and delete users and keys in IAM that belong to no credential."`
	Token      tokenCmd      `cmd:"" help:"List, make and revoke admin tokens."`
	Node       nodeCmd       `cmd:"" help:"List the nodes that share the registry, and remove silent ones."`

	Backup   backupCmd   `cmd:"" help:"Copy the registry while the server runs."`
	Restore  restoreCmd  `cmd:"" help:"Put a backup in the place of the registry of a stopped server."`
	Registry registryCmd `cmd:"" help:"Copy a registry between SQLite and PostgreSQL."`
	Rekey    rekeyCmd    `cmd:"" help:"Seal the secrets of a stopped server with a new key."`

	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
	Man        manCmd        `cmd:"" help:"Print the man page, for man -l -."`
	Complete   completeCmd   `cmd:"" hidden:"" help:"Print the words that the last word of a command line can become."`
}

// command is implemented by each command that can be selected.
type command interface {
	// Run does it. An error is printed, and decides the exit status.
	Run(s *session) error
	// Examples are lines for a shell, without the prompt; help prints them. Each works on a
	// server with the aliases and credentials of docs/cli.md.
	Examples() []string
}

// Run runs the selected command and returns the exit status of the program. checkOptions says what is wrong
// with the options in the query of a picture's URL.
func Run(k *kong.Context, checkOptions func(query string) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	s := newSession(ctx, k)
	s.checkOptions = checkOptions
	err := target(k.Selected()).(command).Run(s)
	if flushed := s.out.Flush(); err == nil && flushed != nil {
		err = writeError(flushed)
	}
	return s.report(err)
}

// session is one run of a command.
type session struct {
	ctx    context.Context //nolint:containedctx // a session is as long as the command
	model  *kong.Application
	flags  *Connection
	out    *output
	term   terminal
	dialed *client.Client // by api

	checkOptions func(query string) error
}

func newSession(ctx context.Context, k *kong.Context) *session {
	s := &session{ctx: ctx, model: k.Model, flags: &Connection{Output: formatTable}}
	s.term = newTerminal(ctx, os.Stdin, k.Stdout, k.Stderr)
	for _, p := range k.Path {
		if c, ok := target(p.Command).(interface{ connection() *Connection }); ok {
			s.flags = c.connection()
		}
	}
	s.out = newOutput(k.Stdout, s.flags.Output)
	return s
}

// api returns the client of the server.
func (s *session) api() (*client.Client, error) {
	if s.dialed != nil {
		return s.dialed, nil
	}
	c, err := s.flags.dial()
	s.dialed = c
	return c, err
}

// do calls the API.
func (s *session) do(r client.Request) (*client.Response, error) {
	c, err := s.api()
	if err != nil {
		return nil, err
	}
	return c.Do(s.ctx, r)
}

// get reads a resource.
func (s *session) get(path ...string) (*client.Response, error) {
	return s.do(client.Request{Path: client.Path(path...)})
}

// list reads all pages of a list.
func (s *session) list(p client.Pages) (client.Value, error) {
	c, err := s.api()
	if err != nil {
		return client.Value{}, err
	}
	all, err := c.List(s.ctx, p)
	if all == nil {
		all = []client.Value{}
	}
	return client.Make(client.Object{{Name: p.Member, Value: client.Make(all)}}), err
}
