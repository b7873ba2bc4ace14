package cli

import (
	"net/http"

	"ixmage/alias/client"
)

type nodeCmd struct {
	Connection

	Ls nodeLsCmd `cmd:"" help:"List the nodes that share the registry."`
	Rm nodeRmCmd `cmd:"" help:"Remove a node that is silent for good, so that nothing waits for it."`
}

type nodeLsCmd struct{}

func (*nodeLsCmd) Examples() []string { return []string{"ixmage node ls", "ixmage node ls -o json"} }

func (*nodeLsCmd) Run(s *session) error {
	resp, err := s.get("nodes")
	if err != nil {
		return err
	}
	return s.show(resp, func(v client.Value) {
		if stale, _ := v.Get("stale").Any().(bool); stale {
			when := first(at("since")(v), "just now")
			s.term.sayf("The database cannot be used: this is the list of its last answer (%s).", when)
		}
		s.table(v.Get("nodes").List(), []column{
			col("NAME", "name"), col("STATE", "state"), col("VERSION", "version"), {"SEEN", at("seen_at")},
			col("REVISION", "revision"), col("LAG", "lag"), col("CLOCK", "clock_offset"),
			col("LEASES", "leases"),
		})
	})
}

type nodeRmCmd struct {
	Name string `arg:"" help:"Node." completion:"nodes"`

	confirmed
}

func (*nodeRmCmd) Examples() []string { return []string{"ixmage node rm web-2 --yes"} }

func (c *nodeRmCmd) Run(s *session) error {
	if err := s.term.confirm(c.Yes, "Remove the node "+c.Name+", so that rotations no longer wait for it"); err != nil {
		return err
	}
	_, err := s.do(client.Request{Method: http.MethodDelete, Path: client.Path("nodes", c.Name)})
	if err != nil {
		return s.suggest(err, "nodes", c.Name)
	}
	s.term.sayf("%s is removed.", c.Name)
	return nil
}
