package transform

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ixmage/internal/awstest/picture"
)

// startReal starts a pool of real workers, or skips the test.
func startReal(t *testing.T, cfg Config) (*Pool, *events) {
	t.Helper()
	cfg.Path = filepath.Join("..", "..", "bin", "ixmage-worker")
	if _, err := os.Stat(cfg.Path); err != nil {
		t.Skip("!!!!! ABSENT: bin/ixmage-worker; build it with make worker. The real worker is not tested !!!!!")
	}
	e := newEvents()
	cfg.Recorder = e
	cfg.tune.changed = func() { e.note(func() {}) }
	cfg.tune.scheduled = noWait
	cfg.Timeout, cfg.tune.start, cfg.tune.dying = time.Minute, time.Minute, time.Minute // no limit decides a test
	return startFakes(t, cfg), e
}

// samples are drawn once: it takes a second.
var samples = sync.OnceValue(picture.Samples)

func sample(t *testing.T, name string) []byte {
	t.Helper()
	all := samples()
	i := slices.IndexFunc(all, func(s picture.Sample) bool { return s.Name == name })
	return all[i].Body
}

// blob is a picture as the proxy has it.
func blob(body []byte) Blob {
	return Blob{Header: Sniff(body), ID: "test", Size: int64(len(body)), Reader: bytes.NewReader(body)}
}

// TestReal: the real worker's answers pass every check, for all formats, fits and turns, and it
// is replaced for none of them.
func TestReal(t *testing.T) {
	t.Parallel()
	p, e := startReal(t, Config{Workers: 2})
	sources := map[string][]byte{}
	for _, name := range []string{"morning.png", "noon.jpg", "day.gif", "dusk.webp"} {
		sources[name] = sample(t, name)
	}
	do := func(body []byte, task Task) (*Result, error) {
		return p.Do(t.Context(), Job{Owner: 1, Task: task, Source: blob(body)})
	}
	for output := JPEG; output <= Raw; output++ {
		for name, body := range sources {
			r, err := do(body, Task{Output: output, Quality: 60, Width: 61, Animate: output.animates()})
			if err != nil {
				t.Errorf("%s to %s: %v", name, output, err)
				continue
			}
			frames := 1
			if name == "day.gif" && output.animates() {
				frames = Sniff(body).Frames
			}
			if r.Width != 61 || r.Frames != frames || r.Wall < r.Decode+r.Encode {
				t.Errorf("%s to %s: width %d, %d frames, %s of %s", name, output, r.Width, r.Frames, r.Decode+r.Encode, r.Wall)
			}
			if output == AVIF && name == "noon.jpg" { // and back
				if _, err = do(r.Body, Task{Output: PNG, Height: 20}); err != nil {
					t.Errorf("avif to png: %v", err)
				}
			}
		}
	}
	for fit := FitNone; fit <= Outside; fit++ {
		for _, size := range [][2]int{{97, 0}, {0, 97}, {97, 61}, {61, 97}, {997, 613}, {0, 0}} {
			for turn := range 4 {
				task := Task{Output: PNG, Fit: fit, Width: size[0], Height: size[1], Rotate: turn, Crop: Rect{33, 11, 211, 1000}}
				if _, err := do(sources["noon.jpg"], task); err != nil {
					t.Errorf("%+v: %v", task, err)
				}
			}
		}
	}
	for want, err := range map[Refusal]error{
		Broken:         second(do(sources["noon.jpg"][:20000], Task{Output: PNG})),
		CropOutside:    second(do(sources["noon.jpg"], Task{Output: PNG, Crop: Rect{640, 0, 1, 1}})),
		ResultTooLarge: second(do(sources["noon.jpg"], Task{Output: PNG, Width: 8000, Height: 8000, Fit: Fill})),
	} {
		if refused := (*RefusedError)(nil); !errors.As(err, &refused) || refused.Why != want {
			t.Errorf("got %v, want %v", err, &RefusedError{Why: want})
		}
	}
	if got := e.ended(); got != "map[]" {
		t.Errorf("workers ended: %s", got)
	}
}

