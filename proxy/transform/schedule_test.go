package transform

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestQueue: the last job of the longest line has to go, that of the newcomer among equal ones,
// and lines take turns.
func TestQueue(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, pushed, gone, order string }{
		{"one owner", "a1 a2 a3 a4 a5", "a5", "a1 a2 a3 a4"},
		{"takes places", "a1 a2 a3 a4 b1 b2", "a4 a3", "a1 b1 a2 b2"},
		{"no more than its share", "a1 a2 a3 a4 b1 b2 b3", "a4 a3 b3", "a1 b1 a2 b2"},
		{"three owners", "a1 a2 a3 a4 b1 c1", "a4 a3", "a1 b1 c1 a2"},
		{"many owners", "a1 b1 c1 d1 e1", "e1", "a1 b1 c1 d1"},
		{"turns", "a1 a2 b1 a3", "", "a1 b1 a2 a3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			q := queue{max: 4}
			names := map[*waiting]string{}
			var gone, order []string
			for name := range strings.FieldsSeq(tc.pushed) {
				w := &waiting{owner: int64(name[0])}
				names[w] = name
				q.push(w)
				if last := q.overflow(w); last != nil {
					gone = append(gone, names[last])
				}
			}
			for len(q.lines) > 0 {
				order = append(order, names[q.pop(q.lines[0])])
			}
			if got := strings.Join(gone, " "); got != tc.gone {
				t.Errorf("%q have to go, want %q", got, tc.gone)
			}
			if got := strings.Join(order, " "); got != tc.order || q.n != 0 {
				t.Errorf("order %q, want %q; %d are left", got, tc.order, q.n)
			}
		})
	}
}

// TestQueueProperty: no job is lost or doubled, no line is empty, and no owner loses a job while
// it has at most its share.
func TestQueueProperty(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		q := queue{max: 1 + r.IntN(12)}
		inside := map[*waiting]bool{}
		for range 200 {
			switch r.IntN(3) {
			case 0:
				if len(q.lines) > 0 {
					l := q.lines[r.IntN(len(q.lines))]
					delete(inside, q.pop(l))
				}
			case 1:
				for w := range inside {
					if !q.remove(w) || q.remove(w) {
						t.Fatal("a waiting job cannot be removed once")
					}
					delete(inside, w)
					break
				}
			}
			w := &waiting{owner: r.Int64N(4)}
			q.push(w)
			inside[w] = true
			if last := q.overflow(w); last != nil {
				left := 0
				for _, l := range q.lines {
					if l.owner == last.owner {
						left = len(l.jobs)
					}
				}
				if left < q.max/4 || !inside[last] {
					t.Fatalf("owner %d lost a job, and has %d of %d", last.owner, left, q.max)
				}
				delete(inside, last)
			}
			total := 0
			for _, l := range q.lines {
				if total += len(l.jobs); len(l.jobs) == 0 {
					t.Fatal("a line is empty")
				}
			}
			if total != len(inside) || q.n != total || total > q.max {
				t.Fatalf("%d jobs, %d counted, %d expected", total, q.n, len(inside))
			}
		}
	}
}

// run starts a job, and sends its name when it has ended, with a mark if it failed.
func run(ctx context.Context, p *Pool, done chan<- string, name string, j Job) {
	go func() {
		_, err := p.Do(ctx, j)
		switch {
		case errors.Is(err, ErrOverloaded):
			name += " overloaded"
		case err != nil:
			name += " " + err.Error()
		}
		done <- name
	}()
}

