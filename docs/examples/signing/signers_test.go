package signing

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// vector is an element of vectors.json.
type vector struct {
	Name, Path, Query, Key, KID, Message, Sig, Signed string

	Exp *int64
}

// target is the argument of sign.
func (v vector) target() string {
	if v.Query == "" {
		return v.Path
	}
	return v.Path + "?" + v.Query
}

// Each program signs the vectors of its standard input, and prints a JSON list.
const (
	inNode = `import { sign } from "./sign.mjs";
import { readFileSync } from "node:fs";
const signed = JSON.parse(readFileSync(0, "utf8")).map((v) => sign(v.target, v.kid, v.key, v.exp));
console.log(JSON.stringify(signed));`
	inPython = `import json, sys
sys.dont_write_bytecode = True
from sign import sign
print(json.dumps([sign(v["target"], v["kid"], v["key"], v["exp"]) for v in json.load(sys.stdin)]))`
	inPHP = `require './sign.php';
$sign = fn($v) => ixmage_sign($v['target'], $v['kid'], $v['key'], $v['exp']);
echo json_encode(array_map($sign, json_decode(stream_get_contents(STDIN), true)), JSON_UNESCAPED_SLASHES);`
)

// TestSigners runs the example of each language against all vectors.
func TestSigners(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 30 {
		t.Fatalf("%d vectors", len(vectors))
	}
	input := make([]map[string]any, len(vectors))
	for i, v := range vectors {
		input[i] = map[string]any{"target": v.target(), "kid": v.KID, "key": v.Key, "exp": v.Exp}
	}

	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		signed := make([]string, len(vectors))
		for i, v := range vectors {
			var exp time.Time
			if v.Exp != nil {
				exp = time.Unix(*v.Exp, 0)
			}
			if signed[i], err = Sign(v.target(), v.KID, v.Key, exp); err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
		}
		compare(t, vectors, signed)
	})
	for language, command := range map[string][]string{
		"JavaScript": {"node", "--input-type=module", "-e", inNode},
		"Python":     {"python3", "-c", inPython},
		"PHP":        {"php", "-r", inPHP},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("!!!!! ABSENT: %s. The example in %s is not run !!!!!", command[0], language)
			}
			stdin, err := json.Marshal(input)
			if err != nil {
				t.Fatal(err)
			}
			c := exec.CommandContext(t.Context(), command[0], command[1:]...)
			c.Stdin, c.Stderr = bytes.NewReader(stdin), t.Output()
			out, err := c.Output()
			if err != nil {
				t.Fatal(err)
			}
			var signed []string
			if err := json.Unmarshal(out, &signed); err != nil {
				t.Fatalf("%v in %q", err, out)
			}
			compare(t, vectors, signed)
		})
	}
}

func compare(t *testing.T, vectors []vector, signed []string) {
	t.Helper()
	want := make([]string, len(vectors))
	for i, v := range vectors {
		want[i] = v.Signed
	}
	if slices.Equal(signed, want) {
		return
	}
	for i := range min(len(signed), len(want)) {
		if signed[i] != want[i] {
			t.Errorf("%s:\ngot  %s\nwant %s", vectors[i].Name, signed[i], want[i])
		}
	}
	if len(signed) != len(want) {
		t.Errorf("%d URLs, want %d", len(signed), len(want))
	}
}
