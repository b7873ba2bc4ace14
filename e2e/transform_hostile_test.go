package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// noShare lets one client and one alias take all of the workers' time.
var noShare = []string{"--transform-alias-share", "100", "--transform-client-share", "100"}

// mutants is how many broken pictures are tried.
func mutants(t testing.TB) int {
	t.Helper()
	text := os.Getenv("IXMAGE_MUTANTS")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("IXMAGE_MUTANTS is %q, want a number", text)
	}
	return n
}

// TestTransformMutants breaks pictures of every format, of the corpus and real ones, and requests
// variants of them. Each answer is a valid picture or a refusal, and nothing else changes: the
// same process answers, and a neighbour gets its pictures.
func TestTransformMutants(t *testing.T) {
	t.Parallel()
	s := newStudio(t, noShare...)
	n := s.neighbour(t)
	watch := s.watch(t)
	seeds := append(picture.Seeds(), s.avifSeed(t))
	if images, err := filepath.Glob(filepath.Join("..", "..", "shared", "images", "*")); err == nil {
		for _, path := range images {
			if body := readFile(t, path); len(body) < 40<<10 && kinds[filepath.Ext(path)] != "" {
				seeds = append(seeds, picture.Sample{Name: filepath.Base(path), ContentType: kinds[filepath.Ext(path)], Body: body})
			}
		}
	}
	outcomes := make(map[string]int)
	const start = 16 // the seed of the first
	for i := range mutants(t) {
		seed := seeds[i%len(seeds)]
		r := rand.New(rand.NewPCG(start, uint64(i)))
		body := picture.Mutate(r, seed.Body)
		key := fmt.Sprintf("mutants/%d-%s", i, seed.Name)
		s.put(key, s3.Object{Body: body, ContentType: seed.ContentType})
		query := fmt.Sprintf("w=%d&f=%s", 1+r.IntN(200), []string{"auto", "jpeg", "png", "webp", "gif", "avif"}[r.IntN(6)])
		outcomes[s.isPictureOrRefused(t, key, query, body)]++
		if i%50 == 0 {
			n.ask(t, i)
		}
	}
	if outcomes["transformed"] == 0 || outcomes["422"] == 0 {
		t.Errorf("outcomes are %v, want some transformed and some refused", outcomes)
	}
	eventually(t, "every kill is counted", func() bool { return s.kills() == s.killedJobs() })
	t.Logf("%d broken pictures: %v; %v workers killed; %s", mutants(t), outcomes, s.kills(), watch.end(t))
	s.remainsWell(t, n)
}

// avifSeed is a small AVIF, which ixmage makes.
func (s *studio) avifSeed(t *testing.T) picture.Sample {
	t.Helper()
	c := picture.Corpus()[1]
	s.put(c.Name, s3.Object{Body: c.Body, ContentType: c.ContentType})
	r := s.patiently("/free/" + c.Name + "?w=100&f=avif")
	if r.StatusCode != http.StatusOK {
		t.Fatalf("make an AVIF: %s: %.200s", r.Status, r.body)
	}
	return picture.Sample{Name: "seed.avif", ContentType: "image/avif", Body: r.body}
}

// isPictureOrRefused requests a variant of a hostile object. It returns what came of it.
func (s *studio) isPictureOrRefused(t *testing.T, key, query string, source []byte) string {
	t.Helper()
	r := s.get("/free/" + key + "?" + query)
	switch {
	case r.err != nil:
		t.Errorf("%s?%s: the answer breaks off: %v", key, query, r.err)
		return "broken"
	case r.StatusCode == http.StatusOK && bytes.Equal(r.body, source):
		return "as stored"
	case r.StatusCode == http.StatusOK:
		d, err := s.decode(r.body)
		if err != nil || d.kind != r.Header.Get("Content-Type") {
			t.Errorf("%s?%s: the result is %s, declared as %s: %v", key, query, d.kind, r.Header.Get("Content-Type"), err)
		}
		return "transformed"
	case r.StatusCode == http.StatusUnprocessableEntity || r.StatusCode == http.StatusUnsupportedMediaType:
		return strconv.Itoa(r.StatusCode)
	case r.StatusCode == http.StatusServiceUnavailable: // the machine is too busy
		return "503"
	}
	t.Errorf("%s?%s: %s: %.200s", key, query, r.Status, r.body)
	return r.Status
}

// neighbour is another alias of the same server, with a good picture.
type neighbour struct {
	*studio
	key  string
	made int
	mu   sync.Mutex // guards made, hits and cold
	hits []time.Duration
	cold []time.Duration
}

