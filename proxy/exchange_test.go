package proxy

import (
	"io"
	"slices"
	"testing"
	"time"
)

// meter keeps the outcomes of requests.
type meter struct {
	Recorder
	outcomes []Outcome
	inFlight int
	counted  []int // outcomes, each time that no request is in flight any more
}

func (m *meter) Series(string) Series { return m }

func (*meter) Saved(Saving, int64, int64) {}
func (*meter) SignatureCheck(string)      {}

func (m *meter) Shared() bool      { return false }
func (m *meter) Request(o Outcome) { m.outcomes = append(m.outcomes, o) }

func (m *meter) InFlight(delta int) {
	m.inFlight += delta
	if m.inFlight == 0 {
		m.counted = append(m.counted, len(m.outcomes))
	}
}

// texts is a connection on which one text after the other arrives; it notes when
// the last one does.
type texts struct {
	replay
	list []string
	last time.Time
}

func (c *texts) Read(p []byte) (int, error) {
	if len(c.list) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.list[0])
	c.list, c.last = c.list[1:], time.Now()
	return n, nil
}

// TestCountedInFlight: a request is in flight until it is counted. Who sees that none is in
// flight sees complete counters.
func TestCountedInFlight(t *testing.T) {
	t.Parallel()
	p := newTestProxy(t, 100)
	m := &meter{Recorder: p.rec}
	p.rec, p.unknown, p.series = m, m, newSeriesTable(m, func(string) bool { return true })
	const ask = "GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n"
	must(t, p.app.Server().ServeConn(&texts{list: []string{ask, ask}}))
	if want := []int{1, 2}; !slices.Equal(m.counted, want) {
		t.Errorf("%d outcomes are counted when none is in flight, want %d", m.counted, want)
	}
}

// What could not be read has taken no longer than since it came, whatever was
// before it on its connection.
func TestDurationOfUnreadable(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no HTTP":         "garbage\r\n\r\n",
		"an expectation":  "GET /shop/a.png HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
		"another request": "GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newTestProxy(t, 100)
			m := &meter{Recorder: p.rec}
			p.unknown, p.series = m, newSeriesTable(m, func(string) bool { return true })
			conn := &texts{list: []string{"GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n", text}}
			_ = p.app.Server().ServeConn(conn) // it tells what it could not read
			if len(m.outcomes) != 2 {
				t.Fatalf("%d outcomes, want 2", len(m.outcomes))
			}
			if took, most := m.outcomes[1].Duration, time.Since(conn.last); took > most || took <= 0 {
				t.Errorf("it took %s of %s", took, most)
			}
		})
	}
}
