package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias/client"
)

// printer is a session that prints to a buffer, with no server.
func printer(format string) (*session, *bytes.Buffer) {
	var b bytes.Buffer
	return &session{out: newOutput(&b, format), term: newTerminal(context.Background(), os.Stdin, &b, io.Discard)}, &b
}

func values(t *testing.T, text string) client.Value {
	t.Helper()
	v, err := client.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	v := values(t, `[{"n":"Größe","k":"a"},{"n":"画像","k":"b\u001b[31m\u202e"},{"n":"e\u0301","k":""},{"n":"`+long+`","k":"c"}]`)
	s, b := printer(formatTable)
	s.table(v.List(), []column{col("NAME", "n"), col("KEY", "k")})
	s.out.Flush()
	pad := func(n int) string { return strings.Repeat(" ", 302-n) }
	want := "NAME" + pad(4) + "KEY\nGröße" + pad(5) + "a\n画像" + pad(4) + "b\ufffd[31m\ufffd\ne\u0301" + pad(1) + "-\n" + long + "  c\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	s.term.colour = true
	b.Reset()
	s.table(values(t, `[{"n":"done","m":"weak"},{"n":"x"}]`).List(), []column{col("A", "n"), col("B", "m")})
	s.out.Flush()
	if want := "A     B\n\x1b[32mdone\x1b[0m  \x1b[33mweak\x1b[0m\nx     -\n"; b.String() != want {
		t.Errorf("in colour %q, want %q", b, want)
	}
}

// TestForms: JSON is the answer as it came, YAML says the same in the same order.
func TestForms(t *testing.T) {
	t.Parallel()
	const answer = `{"z":"yes","a":{"n":12345678901234567890,"none":null,"list":["1",true,{"k":"a: b"}],"empty":[],"e2":{}},"t":"0x1","d":"2026-01-01","m":"a\nb"}`
	s, b := printer(formatJSON)
	if err := s.show(&client.Response{Body: []byte(answer + "\n")}, nil); err != nil {
		t.Fatal(err)
	}
	s.out.Flush()
	var indented bytes.Buffer
	json.Indent(&indented, []byte(answer), "", "  ")
	if want := indented.String() + "\n"; b.String() != want {
		t.Errorf("JSON:\n%s\nwant\n%s", b, want)
	}
	s, b = printer(formatYAML)
	if err := s.show(&client.Response{Body: []byte(answer)}, nil); err != nil {
		t.Fatal(err)
	}
	s.out.Flush()
	want := `z: "yes"
a:
  "n": 12345678901234567890
  none: null
  list:
    - "1"
    - true
    - k: 'a: b'
  empty: []
  e2: {}
t: "0x1"
d: "2026-01-01"
m: |-
  a
  b
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 7 << 20: "7.0 MiB", 5 << 40: "5.0 TiB", 1 << 60: "1024.0 PiB"} {
		if got := byteSize(client.Make(json.Number(itoa(n)))); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for want, in := range map[string][]int64{"": nil, "  ": {0, 0}, " ▁▅█": {0, 1, 50, 100}, "█": {7}} {
		if got := spark(in); got != want {
			t.Errorf("%v: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"2026-11-29T13:45:45.75166Z": "2026-11-29 13:45:45Z", "": "", "soon": "soon"} {
		if got := moment(client.Make(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func itoa(n int64) string {
	text, _ := json.Marshal(n)
	return string(text)
}
