package logging

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// output is an io.Writer that blocks, or fails, as long as it is told to.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	block chan struct{} // nil: never; a write waits until it is closed
	room  int           // bytes that are taken before each write fails; -1: all
}

var errFull = errors.New("no space left on device")

func (o *output) Write(p []byte) (int, error) {
	if o.block != nil {
		<-o.block
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.room < 0 || len(p) <= o.room {
		return o.text.Write(p)
	}
	n, _ := o.text.Write(p[:o.room])
	o.room = 0
	return n, errFull
}

func (o *output) setRoom(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.room = n
}

func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var messages []string
	for line := range strings.Lines(o.text.String()) {
		_, line, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "level=")
		messages = append(messages, line)
	}
	return messages
}

func want(t *testing.T, o *output, lines ...string) {
	t.Helper()
	got := o.lines()
	if strings.Join(got, "\n") != strings.Join(lines, "\n") {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

func TestLinesAreWrittenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &output{room: -1}
		l := Open(Config{Out: o})
		defer l.Close(time.Second)
		l.Info("one", "n", 1)
		l.With("a", "b").Warn("two")
		synctest.Wait()
		want(t, o, "INFO msg=one n=1", "WARN msg=two a=b")
	})
}

// A blocked output holds up no log call. Its lines come later, in order, and a line in the
// place of those that were lost says how many they were.
func TestBlockedOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &output{room: -1, block: make(chan struct{})}
		l := Open(Config{Out: o})
		long := strings.Repeat("x", 1000)
		n := 0
		for ; l.Dropped() < 10; n++ {
			l.Info("long", "n", n, "text", long)
		}
		if n < queueBytes/2000 || n > queueBytes/1000+10 {
			t.Errorf("%d lines of 1,000 bytes are held", n-10)
		}
		close(o.block)
		synctest.Wait()
		l.Info("after")
		if !l.Close(time.Second) {
			t.Error("Close says that lines were left")
		}
		got := o.lines()
		if len(got) != n-10+2 {
			t.Fatalf("%d lines are written, want %d and two more", len(got), n-10)
		}
		for i, line := range got[:n-10] {
			if line != fmt.Sprintf("INFO msg=long n=%d text=%s", i, long) {
				t.Fatalf("line %d is %q", i, line)
			}
		}
		if tail := got[n-10:]; tail[0] != `WARN msg="log lines dropped" count=10` || tail[1] != "INFO msg=after" {
			t.Errorf("the last lines are %q", tail)
		}
	})
}

// Lines that are accepted again stand after the line that counts the lost ones.
func TestNoticeStandsInTheGap(t *testing.T) {
	t.Parallel()
	o := &output{room: -1, block: make(chan struct{})}
	w := newWriter(o, func(lost int64) []byte { return fmt.Appendf(nil, "level=%d lost\n", lost) })
	big := []byte("level=" + strings.Repeat("x", queueBytes-100) + "\n")
	for _, line := range [][]byte{big, big, big, []byte("level=small\n")} {
		_, _ = w.Write(line)
	}
	close(o.block)
	if !w.close(time.Minute) {
		t.Error("lines were left")
	}
	want(t, o, strings.Repeat("x", queueBytes-100), "2 lost", "small")
}

// A disk that is full for a while costs no line and cuts none.
func TestFullOutput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &output{room: 40}
		l := Open(Config{Out: o})
		l.Info("one")
		l.Info("two")
		synctest.Wait()
		time.Sleep(10 * retryInterval) //nolint:forbidigo // on the bubble's clock
		l.Info("three")
		o.setRoom(-1)
		time.Sleep(2 * retryInterval) //nolint:forbidigo // on the bubble's clock
		want(t, o, "INFO msg=one", "INFO msg=two", "INFO msg=three")
		if !l.Close(time.Second) || l.Dropped() != 0 {
			t.Errorf("%d lines are lost", l.Dropped())
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		out     *output
		flushed bool
		took    time.Duration
	}{
		{"healthy", &output{room: -1}, true, 0},
		{"failing", &output{room: 0}, false, 0},
		{"blocked", &output{block: make(chan struct{})}, false, 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if tc.out.block != nil { // a channel of this bubble
					tc.out.block = make(chan struct{})
					defer close(tc.out.block)
				}
				l := Open(Config{Out: tc.out})
				l.Info("last")
				begin := time.Now()
				if got := l.Close(3 * time.Second); got != tc.flushed {
					t.Errorf("Close says %t, want %t", got, tc.flushed)
				}
				if took := time.Since(begin); took != tc.took {
					t.Errorf("Close took %v, want %v", took, tc.took)
				}
				l.Info("too late")
				if l.Dropped() != 1 {
					t.Errorf("%d lines count as dropped, want the one after Close", l.Dropped())
				}
			})
		})
	}
}

var kinds = map[string]Kind{
	"refused": {More: "more refused", By: []string{"code"}},
	"failed":  {More: "more failed", By: []string{"code", "alias"}},
	"panic":   {More: "more panics"},
}

func TestLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		level slog.Level
		log   func(l *slog.Logger)
		want  []string
	}{
		{"by code", slog.LevelInfo, func(l *slog.Logger) {
			for range 4 {
				l.Info("refused", "code", "a", "alias", "shop")
			}
			for range 4 {
				l.Info("refused", "code", "a", "alias", "blog")
			}
			l.Info("refused", "code", "b")
		}, slices.Concat(
			times(4, "INFO msg=refused code=a alias=shop"), times(1, "INFO msg=refused code=a alias=blog"),
			times(1, "INFO msg=refused code=b"), times(1, `INFO msg="more refused" code=a count=3`),
		)},
		{"by code and alias", slog.LevelInfo, func(l *slog.Logger) {
			for range 7 {
				l.Warn("failed", "alias", "shop", "code", "a")
			}
			for range 6 {
				l.Warn("failed", "alias", "blog", "code", "a")
			}
		}, slices.Concat(
			times(5, "WARN msg=failed alias=shop code=a"), times(5, "WARN msg=failed alias=blog code=a"),
			times(1, `WARN msg="more failed" code=a alias=blog count=1`), times(1, `WARN msg="more failed" code=a alias=shop count=2`),
		)},
		{"without attributes", slog.LevelInfo, func(l *slog.Logger) {
			for range 7 {
				l.Error("panic")
			}
		}, append(times(5, "ERROR msg=panic"), `ERROR msg="more panics" count=2`)},
		{"through With", slog.LevelInfo, func(l *slog.Logger) {
			for range 7 {
				l.With("a", 1).WithGroup("g").Error("panic")
			}
		}, append(times(5, "ERROR msg=panic a=1"), `ERROR msg="more panics" count=2`)},
		{"exactly the limit", slog.LevelInfo, func(l *slog.Logger) {
			for range LinesPerSecond {
				l.Error("panic")
			}
		}, times(5, "ERROR msg=panic")},
		{"without the first attribute", slog.LevelInfo, func(l *slog.Logger) {
			for range 7 {
				l.Info("refused")
			}
		}, times(7, "INFO msg=refused")},
		{"another message", slog.LevelInfo, func(l *slog.Logger) {
			for range 7 {
				l.Info("audit")
			}
		}, times(7, "INFO msg=audit")},
		{"at debug level", slog.LevelDebug, func(l *slog.Logger) {
			for range 7 {
				l.Error("panic")
			}
		}, times(7, "ERROR msg=panic")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &output{room: -1}
				l := Open(Config{Out: o, Level: tc.level, Limited: kinds})
				defer l.Close(time.Second)
				tc.log(l.Logger)
				time.Sleep(window) //nolint:forbidigo // on the bubble's clock: the report comes without another line
				synctest.Wait()
				want(t, o, tc.want...)
				if want := suppressed(tc.want); l.Suppressed() != want {
					t.Errorf("Suppressed is %d, the lines count %d", l.Suppressed(), want)
				}
			})
		})
	}
}

func times(n int, line string) []string { return slices.Repeat([]string{line}, n) }

// suppressed is the sum of the counts of lines.
func suppressed(lines []string) (sum int64) {
	for _, line := range lines {
		if _, text, ok := strings.Cut(line, " count="); ok {
			n, _ := strconv.ParseInt(text, 10, 64)
			sum += n
		}
	}
	return sum
}

// Each second has its own lines and its own report, and Close reports the last one.
func TestWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &output{room: -1}
		l := Open(Config{Out: o, Limited: kinds})
		for _, n := range []int{7, 3, 6} {
			for range n {
				l.Error("panic")
			}
			if n != 6 {
				time.Sleep(window) //nolint:forbidigo // on the bubble's clock
			}
		}
		l.Close(time.Second)
		line := "ERROR msg=panic"
		want(t, o, line, line, line, line, line, `ERROR msg="more panics" count=2`,
			line, line, line, line, line, line, line, line, `ERROR msg="more panics" count=1`)
	})
}

// Aliases cannot make the number of lines grow without bound.
func TestKindsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &output{room: -1}
		l := Open(Config{Out: o, Limited: kinds})
		for i := range 10_000 {
			l.Warn("failed", "code", "a", "alias", i)
		}
		l.limiter.mu.Lock()
		if n := len(l.limiter.seen); n > maxKinds+1 {
			t.Errorf("%d kinds are held", n)
		}
		l.limiter.mu.Unlock()
		time.Sleep(window) //nolint:forbidigo // on the bubble's clock
		l.Close(time.Second)
		got := o.lines()
		if len(got) > maxKinds+LinesPerSecond+1 {
			t.Errorf("%d lines are written", len(got))
		}
		if last := got[len(got)-1]; last != fmt.Sprintf(`WARN msg="more failed" code=a count=%d`, 10_000-maxKinds-LinesPerSecond) {
			t.Errorf("the last line is %q", last)
		}
	})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	o := &output{room: -1}
	l := Open(Config{Out: o, JSON: true})
	l.Info("one", "n", 1)
	l.Close(time.Minute)
	if got := o.text.String(); !strings.Contains(got, `"msg":"one","n":1}`) {
		t.Errorf("the log has %s", got)
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	o := &output{room: -1}
	l := Open(Config{Out: o, Level: slog.LevelWarn})
	l.Info("one")
	l.Warn("two")
	l.Close(time.Minute)
	want(t, o, "WARN msg=two")
}

// A line that comes while another is being written does not change it: the two are in
// different buffers, also after the queue was empty.
func TestLinesDuringWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &output{room: -1}
		l := Open(Config{Out: o})
		l.Info("first")
		synctest.Wait()
		block := make(chan struct{})
		o.block = block
		l.Info("second")
		synctest.Wait() // the output has it, and blocks
		l.Info("other line")
		l.Info("and another one")
		close(block)
		l.Close(time.Second)
		want(t, o, "INFO msg=first", "INFO msg=second", `INFO msg="other line"`, `INFO msg="and another one"`)
	})
}