func (s *studio) neighbour(t *testing.T) *neighbour {
	t.Helper()
	s.open("neighbour", "media", "neighbour/", map[string]any{"transforms": "open"})
	n := &neighbour{studio: s, key: "good.jpg"}
	s.s3.Put("media", "neighbour/good.jpg", s3.Object{Body: picture.Corpus()[12].Body, ContentType: "image/jpeg"})
	return n
}

// ask requests the original and a variant that no cache has, and checks the pictures.
func (n *neighbour) ask(t *testing.T, i int) {
	t.Helper()
	began := time.Now()
	original := n.get("/neighbour/" + n.key)
	hit := time.Since(began)
	width := 30 + i%60 // no more than the crop, or the result is smaller
	began = time.Now()
	variant := n.patiently(fmt.Sprintf("/neighbour/%s?w=%d&f=png&crop=0,0,%d,96", n.key, width, 128-i/60%30))
	cold := time.Since(began)
	if original.StatusCode != http.StatusOK || !bytes.Equal(original.body, picture.Corpus()[12].Body) {
		t.Errorf("the neighbour's original: %s, %d bytes", original.Status, len(original.body))
	}
	if variant.StatusCode != http.StatusOK {
		t.Errorf("the neighbour's variant: %s: %.200s", variant.Status, variant.body)
		return
	}
	d, err := n.decode(variant.body)
	if err != nil || d.size().X != width {
		t.Errorf("the neighbour's variant: %v, error %v, want a width of %d", d, err, width)
		return
	}
	got := color.NRGBAModel.Convert(d.frames[0].At(width/8, d.size().Y/8)).(color.NRGBA)
	if !near(got, picture.Corners[0], 16) {
		t.Errorf("the neighbour's variant begins with %v, want %v", got, picture.Corners[0])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made++
	n.hits, n.cold = append(n.hits, hit), append(n.cold, cold)
}

// report is how the neighbour fared.
func (n *neighbour) report() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.made == 0 {
		return "neighbour: no pictures"
	}
	slices.Sort(n.hits)
	slices.Sort(n.cold)
	at := func(list []time.Duration, part float64) time.Duration {
		return list[int(part*float64(len(list)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("neighbour: %d pictures, hits %s in the median, %s at most, cold variants %s and %s",
		n.made, at(n.hits, 0.5), at(n.hits, 1), at(n.cold, 0.5), at(n.cold, 1))
}

// remainsWell checks that the server is the one that was started and that it serves both aliases.
func (s *studio) remainsWell(t *testing.T, n *neighbour) {
	t.Helper()
	select {
	case <-s.process.Done():
		t.Fatal("the server has ended")
	default:
	}
	if strings.Contains(s.output(), "panic") {
		t.Errorf("the log tells of a panic: %s", lineWith(s.output(), "panic"))
	}
	n.ask(t, 7919)
	t.Log(n.report())
}

// kills counts workers that ended because of a picture.
func (s *studio) kills() (sum float64) {
	s.t.Helper()
	for series, v := range s.samples() {
		if strings.HasPrefix(series, "ixmage_transform_worker_kills_total{") &&
			regexp.MustCompile(`reason="(deadline|crash|answer|internal)"`).MatchString(series) {
			sum += v
		}
	}
	return sum
}

// killedJobs counts the jobs whose worker did not survive them.
func (s *studio) killedJobs() (sum float64) {
	s.t.Helper()
	for series, v := range s.samples() {
		if strings.HasPrefix(series, "ixmage_transform_jobs_total{") &&
			regexp.MustCompile(`outcome="(timeout|crashed)"`).MatchString(series) {
			sum += v
		}
	}
	return sum
}

// memoryWatch samples the resident memory of the server and of its workers.
type memoryWatch struct {
	studio          *studio
	stop            context.CancelFunc
	done            chan struct{}
	server, workers int // KiB, the largest seen; workers is that of one
}

func (s *studio) watch(t *testing.T) *memoryWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &memoryWatch{studio: s, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				w.sample()
			}
		}
	}()
	return w
}

func (w *memoryWatch) sample() {
	w.server = max(w.server, residentOf(w.studio.process.Pid()))
	for child := range w.studio.workers() {
		w.workers = max(w.workers, residentOf(child))
	}
}

// workers are the worker processes, with the time that they have used processors.
func (s *studio) workers() map[int]time.Duration {
	all := map[int]time.Duration{}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.process.Pid()))
	for _, path := range tasks {
		list, _ := os.ReadFile(path)
		for text := range strings.FieldsSeq(string(list)) {
			if child, err := strconv.Atoi(text); err == nil {
				all[child] = processorTimeOf(child)
			}
		}
	}
	return all
}

