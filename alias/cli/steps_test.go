package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias/client"
)

// anOperation is a provisioning whose steps have these states; each step that has begun
// began a second after the one before, and took half a second.
func anOperation(t *testing.T, begun time.Time, state string, steps ...string) client.Value {
	t.Helper()
	at := func(d time.Duration) string { return begun.Add(d).UTC().Format(time.RFC3339Nano) }
	var list []string
	finished := "null"
	for i, s := range steps {
		from, to, detail := "null", "null", ""
		if s != "pending" {
			from = fmt.Sprintf("%q", at(time.Duration(i)*time.Second))
		}
		if s == "done" || s == "failed" {
			to = fmt.Sprintf("%q", at(time.Duration(i)*time.Second+500*time.Millisecond))
			detail = "detail größe of " + s + "."
		}
		name := []string{"create-user", "put-policy", "verify", "open"}[i]
		list = append(list, fmt.Sprintf(`{"name":%q,"state":%q,"started_at":%s,"finished_at":%s,"detail":%q}`, name, s, from, to, detail))
	}
	if state != "running" {
		finished = fmt.Sprintf("%q", at(time.Duration(len(steps))*time.Second))
	}
	v, err := client.Decode(fmt.Appendf(nil, `{"id":"op-1","kind":"provision","alias":"shop","credential":"shop","state":%q,`+
		`"superseded_by":"op-2","error":{"step":"verify","detail":"the key is \u001b[31mrefused by S3"},`+
		`"created_at":%q,"finished_at":%s,"steps":[%s]}`, state, at(0), finished, strings.Join(list, ",")))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestOperationLines(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	running := []string{"done", "done", "running", "pending"}
	for _, row := range []struct {
		name  string
		op    client.Value
		width int
		want  string // lines
	}{
		{"running", anOperation(t, begun, "running", running...), 80, `
provision shop: running  1m2s
  done     create-user  0.5s  detail größe of done.
  done     put-policy   0.5s  detail größe of done.
  running  verify       1m0s
  pending  open`},
		{"narrow", anOperation(t, begun, "running", running...), 40, `
provision shop: running  1m2s
  done     create-user  0.5s  detail gr…
  done     put-policy   0.5s  detail gr…
  running  verify       1m0s
  pending  open`},
		{"done", anOperation(t, begun, "done", "done", "done"), 80, `
provision shop: done  2.0s
  done  create-user  0.5s  detail größe of done.
  done  put-policy   0.5s  detail größe of done.`},
		{"failed", anOperation(t, begun, "failed", "done", "failed", "pending"), 46, `
provision shop: failed  3.0s
  done     create-user  0.5s  detail größe of…
  failed   put-policy   0.5s  detail größe of…
  pending  verify
It failed at the step verify: the key is
` + "\ufffd" + `[31mrefused by S3`},
		{"superseded", anOperation(t, begun, "superseded", "done"), 80, `
provision shop: superseded  1.0s
  done  create-user  0.5s  detail größe of done.
The operation op-2 has taken its place.`},
		{"no steps", anOperation(t, begun, "running"), 80, "\nprovision shop: running  1m2s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			lines := operationLines(row.op, begun.Add(62*time.Second+300*time.Millisecond), row.width, func(s string) string { return s })
			if diff := cmp.Diff(row.want[1:], strings.Join(lines, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, line := range lines {
				if displayWidth(line) > row.width {
					t.Errorf("%q is wider than %d", line, row.width)
				}
			}
		})
	}
	lines := operationLines(anOperation(t, begun, "running", "done"), begun, 80, func(s string) string { return "<" + s + ">" })
	if !strings.HasPrefix(lines[1], "  <done>  create-user") {
		t.Errorf("painted: %q", lines[1])
	}
}

// screen plays what a program writes to a terminal of some height: text, new lines, and the
// escape sequences of the view.
func screen(t *testing.T, written string) []string {
	t.Helper()
	lines, row := []string{""}, 0
	for written != "" {
		var n int
		switch {
		case strings.HasPrefix(written, "\n"):
			row++
			if row == len(lines) {
				lines = append(lines, "")
			}
			written = written[1:]
		case strings.HasPrefix(written, "\r"):
			written = written[1:]
		case strings.HasPrefix(written, "\x1b[K"): // the rest of the line is empty: it was written from its begin on
			written = written[3:]
		case strings.HasPrefix(written, "\x1b[J"):
			lines[row] = ""
			lines, written = lines[:row+1], written[3:]
		case strings.HasPrefix(written, "\x1b["):
			if _, err := fmt.Sscanf(written, "\x1b[%dA", &n); err != nil || n > row {
				t.Fatalf("at row %d: %q", row, written)
			}
			row -= n
			written = written[strings.IndexByte(written, 'A')+1:]
		default:
			end := strings.IndexAny(written, "\r\n\x1b")
			if end < 0 {
				end = len(written)
			}
			lines[row], written = written[:end], written[end:]
		}
	}
	return lines
}

// lockedBuffer can be read while something writes to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestWatch draws an operation on a terminal, with a clock that is ten minutes behind that
// of the server, and looks at the screen while time passes.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b lockedBuffer
		const skew = -10 * time.Minute
		v := &stepsView{
			w: &b, redraws: true, skew: skew, paint: func(s string) string { return s }, said: map[string]bool{},
			size: func() (int, int) { return 80, 24 },
		}
		begun := time.Now().Add(-skew)
		updates, ended := make(chan stateUpdate), make(chan client.Value)
		go func() {
			op, err := v.watch(t.Context(), anOperation(t, begun, "running", "running", "pending"), updates)
			if err != nil {
				t.Error(err)
			}
			ended <- op
		}()
		want := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(append(lines, ""), screen(t, b.String())); diff != "" {
				t.Errorf("screen (-want +got):\n%s", diff)
			}
		}
		want("provision shop: running  0s", "  running  create-user  0s", "  pending  put-policy")
		time.Sleep(3 * time.Second) //nolint:forbidigo // the clock of the bubble
		want("provision shop: running  3s", "  running  create-user  3s", "  pending  put-policy")
		updates <- stateUpdate{op: anOperation(t, begun, "running", "done", "running", "pending")}
		want("provision shop: running  3s", "  done     create-user  0.5s  detail größe of done.", "  running  put-policy   2s", "  pending  verify")
		time.Sleep(58 * time.Second) //nolint:forbidigo // the clock of the bubble
		want("provision shop: running  1m1s", "  done     create-user  0.5s  detail größe of done.", "  running  put-policy   1m0s", "  pending  verify")
		updates <- stateUpdate{op: anOperation(t, begun, "done", "done", "done")}
		if got := (<-ended).Get("state").Text(); got != "done" {
			t.Errorf("state %s", got)
		}
		want("provision shop: done  2.0s", "  done  create-user  0.5s  detail größe of done.", "  done  put-policy   0.5s  detail größe of done.")
		v.erase()
		want()
	})
}

