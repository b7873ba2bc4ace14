package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// bar is a progress bar on a terminal; elsewhere it prints nothing.
type bar struct {
	term  terminal
	what  string
	total int
	done  int
	drawn time.Time
	wide  bool // something is drawn
	// text formats a number of pieces.
	text func(n int) string
}

// redrawEvery is the time between two drawings, so that drawing costs nothing.
const redrawEvery = 100 * time.Millisecond

// bar begins a progress bar of total pieces. It appears when the work takes longer than
// redrawEvery.
func (t terminal) bar(what string, total int) *bar {
	return &bar{term: t, what: what, total: total, drawn: time.Now(), text: strconv.Itoa}
}

// Write counts the bytes of p as pieces.
func (b *bar) Write(p []byte) (int, error) {
	b.add(len(p))
	return len(p), nil
}

// add counts pieces that are done.
func (b *bar) add(n int) {
	b.done += n
	if !b.term.redraws || time.Since(b.drawn) < redrawEvery {
		return
	}
	b.drawn, b.wide = time.Now(), true
	const cells = 30
	full := cells * b.done / max(b.total, 1)
	fmt.Fprintf(b.term.err, "\r%s [%s%s] %s/%s\x1b[K",
		b.what, strings.Repeat("#", full), strings.Repeat("-", cells-full), b.text(b.done), b.text(b.total))
}

// end removes the bar.
func (b *bar) end() {
	if b.wide {
		fmt.Fprint(b.term.err, "\r\x1b[K")
	}
}