// processorTimeOf is how long a process has used processors, 0 if it has ended.
func processorTimeOf(pid int) time.Duration {
	const clockOfProcess = 2 // CPUCLOCK_SCHED; see clock_getcpuclockid(3)
	var used unix.Timespec
	_ = unix.ClockGettime(int32(^pid<<3|clockOfProcess), &used)
	return time.Duration(used.Nano())
}

// stopBusy stops the first worker that works, of those that were idle: then its job ends at the deadline,
// however busy the machine is. A worker without a processor would excuse its picture.
func (s *studio) stopBusy(idle map[int]time.Duration) {
	s.t.Helper()
	eventually(s.t, "a worker works", func() bool {
		for worker, used := range s.workers() {
			if before, ok := idle[worker]; ok && used-before > 5*time.Millisecond {
				return unix.Kill(worker, unix.SIGSTOP) == nil
			}
		}
		return false
	})
}

// residentOf is the resident memory of a process in KiB, 0 if it has ended.
func residentOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := regexp.MustCompile(`VmRSS:\s*(\d+)`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// Limits of resident memory in KiB. A worker's address space has 1 GiB.
const (
	serverMemory = 700 << 10
	workerMemory = 1 << 20
)

// end checks the memory and returns a report.
func (w *memoryWatch) end(t *testing.T) string {
	t.Helper()
	w.stop()
	<-w.done
	if w.server > serverMemory || w.workers > workerMemory {
		t.Errorf("the server took %d MiB, want at most %d; a worker %d MiB, want at most %d",
			w.server>>10, serverMemory>>10, w.workers>>10, workerMemory>>10)
	}
	if w.workers == 0 {
		t.Error("no worker was seen")
	}
	return fmt.Sprintf("server %d MiB, largest worker %d MiB", w.server>>10, w.workers>>10)
}

// TestTransformBombs requests variants of pictures that cost much or are not what they say. None takes
// a worker until its deadline; TestTransformKiller has one that does.
func TestTransformBombs(t *testing.T) {
	t.Parallel()
	s := newStudio(t, noShare...)
	n := s.neighbour(t)
	n.ask(t, 1)
	watch := s.watch(t)
	for _, b := range picture.Bombs() {
		t.Run(b.Name, func(t *testing.T) {
			s.put(b.Name, s3.Object{Body: b.Body, ContentType: b.ContentType})
			before, jobs := s.kills(), s.killedJobs()
			got := s.isPictureOrRefused(t, b.Name, "w=100&f=png", b.Body)
			if b.Refused && got == "transformed" {
				t.Error("it is transformed, want a refusal")
			}
			lost := s.killedJobs() - jobs
			if lost > 0 {
				t.Errorf("%v jobs lost their worker", lost)
			}
			eventually(t, "every kill is counted", func() bool { return s.kills()-before == lost })
			n.ask(t, len(b.Body)+len(b.Name))
		})
	}
	t.Log(watch.end(t))
	s.remainsWell(t, n)
}

// TestTransformKiller checks that a picture which took a worker until its deadline is not tried
// again, in no form, and that its owner's other pictures are.
func TestTransformKiller(t *testing.T) {
	t.Parallel()
	s := newStudio(t, append(noShare, "--transform-timeout", "5s", "--transform-workers", "2")...)
	n := s.neighbour(t)
	const slow = "w=4000&blur=100&f=png" // some seconds of a processor
	bombs := picture.Bombs()
	killer := bombs[slices.IndexFunc(bombs, func(h picture.Hostile) bool { return h.Name == "interlaced.png" })]
	s.put("killer.png", s3.Object{Body: killer.Body, ContentType: "image/png"})
	s.put("good.jpg", s3.Object{Body: picture.Corpus()[12].Body, ContentType: "image/jpeg"})

	n.ask(t, 0) // it has a worker, beside two without an owner
	eventually(t, "all workers are ready", func() bool { return s.metric("ixmage_transform_worker_starts_total") >= 3 })
	idle := s.workers()
	var asked sync.WaitGroup
	answered := make(chan struct{})
	asked.Go(func() {
		defer close(answered)
		if r := s.get("/free/killer.png?" + slow); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(string(r.body), "transform-failed") {
			t.Errorf("the killer: %s: %.200s", r.Status, r.body)
		}
	})
	s.stopBusy(idle)
	for i := 1; ; i++ { // while the killer has its worker
		n.ask(t, i)
		select {
		case <-answered:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	asked.Wait()
	eventually(t, "the kill is counted", func() bool {
		return s.metric(`ixmage_transform_worker_kills_total{reason="deadline"}`) == 1
	})
	for _, query := range []string{"w=100", "w=101", "h=7&f=webp", "info=1"} {
		if r := s.get("/free/killer.png?" + query); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s again: %s: %.200s", query, r.Status, r.body)
		}
	}
	if r := s.patiently("/free/good.jpg?w=50"); r.StatusCode != http.StatusOK {
		t.Errorf("another picture of the alias: %s: %.200s", r.Status, r.body)
	}
	if r := s.get("/free/killer.png"); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, killer.Body) {
		t.Errorf("the killer as stored: %s", r.Status)
	}
	if got := s.kills(); got != 1 {
		t.Errorf("%v workers were killed, want 1: the picture is not tried again", got)
	}
	t.Log(n.report())
	s.remainsWell(t, n)
}

// TestTransformSources requests variants of sources that end early, never end, come slowly or are
// too large.
func TestTransformSources(t *testing.T) {
	t.Parallel()
	s := newStudio(t, noShare...)
	n := s.neighbour(t)
	good := picture.Corpus()[12].Body
	large := slices.Concat(good, make([]byte, 41<<20)) // more than a source may have
	for name, obj := range map[string]s3.Object{
		"cut.jpg": {Body: good}, "reset.jpg": {Body: good}, "slow.jpg": {Body: good}, "more.jpg": {Body: good},
		"large.jpg": {Body: large}, "silent.jpg": {Body: good}, "unknown.jpg": {Body: good},
	} {
		obj.ContentType = "image/jpeg"
		s.put(name, obj)
	}
	release := make(chan struct{})
	fault := func(key string, f *s3.Fault) { s.s3.Next("media", "web/"+key, f, f, f, f) }
	fault("cut.jpg", s3.CloseAfter(600))
	fault("reset.jpg", s3.ResetAfter(600))
	fault("slow.jpg", s3.Trickle(100, 2*time.Millisecond))
	fault("more.jpg", s3.DeclareLess(300))
	fault("silent.jpg", s3.StallAfter(600, release))
	fault("unknown.jpg", s3.Chunked())
	for key, want := range map[string][]int{
		"cut.jpg": {502, 504, 503}, "reset.jpg": {502, 504, 503}, "slow.jpg": {200}, "more.jpg": {502, 422},
		"large.jpg": {422, 413}, "unknown.jpg": {200},
	} {
		t.Run(key, func(t *testing.T) {
			get := s.patiently
			if slices.Contains(want, http.StatusServiceUnavailable) {
				get = s.get
			}
			r := get("/free/" + key + "?w=50&f=png")
			if !slices.Contains(want, r.StatusCode) {
				t.Errorf("%s, want one of %v: %.200s", r.Status, want, r.body)
			}
			if r.StatusCode == http.StatusOK {
				if d, err := s.decode(r.body); err != nil || d.size() != image.Pt(50, 38) {
					t.Errorf("%v, error %v", d, err)
				}
			}
		})
	}
	t.Run("silent.jpg", func(t *testing.T) {
		// A source that stands still holds no worker: the neighbour is served meanwhile.
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.public+"/free/silent.jpg?w=50", nil)
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan error, 1)
		go func() {
			resp, err := client(t).Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			gone <- err
		}()
		if err := s.s3.Wait(t.Context(), func() bool { return s.calls("silent.jpg") > 0 }); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			n.ask(t, i)
		}
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the client that left has %v", err)
		}
		close(release)
	})
	if got := s.kills(); got != 0 {
		t.Errorf("%v workers were killed because of sources", got)
	}
	s.remainsWell(t, n)
}

// TestTransformHostileMark requests pictures with watermarks that are bombs, broken, or no picture.
func TestTransformHostileMark(t *testing.T) {
	t.Parallel()
	s := newStudio(t, noShare...)
	n := s.neighbour(t)
	s.put("good.jpg", s3.Object{Body: picture.Corpus()[12].Body, ContentType: "image/jpeg"})
	s.put("mark.png", s3.Object{Body: picture.Solid(16, 16, color.NRGBA{0, 0, 0, 255})})
	if r := s.patiently("/free/good.jpg?w=64&wm=mark.png"); r.StatusCode != http.StatusOK {
		t.Errorf("a good watermark: %s: %.200s", r.Status, r.body)
	}
	for _, b := range picture.Bombs() {
		s.put("marks/"+b.Name, s3.Object{Body: b.Body, ContentType: b.ContentType})
		got := s.isPictureOrRefused(t, "good.jpg", "w=64&f=png&wm=marks/"+b.Name, nil)
		if b.Refused && got == "transformed" {
			t.Errorf("the watermark %s is drawn, want a refusal", b.Name)
		}
	}
	if got := s.kills(); got != 0 {
		t.Errorf("%v workers were killed because of watermarks", got)
	}
	s.remainsWell(t, n)
}
