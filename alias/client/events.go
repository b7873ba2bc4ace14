package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Event is a server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type Event struct {
	Name string // message if the server names none
	Data []byte
}

// Events calls each for every event of a stream, until it ends or each returns an error.
// A stream that breaks off is an *UnreachableError.
func (c *Client) Events(ctx context.Context, path string, each func(Event) error) error {
	resp, err := c.send(ctx, Request{Path: path}, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !isType(resp, "text/event-stream") {
		return c.notAPI(resp)
	}
	err = readEvents(resp.Body, each)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errRead):
		return c.broken(err)
	}
	return err
}

var errRead = errors.New("read the events")

// maxEvent bounds a line; an operation has some KiB.
const maxEvent = 4 << 20

// readEvents parses a stream. An event without its empty line is not complete, and is
// dropped.
func readEvents(r io.Reader, each func(Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	lines.Split(splitLine)
	var p partial
	for first := true; lines.Scan(); first = false {
		line := lines.Text()
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if line != "" {
			p.add(line)
			continue
		}
		e, ok := p.event()
		p = partial{}
		if !ok {
			continue
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	return nil
}

// partial are the lines of an event so far.
type partial struct {
	name string
	data []string
}

func (p *partial) add(line string) {
	field, value, _ := strings.Cut(line, ":") // a comment has no name
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		p.name = value
	case "data":
		p.data = append(p.data, value)
	}
}

// event returns the event, if the lines have data.
func (p *partial) event() (Event, bool) {
	e := Event{Name: p.name, Data: []byte(strings.Join(p.data, "\n"))}
	if e.Name == "" {
		e.Name = "message"
	}
	return e, p.data != nil
}

// splitLine splits at CR, LF or CRLF.
func splitLine(data []byte, atEOF bool) (advance int, token []byte, err error) {
	for i, b := range data {
		switch {
		case b == '\n':
			return i + 1, data[:i], nil
		case b == '\r' && i+1 < len(data) && data[i+1] == '\n':
			return i + 2, data[:i], nil
		case b == '\r' && (i+1 < len(data) || atEOF):
			return i + 1, data[:i], nil
		}
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
