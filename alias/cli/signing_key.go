package cli

import (
	"errors"
	"fmt"
	"net/http"

	"ixmage/alias/cli/spelling"
	"ixmage/alias/client"
)

type signingKeyCmd struct {
	Connection

	Ls     signingKeyLsCmd     `cmd:"" help:"List the signing keys of an alias, the oldest first. The newest one signs. LAST USED is what the node that answers has seen since its start."`
	Create signingKeyCreateCmd `cmd:"" help:"Make a signing key for an alias. It is printed once, as KID:SECRET alone on standard output."`
	Rm     signingKeyRmCmd     `cmd:"" help:"Delete a signing key: URLs that it has signed are refused from then on."`
}

type signingKeyLsCmd struct {
	Alias string `arg:"" help:"Alias." completion:"aliases"`
}

func (*signingKeyLsCmd) Examples() []string { return []string{"ixmage signing-key ls shop"} }

func (c *signingKeyLsCmd) Run(s *session) error {
	resp, err := s.get("aliases", c.Alias, "signing-keys")
	if err != nil {
		return s.suggest(err, "aliases", c.Alias)
	}
	return s.show(resp, func(v client.Value) {
		s.table(v.Get("signing_keys").List(), []column{
			col("KID", "kid"), {"CREATED", at("created_at")}, {"LAST USED", at("last_used_at")},
		})
	})
}

type signingKeyCreateCmd struct {
	Alias string `arg:"" help:"Alias." completion:"aliases"`
}

func (*signingKeyCreateCmd) Examples() []string {
	return []string{"(umask 077; ixmage signing-key create shop > shop.key)"}
}

func (c *signingKeyCreateCmd) Run(s *session) error {
	resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("aliases", c.Alias, "signing-keys")})
	if err != nil {
		return s.suggest(err, "aliases", c.Alias)
	}
	made, err := resp.Value()
	if err != nil {
		return err
	}
	kid := made.Get("kid").Text()
	err = s.show(resp, func(v client.Value) { s.out.printf("%s:%s\n", kid, v.Get("secret").Text()) })
	if err == nil {
		err = s.out.Flush()
	}
	if err != nil {
		return c.remove(s, kid, err)
	}
	s.term.sayf("This is the only time that the secret of the key %s is shown. "+
		"To sign with it, write KID:SECRET to a file: ixmage sign URL --key-file FILE", kid)
	return nil
}

// remove deletes a key whose secret was not printed.
func (c *signingKeyCreateCmd) remove(s *session, kid string, err error) error {
	_, failed := s.do(client.Request{
		Method: http.MethodDelete, Path: client.Path("aliases", c.Alias, "signing-keys", kid),
	})
	if failed != nil {
		return fmt.Errorf("%w; the key %s was made, and deleting it failed too (%w): run ixmage signing-key rm %s %s",
			err, kid, failed, c.Alias, kid)
	}
	return fmt.Errorf("%w; the key %s was deleted again", err, kid)
}

type signingKeyRmCmd struct {
	Alias string `arg:"" help:"Alias." completion:"aliases"`
	KID   string `arg:"" name:"kid" help:"Signing key." completion:"signing-keys"`

	confirmed
}

func (*signingKeyRmCmd) Examples() []string {
	return []string{"ixmage signing-key rm shop k7mx2qpa --yes"}
}

func (c *signingKeyRmCmd) Run(s *session) error {
	question := "Delete the signing key " + c.KID + " of the alias " + c.Alias + ", and refuse all URLs that it has signed"
	if err := s.term.confirm(c.Yes, question); err != nil {
		return err
	}
	_, err := s.do(client.Request{Method: http.MethodDelete, Path: client.Path("aliases", c.Alias, "signing-keys", c.KID)})
	if err != nil {
		return c.suggest(s, err)
	}
	s.term.sayf("%s is deleted.", c.KID)
	return nil
}

// suggest adds a similar alias to the error that there is none, or a similar key.
func (c *signingKeyRmCmd) suggest(s *session, err error) error {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || p.Status != http.StatusNotFound {
		return err
	}
	kids, listErr := s.kids(c.Alias)
	if listErr != nil {
		return s.suggest(err, "aliases", c.Alias)
	}
	if best := spelling.Closest(c.KID, kids); best != "" {
		said := *p
		said.Detail += ". Did you mean " + best + "?"
		return &said
	}
	return err
}

// kids lists the ids of the signing keys of an alias.
func (s *session) kids(of string) ([]string, error) {
	resp, err := s.get("aliases", of, "signing-keys")
	if err != nil {
		return nil, err
	}
	v, err := resp.Value()
	if err != nil {
		return nil, err
	}
	var kids []string
	for _, k := range v.Get("signing_keys").List() {
		kids = append(kids, k.Get("kid").Text())
	}
	return kids, nil
}