// TestFair: an owner that fills the queue does not keep another one out, and gives its worker
// away after its turn. The pool says that it is busy.
func TestFair(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	cfg.tune.turn = 1
	p := startFakes(t, cfg)
	done := make(chan string, 9)
	first, g := gated(command(1, "ok -", 0))
	run(t.Context(), p, done, "a0", first)
	<-g.begun
	begun := make(chan string, 9)
	push := func(name string, owner int64, queued int) {
		j := command(owner, "ok -", 0)
		note, r := sync.OnceFunc(func() { begun <- name }), j.Source.Reader
		j.Source.Reader = readFunc(func(b []byte) (int, error) {
			note()
			return r.Read(b)
		})
		run(t.Context(), p, done, name, j)
		if queued > 0 {
			e.until(func() bool { return p.Stats().Queued == queued })
		}
	}
	if p.Busy() {
		t.Error("busy without a waiting job")
	}
	push("a1", 1, 1)
	if !p.Busy() {
		t.Error("not busy with half of the queue full")
	}
	push("a2", 1, 2)
	push("a3", 1, 0)
	if got := <-done; got != "a3 overloaded" {
		t.Fatalf("%s, want a3 to be refused", got)
	}
	push("b1", 2, 0)
	if got := <-done; got != "a2 overloaded" {
		t.Fatalf("%s, want a2 to be refused for b1", got)
	}
	push("c1", 3, 0)
	if got := <-done; got != "c1 overloaded" {
		t.Fatalf("%s, want c1 to be refused: each of two has one place", got)
	}
	e.until(func() bool { return p.Stats().Spares == 1 })
	close(g.open)
	for range 3 {
		if got := <-done; strings.Contains(got, " ") {
			t.Error(got)
		}
	}
	// The turn of the first owner is over after a0, and a1 was there before b1.
	if order, want := []string{<-begun, <-begun}, []string{"a1", "b1"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
	if got := e.outcomes(); got != "map[ok:3 overloaded:3]" {
		t.Errorf("outcomes %s", got)
	}
}

type readFunc func(b []byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// TestTurn: a worker goes on with its owner until its turn is over, and then others come first.
func TestTurn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		turn time.Duration
		want string
		ends string
	}{
		{time.Hour, "a0 a1 a2 b1", "map[owner:1]"},
		{1, "a0 b1 a1 a2", "map[owner:2]"},
	} {
		t.Run(tc.turn.String(), func(t *testing.T) {
			t.Parallel()
			cfg, e := fakeConfig(t, "ok")
			cfg.tune.turn = tc.turn
			p := startFakes(t, cfg)
			p.queue.max = 9
			done, begun := make(chan string), make(chan string, 4)
			first, g := gated(command(1, "ok -", 0))
			run(t.Context(), p, done, "a0", first)
			<-g.begun
			begun <- "a0"
			for i, name := range []string{"b1", "a1", "a2"} {
				j := command(int64(name[0]-'a'+1), "ok -", 0)
				note := sync.OnceFunc(func() { begun <- name })
				read := j.Source.Reader
				j.Source.Reader = readFunc(func(b []byte) (int, error) {
					note()
					return read.Read(b)
				})
				run(t.Context(), p, done, name, j)
				e.until(func() bool { return p.Stats().Queued == i+1 })
			}
			e.until(func() bool { return p.Stats().Spares == 1 })
			close(g.open)
			var order []string
			for range 4 {
				<-done
				order = append(order, <-begun)
			}
			if got := strings.Join(order, " "); got != tc.want {
				t.Errorf("order %q, want %q", got, tc.want)
			}
			e.until(func() bool { return e.ended() == tc.ends }) // the last one may still be dying
		})
	}
}

// TestOwners: a worker never works for two owners, whatever ends workers and jobs meanwhile.
func TestOwners(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	cfg.Workers, cfg.tune.jobs, cfg.tune.turn = 3, 2, 1
	p := startFakes(t, cfg)
	p.queue.max = 100
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range 25 {
				owner := 1 + r.Int64N(5)
				ctx, cancel := context.WithCancel(t.Context())
				if n%8 == 3 {
					time.AfterFunc(time.Duration(r.IntN(2000))*time.Microsecond, cancel)
				}
				words := fmt.Sprintf("owner %d", owner)
				if n%12 == 7 {
					words = fmt.Sprintf("exit %d", i*100+n)
				}
				result, err := p.Do(ctx, command(owner, words, 0))
				cancel()
				if err == nil && result.Body[0] != 1 {
					t.Errorf("a worker has seen %d owners", result.Body[0])
				}
			}
		})
	}
	all.Wait()
	if s := p.Stats(); s.Busy != 0 || s.Queued != 0 {
		t.Errorf("%+v after all jobs", s)
	}
	for _, reason := range []string{EndJobs, EndCrash} { // for EndOwner, a spare must be ready in time
		if !strings.Contains(e.ended(), reason) {
			t.Errorf("no worker ended for %s: %s", reason, e.ended())
		}
	}
}

// TestReplaced: a worker is replaced after many jobs, and when it has become large.
func TestReplaced(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	cfg.tune.jobs = 3
	p := startFakes(t, cfg)
	pids := map[int]int{}
	for range 9 {
		r, err := p.Do(t.Context(), command(1, "pid -", 0))
		pids[number(t, r, err)]++
	}
	if len(pids) != 3 {
		t.Errorf("9 jobs in these processes: %v; want 3 in each", pids)
	}
	e.until(func() bool { return e.ended() == "map[jobs:3]" })

	cfg, e = fakeConfig(t, "ok")
	cfg.tune.resident = 256 << 20
	p = startFakes(t, cfg)
	for _, words := range []string{"resident 1", "resident 300", "ok -"} {
		if _, err := p.Do(t.Context(), command(1, words, 0)); err != nil {
			t.Fatal(err)
		}
		if words == "resident 1" && e.ended() != "map[]" {
			t.Errorf("a small worker ended: %s", e.ended())
		}
	}
	e.until(func() bool { return e.ended() == "map[memory:1]" })
}

// TestKillerInQueue: a job that waits while its picture kills a worker is not tried.
func TestKillerInQueue(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	done := make(chan string)
	first, g := gated(command(1, "exit 1", 0))
	run(t.Context(), p, done, "first", first)
	<-g.begun
	run(t.Context(), p, done, "second", command(1, "exit 1", 0))
	e.until(func() bool { return p.Stats().Queued == 1 })
	close(g.open)
	got := []string{<-done, <-done}
	slices.Sort(got)
	if want := []string{"first " + ErrCrashed.Error(), "second " + ErrRemembered.Error()}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := p.Do(t.Context(), command(2, "exit 1", 0)); !errors.Is(err, ErrCrashed) {
		t.Errorf("another owner's picture of the same ID: %v", err)
	}
	if e.outcomes() != "map[crashed:2 refused:1]" {
		t.Error(e.outcomes())
	}
}
