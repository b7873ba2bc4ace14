package doctor

import (
	"strings"
	"time"

	"ixmage/alias"
)

// configuration makes the findings that need no call: what the flags allow, and what the aliases
// use of it.
func (e *examination) configuration() {
	e.wideCredentials()
	e.flags()
	e.store()
	e.transforms()
	if path := e.cfg.KeysetBesideData; path != "" {
		remedy := "keep the key elsewhere: --master-key file:PATH or aws-kms://ARN, by ixmage rekey"
		if e.cfg.Fleet != nil { // ixmage rekey cannot change a registry in PostgreSQL
			remedy = "stop this node, move the file elsewhere, and name it with --master-key file:PATH"
		}
		e.add(Finding{MasterKey, Warning, path,
			"the key set is in the same folder as the database that it protects: a copy of the folder has both", remedy})
	} else {
		e.good(MasterKey, "--master-key", "the key set is not readable in the data folder")
	}
}

// store examines what this node knows of its fleet.
func (e *examination) store() {
	const flag = "--store"
	if e.cfg.Fleet == nil {
		return
	}
	if since, why := e.cfg.Fleet.Stale(); why != nil {
		e.add(Finding{Store, Bad, flag, "the database cannot be used since " + since.UTC().Format(time.RFC3339) +
			": pictures are served from the copy of this node, and changes are refused", "correct what the server's log says"})
		return
	}
	var live, silent []string
	for _, n := range e.cfg.Fleet.Known() {
		if n.Live {
			live = append(live, n.Name)
		} else {
			silent = append(silent, n.Name)
		}
	}
	if len(silent) > 0 {
		e.add(Finding{Store, Warning, flag, "the database has not heard of the nodes " + list(silent),
			"start them again, or remove those that are gone for good with ixmage node rm"})
		return
	}
	e.good(Store, flag, "the database answers; the live nodes are "+list(live))
}

// wideCredentials names credentials whose sessions can do more than read their alias.
func (e *examination) wideCredentials() {
	users := map[alias.Name][]string{}
	wide := map[alias.Name]FindingName{}
	for _, r := range e.routes {
		name := r.Credential.Name
		switch p := r.Credential.Provider.(type) {
		case alias.Default:
			wide[name] = DefaultCredential
		case alias.Role:
			if p.SessionPolicy != alias.SessionPolicyNone {
				continue
			}
			wide[name] = SessionPolicy
		default:
			continue
		}
		users[name] = append(users[name], string(r.Alias.Name))
	}
	for name, kind := range wide {
		subject := "the credential " + string(name)
		f := Finding{kind, Warning, subject, "", "give these aliases a role with the session policy alias"}
		if kind == DefaultCredential {
			f.Detail = "the server's own credentials, with all their rights, sign for the aliases " + list(users[name])
		} else {
			f.Detail = "its session policy is none: a request of the aliases " + list(users[name]) +
				" is signed with all rights of the role"
		}
		e.add(f)
	}
	if len(wide) == 0 {
		e.good(SessionPolicy, "all aliases", "no session of a role can read more than the location of its alias, "+
			"and none is read with the server's own credentials")
	}
}

// flags examines the flags that limit what a request can ask for.
func (e *examination) flags() {
	e.assumeRolesFlag()
	for _, f := range []struct {
		name         FindingName
		on           bool
		flag, detail string
		leave        string
	}{
		{AllowDefault, e.cfg.AllowDefault, "--allow-default-credential",
			"it is on: every token that may change an alias can have the server's own credentials sign for it",
			"leave it out; give aliases a role"},
		{AllowWideScope, e.cfg.AllowWideScope, "--allow-wide-scope",
			"it is on: users that read every bucket, and sessions of roles without a session policy, are allowed",
			"leave it out"},
	} {
		if f.on {
			e.add(Finding{f.name, Warning, f.flag, f.detail, f.leave})
		} else {
			e.good(f.name, f.flag, "it is off")
		}
	}
	const flag = "--allow-private-endpoints"
	switch {
	case !e.cfg.AllowPrivate:
		e.good(AllowPrivate, flag, "it is off")
	case e.ownEndpoints():
		e.good(AllowPrivate, flag, "it is on, and there are aliases with an endpoint of their own")
	default:
		e.add(Finding{AllowPrivate, Warning, flag,
			"it is on: a token that may change an alias can make the server connect to private addresses, " +
				"and no alias has an endpoint of its own", "leave it out"})
	}
}

func (e *examination) ownEndpoints() bool {
	for _, r := range e.routes {
		if r.Alias.Endpoint != "" {
			return true
		}
	}
	return false
}

func (e *examination) assumeRolesFlag() {
	const flag = "--assume-roles"
	for _, p := range e.cfg.AssumeRoles {
		parts := strings.SplitN(p, ":", 6)
		if p == "*" || len(parts) == 6 && (strings.Trim(parts[5], "*") == "role/" || strings.Contains(parts[4], "*")) {
			e.add(Finding{AssumeRoles, Warning, flag, "the pattern " + p + " has every role of an account, or of every account",
				"name the roles, such as arn:aws:iam::123456789012:role/pictures-*"})
			return
		}
	}
	if len(e.cfg.AssumeRoles) == 0 {
		e.good(AssumeRoles, flag, "no role may be assumed")
		return
	}
	e.good(AssumeRoles, flag, "these roles may be assumed: "+list(e.cfg.AssumeRoles))
}
