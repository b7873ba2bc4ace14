package manifest

import (
	"encoding/json"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"ixmage/alias/client"
	"ixmage/internal/yamlfile"
)

// reader reads one file.
type reader struct{ yamlfile.Reader }

// value converts a node to JSON. at is called with the path of each member below it.
func (r *reader) value(n *yaml.Node, path string, at func(path string, n *yaml.Node)) client.Value {
	if !r.Expand(n) {
		return client.Value{}
	}
	n = yamlfile.Resolve(n)
	if n.Kind != yaml.MappingNode && n.Kind != yaml.SequenceNode {
		return r.scalar(n, path)
	}
	if n.Kind == yaml.MappingNode {
		members, ok := r.Members(n, "")
		if !ok {
			return client.Value{}
		}
		leave, _ := r.Enter(n) // it is not being read, as Members has found
		defer leave()
		var object client.Object
		for _, m := range members {
			below := join(path, m.Key.Value)
			at(below, m.Value)
			object = append(object, client.Member{Name: m.Key.Value, Value: r.value(m.Value, below, at)})
		}
		return client.Make(object)
	}
	leave, ok := r.Enter(n)
	if !ok {
		return client.Value{}
	}
	defer leave()
	list := make([]client.Value, len(n.Content))
	for i, e := range n.Content {
		list[i] = r.value(e, path, at)
	}
	return client.Make(list)
}

// scalar converts a text, a number, true, false or nothing.
func (r *reader) scalar(n *yaml.Node, path string) client.Value {
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		return client.Make(n.Value)
	case "!!null":
		return client.Value{}
	case "!!bool":
		return client.Make(strings.EqualFold(n.Value, "true"))
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return client.Make(json.Number(n.Value))
		}
		r.Problemf(n, path, "%s: write a number in decimal, without leading zeros, or put a text in quotes",
			strconv.Quote(yamlfile.Cut(n.Value)))
	default:
		r.Problemf(n, path, "the tag %s is not supported: write the value without it", strconv.Quote(yamlfile.Cut(tag)))
	}
	return client.Value{}
}

// join is the path of a member, as in the problems of the API.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
