// Command plot draws charts as SVG files. It reads them as JSON from its standard input
// and writes them into the folder that it is given. It is a module of its own, so that
// nothing of the plotting library gets into the product's module.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader) error {
	if len(args) != 1 {
		return fmt.Errorf("got %d arguments, want the folder for the files", len(args))
	}
	var charts []chart
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&charts); err != nil {
		return fmt.Errorf("read the charts: %w", err)
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	for _, c := range charts {
		svg, err := c.draw()
		if err != nil {
			return fmt.Errorf("draw %q: %w", c.File, err)
		}
		if err := os.WriteFile(filepath.Join(args[0], c.File), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}
