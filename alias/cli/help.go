package cli

import (
	"fmt"

	"github.com/alecthomas/kong"
)

// PrintExamples prints the examples of the selected command, if it has some.
func PrintExamples(k *kong.Context) {
	c, ok := target(k.Selected()).(command)
	if !ok || len(c.Examples()) == 0 {
		return
	}
	fmt.Fprint(k.Stdout, "\nExamples:\n")
	for _, e := range c.Examples() {
		fmt.Fprintf(k.Stdout, "  %s\n", e)
	}
}

// target is the struct of a command, or nil.
func target(n *kong.Node) any {
	if n != nil && n.Target.CanAddr() {
		return n.Target.Addr().Interface()
	}
	return nil
}

// connectionGroup is the key of the group in the tags of Connection.
const connectionGroup = "connection"

// Options are what the commands need of kong.
func Options() []kong.Option {
	return []kong.Option{
		kong.Vars{"default_url": "http://" + defaultAddr},
		kong.ExplicitGroups([]kong.Group{{Key: connectionGroup, Title: "Server and output:"}}),
	}
}
