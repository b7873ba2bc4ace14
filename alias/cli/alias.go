package cli

import (
	"ixmage/alias/client"
)

type aliasCmd struct {
	Connection

	Ls aliasLsCmd `cmd:"" help:"List the aliases."`
}

type aliasLsCmd struct{}

func (*aliasLsCmd) Examples() []string {
	return []string{"ixmage alias ls", "ixmage alias ls -o json"}
}

// pageSize is the greatest page of aliases and credentials.
const pageSize = 1000

func (*aliasLsCmd) Run(s *session) error {
	v, err := s.list(client.Pages{Path: client.Path("aliases"), Member: "aliases", By: "name", Param: "after", Size: pageSize})
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) {
		s.table(v.Get("aliases").List(), []column{
			col("NAME", "name"), col("STATE", "state"), {"LOCATION", location}, col("REGION", "region"),
			col("CREDENTIAL", "credential"), col("REVISION", "revision"),
		})
	})
}

// location is where the pictures of an alias are.
func location(v client.Value) string {
	at := "s3://" + v.Get("bucket").Text() + "/" + v.Get("prefix").Text()
	if e := v.Get("endpoint").Text(); e != "" {
		at += " at " + e
	}
	return at
}
