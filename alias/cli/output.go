package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"

	"ixmage/alias/client"
)

// Forms of the output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// output is stdout. It keeps the first error of a write, which Flush returns.
type output struct {
	*bufio.Writer

	format string
}

func newOutput(w io.Writer, format string) *output {
	return &output{Writer: bufio.NewWriter(w), format: format}
}

// printf prints text. Flush returns its error.
func (o *output) printf(format string, args ...any) { fmt.Fprintf(o, format, args...) }

// show prints an answer of the API: as it is, or with table.
func (s *session) show(resp *client.Response, table func(v client.Value)) error {
	if s.out.format == formatJSON {
		return s.out.json(resp.Body)
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	return s.showValue(v, table)
}

// showValue is show for an answer that was put together.
func (s *session) showValue(v client.Value, table func(v client.Value)) error {
	switch s.out.format {
	case formatJSON:
		text, err := v.MarshalJSON()
		if err != nil {
			return err
		}
		return s.out.json(text)
	case formatYAML:
		return s.out.yaml(v)
	}
	table(v)
	return nil
}

func (o *output) json(text []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(text), "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	o.printf("%s", b.Bytes())
	return nil
}

func (o *output) yaml(v client.Value) error {
	var b bytes.Buffer // an error of the writer is no error of YAML
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(yamlNode(v)); err != nil {
		return fmt.Errorf("print YAML: %w", err)
	}
	if err := e.Close(); err != nil {
		return fmt.Errorf("print YAML: %w", err)
	}
	o.printf("%s", b.Bytes())
	return nil
}

// oldBool are the words that YAML 1.1 takes for booleans and 1.2 does not; many parsers are
// of 1.1.
var oldBool = map[string]bool{"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true}

// yamlNode makes a node, because a map has no order.
func yamlNode(v client.Value) *yaml.Node {
	n := &yaml.Node{}
	switch x := v.Any().(type) {
	case client.Object:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		for _, m := range x {
			n.Content = append(n.Content, yamlNode(client.Make(m.Name)), yamlNode(m.Value))
		}
	case []client.Value:
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		for _, e := range x {
			n.Content = append(n.Content, yamlNode(e))
		}
	case json.Number:
		n.Kind, n.Value = yaml.ScalarNode, x.String()
	case string:
		n.SetString(x)
		if oldBool[strings.ToLower(x)] {
			n.Style = yaml.DoubleQuotedStyle
		}
	default:
		_ = n.Encode(x) // null and bool have no error
	}
	if len(n.Content) == 0 && n.Kind != yaml.ScalarNode {
		n.Style = yaml.FlowStyle // {} and []
	}
	return n
}
