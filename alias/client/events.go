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
	var name string
	var data []string
	first := true
	for lines.Scan() {
		line := lines.Text()
		if first {
			line, first = strings.TrimPrefix(line, "\ufeff"), false
		}
		if line == "" {
			if data != nil {
				e := Event{Name: name, Data: []byte(strings.Join(data, "\n"))}
				if e.Name == "" {
					e.Name = "message"
				}
				if err := each(e); err != nil {
					return err
				}
			}
			name, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":") // a comment has no name
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			name = value
		case "data":
			data = append(data, value)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", errRead, err)
	}
	return nil
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