func TestWatchErrors(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	v := &stepsView{w: &b, said: map[string]bool{}}
	updates := make(chan stateUpdate, 1)
	away := errors.New("away")
	updates <- stateUpdate{err: away}
	if _, err := v.watch(t.Context(), anOperation(t, time.Now(), "running", "running"), updates); !errors.Is(err, away) {
		t.Errorf("%v", err)
	}
}

// TestSay: without a terminal each step is a line, when it has ended, and once.
func TestSay(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	v := &stepsView{w: &b, said: map[string]bool{}}
	begun := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, op := range []client.Value{
		anOperation(t, begun, "running", "running", "pending"),
		anOperation(t, begun, "running", "done", "running"),
		anOperation(t, begun, "running", "done", "running"),
		anOperation(t, begun, "failed", "done", "failed"),
		anOperation(t, begun, "failed", "done", "failed"),
	} {
		v.show(op)
	}
	want := `operation op-1: provision shop
create-user done 0.5s  detail größe of done.
put-policy failed 0.5s  detail größe of failed.
failed 2.0s
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestLowTerminal: lines that have left the screen cannot be drawn over.
func TestLowTerminal(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	v := &stepsView{w: &b, redraws: true, paint: func(s string) string { return s }, size: func() (int, int) { return 80, 3 }}
	v.show(anOperation(t, time.Now(), "running", "done", "done", "running"))
	if got := screen(t, b.String()); len(got) != 3 || !strings.Contains(got[1], "verify") {
		t.Errorf("%q", got)
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 999_000_000, time.UTC)
	for _, row := range []struct {
		date string
		want time.Duration
	}{
		{"Tue, 03 Feb 2026 04:05:06 GMT", 0}, {"Tue, 03 Feb 2026 04:05:07 GMT", 0}, {"", 0}, {"x", 0},
		{"Tue, 03 Feb 2026 04:15:06 GMT", -10*time.Minute + 999*time.Millisecond},
	} {
		if got := skewOf(http.Header{"Date": {row.date}}, now); got != row.want {
			t.Errorf("%q: %s, want %s", row.date, got, row.want)
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		draw := terminal{err: &b, redraws: true}.bar("checking", 4)
		draw.add(1)
		if b.Len() > 0 {
			t.Errorf("quick work has a bar: %q", b.String())
		}
		time.Sleep(redrawEvery) //nolint:forbidigo // the clock of the bubble
		draw.add(1)
		draw.end()
		if got, want := b.String(), "\rchecking [###############---------------] 2/4\x1b[K\r\x1b[K"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		b.Reset()
		dumb := terminal{err: &b}.bar("checking", 4)
		time.Sleep(redrawEvery) //nolint:forbidigo // the clock of the bubble
		dumb.add(4)
		dumb.end()
		if b.Len() > 0 {
			t.Errorf("no terminal gets a bar: %q", b.String())
		}
	})
}