// TestRealColours: colours by numbers count, in a PNG and in an AVIF.
func TestRealColours(t *testing.T) {
	t.Parallel()
	p, _ := startReal(t, Config{Workers: 1})
	do := func(source Blob, output Format) []byte {
		t.Helper()
		r, err := p.Do(t.Context(), Job{Owner: 1, Task: Task{Output: output, Quality: 95}, Source: source})
		if err != nil {
			t.Fatal(err)
		}
		return r.Body
	}
	red := picture.Solid(40, 30, color.NRGBA{234, 51, 35, 255})
	chunk := "\x00\x00\x00\x04cICP\x0c\x0d\x00\x01" // Display P3
	chunk += string(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(chunk[4:]))))
	numbered := blob(slices.Concat(red[:33], []byte(chunk), red[33:]))
	still := blob(do(blob(red), AVIF))
	still.Colours = Colours{12, 13} // as TestSniffAVIF finds them
	for name, source := range map[string]Blob{"PNG": numbered, "AVIF": still} {
		if got := do(source, Raw); got[0] < 250 || got[1] > 5 || got[2] > 5 {
			t.Errorf("%s: %v, want red", name, got[:3])
		}
	}
}

func second(_ *Result, err error) error { return err }

// TestRealMark: a watermark follows the source, and its failure is none of the server's.
func TestRealMark(t *testing.T) {
	t.Parallel()
	p, _ := startReal(t, Config{Workers: 1})
	plain, marked := blob(sample(t, "noon.jpg")), blob(sample(t, "noon.jpg"))
	mark := blob(sample(t, "morning.png"))
	task := Task{Output: Raw, Width: 100, MarkGravity: SouthEast, MarkOpacity: 100, MarkScale: 50}
	without, err := p.Do(t.Context(), Job{Owner: 1, Task: task, Source: plain})
	if err != nil {
		t.Fatal(err)
	}
	with, err := p.Do(t.Context(), Job{Owner: 1, Task: task, Source: marked, Mark: &mark})
	if err != nil {
		t.Fatal(err)
	}
	if len(with.Body) != len(without.Body) || bytes.Equal(with.Body, without.Body) {
		t.Error("no watermark is to be seen")
	}
}

// TestRealDeadline: a real worker in the middle of a picture dies at its deadline.
func TestRealDeadline(t *testing.T) {
	t.Parallel()
	p, e := startReal(t, Config{Workers: 1})
	p.cfg.Timeout = 2 * time.Second // the source is sent by then, and the work takes longer
	j := Job{Owner: 1, Task: Task{Output: PNG, Width: 5000, Height: 5000, Fit: Fill, Blur: 100}, Source: blob(sample(t, "noon.jpg"))}
	_, err := p.Do(t.Context(), j)
	wantError(t, err, ErrTimeout)
	e.until(func() bool { return e.ended() == "map[deadline:1]" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = p.Do(ctx, Job{Owner: 2, Task: Task{Output: PNG}, Source: blob(sample(t, "noon.jpg"))})
	wantError(t, err, context.Canceled)
}

// TestRealMemory: a picture for which a real worker has too little address space gets an error,
// and the next one a result.
func TestRealMemory(t *testing.T) {
	t.Parallel()
	p, e := startReal(t, Config{Workers: 1, Memory: 128 << 20})
	body := picture.Solid(4900, 4900, color.NRGBA{A: 9})
	_, err := p.Do(t.Context(), Job{Owner: 1, Task: Task{Output: PNG, Rotate: 1}, Source: blob(body)})
	if err == nil {
		t.Error("24 million pixels were turned in 128 MiB")
	}
	if _, err = p.Do(t.Context(), Job{Owner: 1, Task: Task{Output: PNG, Width: 9}, Source: blob(sample(t, "dusk.webp"))}); err != nil {
		t.Errorf("the next job: %v", err)
	}
	t.Log(err, e.ended())
}
