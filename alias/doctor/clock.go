package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// AWS refuses signatures that are more than five minutes (STS, IAM) or fifteen (S3) off.
const (
	clockWarning = time.Minute
	clockBad     = 4 * time.Minute
)

// clockReading is the Date of an answer, and how far the clock of this host was ahead of it.
type clockReading struct {
	server string
	ahead  time.Duration
}

// readClock returns an option of a client that compares the clock with the Date of each answer.
func (e *examination) readClock(server string) func(*middleware.Stack) error {
	read := func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp.Response != nil {
			if at, bad := http.ParseTime(resp.Header.Get("Date")); bad == nil {
				e.mu.Lock()
				e.clocks = append(e.clocks, clockReading{server, e.cfg.Now().Sub(at)})
				e.mu.Unlock()
			}
		}
		return out, metadata, err
	}
	return func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("ReadClock", read), middleware.After)
	}
}

// clock makes the finding from the answer whose Date differs least: one server with a wrong clock
// must not speak for all.
func (e *examination) clock() {
	const subject = "the clock of this host"
	if len(e.clocks) == 0 {
		e.notTried(Clock, subject, "no server gave an answer with a date", "")
		return
	}
	best := slices.MinFunc(e.clocks, func(a, b clockReading) int { return cmp.Compare(a.ahead.Abs(), b.ahead.Abs()) })
	off := best.ahead.Abs().Truncate(time.Second)
	how := "ahead of"
	if best.ahead < 0 {
		how = "behind"
	}
	detail := fmt.Sprintf("it is %s %s that of %s", off, how, best.server)
	const remedy = "synchronize the clock of this host (NTP)"
	switch {
	case off < clockWarning:
		e.good(Clock, subject, detail)
	case off < clockBad:
		e.add(Finding{Clock, Warning, subject, detail + ": signatures that are five minutes off are refused", remedy})
	default:
		e.add(Finding{Clock, Bad, subject, detail + ": AWS refuses signatures that are more than five minutes off", remedy})
	}
}
