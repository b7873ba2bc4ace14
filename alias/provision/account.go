package provision

import (
	"context"
	"errors"
	"fmt"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/policy"
)

// Every method below takes the account of a credential or request: nil is that of the server's
// own credentials, whose rules are flags.

// accountOf is the account with an id, as a credential has it. It returns alias.ErrForbidden if
// the account is not in the file any more: nothing may be changed in it then.
func (p *Provisioner) accountOf(id string) (*accounts.Account, error) {
	if id == "" {
		return nil, nil //nolint:nilnil // that of the server
	}
	if a := p.cfg.Accounts.Find(id); a != nil && a.ID == id {
		return a, nil
	}
	return nil, fmt.Errorf("%w: the AWS account %s is not in %s any more: nothing is changed in it until it is added "+
		"again", alias.ErrForbidden, id, p.cfg.Accounts.File())
}

// accountOfCredential is the account of a provisioned credential.
func (p *Provisioner) accountOfCredential(c *alias.Credential) (*accounts.Account, error) {
	prov, ok := c.Provisioned()
	if !ok {
		return nil, nil //nolint:nilnil // none of IAM's
	}
	a, err := p.accountOf(prov.Account)
	if err != nil {
		err = fmt.Errorf("credential %s: %w", c.Name, err)
	}
	return a, err
}

// accountNamed is the account that a request names by its name or id.
func (p *Provisioner) accountNamed(nameOrID string) (*accounts.Account, error) {
	if nameOrID == "" {
		return nil, nil //nolint:nilnil // that of the server
	}
	if a := p.cfg.Accounts.Find(nameOrID); a != nil {
		return a, nil
	}
	return nil, policy.Invalid("account", p.cfg.Accounts.Unknown())
}

// accountFor is the account of a request: the one that it names, or that of the credential that
// it reuses. It writes the id of the former into the request, in which a name and an id then are
// the same.
func (p *Provisioner) accountFor(ctx context.Context, req *policy.Request) (*accounts.Account, error) {
	named, err := p.accountNamed(req.Account)
	if err != nil {
		return nil, err
	}
	req.Account = idOf(named)
	if req.Credential == "" {
		return named, nil
	}
	of, err := p.accountOfName(ctx, req.Credential)
	if err == nil && named != nil && named != of {
		has := "that of this server's credentials"
		if of != nil {
			has = of.String()
		}
		err = policy.Invalid("account",
			fmt.Sprintf("must be empty, or the account of the credential %s, which is %s", req.Credential, has))
	}
	return of, err
}

// accountOfName is the account of the credential with a name; that of the server if there is no
// such credential, or none that was provisioned.
func (p *Provisioner) accountOfName(ctx context.Context, name alias.Name) (*accounts.Account, error) {
	c, err := p.cfg.Registry.Credential(ctx, name)
	if errors.Is(err, alias.ErrNotFound) {
		return nil, nil //nolint:nilnil // the caller finds that out
	}
	if err != nil {
		return nil, err
	}
	return p.accountOfCredential(c)
}

// everyAccount are the accounts that users of ours may be in.
func (p *Provisioner) everyAccount() []*accounts.Account {
	return append([]*accounts.Account{nil}, p.cfg.Accounts.All()...)
}

func idOf(a *accounts.Account) string {
	if a == nil {
		return ""
	}
	return a.ID
}

// boundaryOf is the permissions boundary of users in an account, and what sets it.
func (p *Provisioner) boundaryOf(a *accounts.Account) (arn, from string) {
	if a == nil {
		return p.cfg.Boundary, "--iam-boundary"
	}
	return a.Boundary, "boundary of the account " + a.String() + " in " + p.cfg.Accounts.File()
}

// boundaryFrom is what sets the boundary in the account with an id.
func (p *Provisioner) boundaryFrom(id string) string {
	a, err := p.accountOf(id)
	if err != nil {
		return "boundary of the account " + id
	}
	_, from := p.boundaryOf(a)
	return from
}

// warnAccounts names the credentials whose account is not in the file.
func (p *Provisioner) warnAccounts() {
	p.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		prov, ok := c.Provisioned()
		if _, err := p.accountOfCredential(c); ok && err != nil {
			p.log.Warn("the AWS account of a credential is not in --accounts: the credential is served and cannot be changed",
				"credential", string(c.Name), "account", prov.Account, "user", prov.User.Name)
		}
		return true
	})
}
