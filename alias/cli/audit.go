package cli

import "ixmage/alias/client"

type auditCmd struct {
	Connection

	Limit int `help:"Entries at most, the newest; 0 is all." default:"100" placeholder:"N"`
}

func (*auditCmd) Examples() []string {
	return []string{"ixmage audit", "ixmage audit --limit 10 -o json"}
}

func (c *auditCmd) Run(s *session) error {
	v, err := s.list(client.Pages{
		Path: client.Path("audit"), Member: "audit", By: "id", Param: "before", Size: 1000, Limit: c.Limit,
	})
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) {
		s.table(v.Get("audit").List(), []column{
			{"AT", at("at")}, col("ACTOR", "actor"), col("ACTION", "action"), col("OUTCOME", "outcome"),
			col("ALIAS", "alias"), col("CREDENTIAL", "credential"), col("USER", "user"), col("KEY", "access_key_id"),
			col("DETAIL", "detail"),
		})
	})
}
