package client

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadEvents(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ text, want string }{
		"two":            {"event: operation\ndata: {1}\n\nevent: operation\ndata:{2}\n\n", "operation={1} operation={2}"},
		"no name":        {"data: x\n\n", "message=x"},
		"lines":          {"data: a\ndata: b\ndata\n\n", "message=a\nb\n"},
		"CRLF":           {"data: a\r\n\r\ndata: b\r\n\r\n", "message=a message=b"},
		"CR":             {"data: a\r\rdata: b\r\r", "message=a message=b"},
		"comments":       {": alive\n\n:\ndata: a\n\n", "message=a"},
		"other fields":   {"id: 1\nretry: 5\nx\ndata: a\n\n", "message=a"},
		"byte order":     {"\ufeffdata: a\n\n", "message=a"},
		"name of none":   {"event: x\n\ndata: a\n\n", "message=a"},
		"not complete":   {"data: a\n\ndata: b\n", "message=a"},
		"nothing":        {"", ""},
		"empty data":     {"data\n\n", "message="},
		"a second space": {"data:  a\n\n", "message= a"},
	} {
		for _, r := range []io.Reader{strings.NewReader(row.text), iotest.OneByteReader(strings.NewReader(row.text))} {
			var got []string
			err := readEvents(r, func(e Event) error { got = append(got, e.Name+"="+string(e.Data)); return nil })
			if text := strings.Join(got, " "); err != nil || text != row.want {
				t.Errorf("%s: %q, %v, want %q", name, text, err, row.want)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/events" {
			io.WriteString(w, "a page")
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\ndata: 2\n\n")
		if r.FormValue("cut") != "" {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	n := 0
	count := func(Event) error { n++; return nil }
	if err := c.Events(t.Context(), Path("events"), count); err != nil || n != 2 {
		t.Errorf("%d events, %v", n, err)
	}
	err := c.Events(t.Context(), Path("events")+"?cut=1", count)
	if _, ok := errors.AsType[*UnreachableError](err); !ok || n != 4 {
		t.Errorf("after a break: %d events, %v", n, err)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), Path("events"), func(Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("the error of the caller became %v", err)
	}
	if err := c.Events(t.Context(), Path("page"), count); err == nil {
		t.Error("a page is a stream of events")
	}
}

// FuzzReadEvents: no bytes make it fail, and it does not depend on how they arrive.
func FuzzReadEvents(f *testing.F) {
	f.Add("event: a\ndata: b\r\n\r\n: c\rdata\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		var seen [2][]string
		for i, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			if err := readEvents(r, func(e Event) error { seen[i] = append(seen[i], e.Name+"="+string(e.Data)); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Join(seen[0], "|") != strings.Join(seen[1], "|") {
			t.Errorf("%q and %q", seen[0], seen[1])
		}
	})
}
