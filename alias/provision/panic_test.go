package provision

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// trap is a log that panics at the lines that a test names.
type trap struct {
	sprung chan struct{} // gets what there is room for when it panics

	mu    sync.Mutex // guards the fields below
	at    string     // a part of the line; empty: never
	lines bytes.Buffer
}

func (l *trap) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.Write(line)
	if l.at != "" && bytes.Contains(line, []byte(l.at)) && !bytes.Contains(line, []byte("panic")) {
		select {
		case l.sprung <- struct{}{}:
		default:
		}
		panic("trapped")
	}
	return len(line), nil
}

func (l *trap) set(at string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
}

func (l *trap) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.lines.String(), text)
}

// trapped makes a process with a log that panics where the test wants it.
func (w *env) trapped(edit ...func(*Config)) (*process, *trap) {
	l := &trap{}
	w.edit = func(cfg *Config) {
		cfg.Log = slog.New(slog.NewTextHandler(l, nil))
		for _, fn := range edit {
			fn(cfg)
		}
	}
	return w.start(), l
}

// noS3 has no client for a key; the unsigned one for the bucket is there.
func noS3(cfg *Config) {
	unsigned := cfg.S3
	cfg.S3 = func(at alias.Location, kp alias.KeyPair) *s3.Client {
		if kp == (alias.KeyPair{}) {
			return unsigned(at, kp)
		}
		panic("no client")
	}
}

// TestPanicInStep: a step that panics fails its operation, which is undone.
func TestPanicInStep(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		setUp  func(*process)
		begin  func(*process, context.Context) (*alias.Operation, error)
		step   string
		served []alias.Name
	}{
		{"provision", func(*process) {}, provisionWith("shop"), "verify", nil},
		{"provision managed", func(*process) {}, provisionWith("shop", withPolicy(alias.PolicyManaged)), "verify", nil},
		{"reuse", hasShop(alias.PolicyInline), provisionWith("blog", reusing("shop")), "verify", []alias.Name{"shop"}},
		{"rotate", hasShop(alias.PolicyInline), rotateShop(false), "verify", []alias.Name{"shop"}},
		{
			"remove", func(p *process) { hasShop(alias.PolicyInline)(p); p.deleteAlias("shop") },
			func(p *process, ctx context.Context) (*alias.Operation, error) {
				return p.Remove(ctx, actor, "shop", 0)
			},
			"probe-refused", nil,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			row.setUp(w.start())
			p, log := w.trapped(noS3)
			why := p.mustFail(row.begin(p, t.Context()))
			wantCode(t, why, codeInternal)
			if why.Step != row.step || !log.has("panic in the background") || !log.has("noS3") {
				t.Errorf("got %+v, want step %s and the stack in the log", why, row.step)
			}
			w.edit = nil
			p = w.start()
			p.quiet()
			p.wantServed(row.served...)
			if row.name == "remove" {
				p.mustSucceed(row.begin(p, t.Context()))
			}
			w.wantOwned(p, row.served)
		})
	}
}

// TestPanicInUndo: an operation ends even if its undo panics, and a later reconcile
// removes what it made.
func TestPanicInUndo(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		setUp  func(*process)
		begin  func(*process, context.Context) (*alias.Operation, error)
		at     string
		served []alias.Name
	}{
		{"provision", func(*process) {}, provisionWith("shop"), "iam:DeleteUserPolicy", nil},
		{"reuse", hasShop(alias.PolicyManaged), provisionWith("blog", withPolicy(alias.PolicyManaged), reusing("shop")), "iam:DetachUserPolicy", []alias.Name{"shop"}},
		{"rotate", hasShop(alias.PolicyInline), rotateShop(false), "iam:DeleteAccessKey", []alias.Name{"shop"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			row.setUp(w.start())
			p, log := w.trapped(noS3)
			log.set("action=" + row.at)
			wantCode(t, p.mustFail(row.begin(p, t.Context())), codeInternal)
			if !log.has("trapped") {
				t.Error("nothing panicked while the operation was undone")
			}
			w.edit = nil
			p = w.start()
			p.quiet()
			p.wantServed(row.served...)
			w.wantOwned(p, row.served)
		})
	}
}

// panicking is a recorder that panics at the end of an operation and of a scan.
type panicking struct{ recorder }

func (*panicking) Operation(string, string) { panic("no metrics") }

func (*panicking) Orphans(int) { panic("no metrics") }

// TestPanicAtEnd: an operation whose end is stored is done and is not undone, even if
// code after that panics.
func TestPanicAtEnd(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p, log := w.trapped(func(cfg *Config) { cfg.Recorder = &panicking{} })
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop")))
	p.wantServed("shop")
	if !log.has("no metrics") {
		t.Error("nothing panicked")
	}
}

// TestPanicInCompletion: what panics before the end of an operation is stored fails it.
func TestPanicInCompletion(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p, _ := w.trapped()
	var once sync.Once
	clock := &hookedClock{Clock: w.clock}
	clock.now = func() {
		op, err := w.store.Operations(context.Background(), alias.OperationFilter{Alias: "shop", Limit: 1})
		if err != nil || len(op) == 0 {
			return
		}
		if last := op[0].Steps[len(op[0].Steps)-1]; last.Name == "open" && last.State == alias.StepRunning && op[0].State == alias.OperationRunning {
			once.Do(func() { panic(fmt.Sprint("at ", last.Name)) })
		}
	}
	p.clock = clock
	why := p.mustFail(p.Provision(t.Context(), actor, w.request("shop")))
	wantCode(t, why, codeInternal)
	p.quiet()
	w.wantOwned(p, nil)
}

// hookedClock calls now whenever it is read.
type hookedClock struct {
	Clock
	now func()
}

func (c *hookedClock) Now() time.Time {
	c.now()
	return c.Clock.Now()
}

// TestPanicInBackground: the schedule, reconcile and everything else continue after a
// panic.
func TestPanicInBackground(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	first := w.start()
	first.mustSucceed(first.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.RotateEvery = time.Hour })))
	w.clock.advance(2 * time.Hour)
	log := &trap{at: "actor=schedule action=rotate", sprung: make(chan struct{}, 1)}
	p, clock := w.running(func(cfg *Config) {
		cfg.Recorder, cfg.Log = &panicking{}, slog.New(slog.NewTextHandler(log, nil))
	})
	<-log.sprung
	op, err := p.Provision(t.Context(), actor, w.request("blog"))
	if err != nil {
		t.Fatal(err)
	}
	ended, err := p.Wait(t.Context(), op.ID)
	if err != nil || ended.State != alias.OperationDone {
		t.Errorf("got %+v, %v", ended, err)
	}
	<-clock.soaking // the rotation whose beginning panicked runs all the same
}
