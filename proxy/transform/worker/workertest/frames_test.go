package workertest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"ixmage/internal/awstest/picture"
)

func TestReady(t *testing.T) {
	t.Parallel()
	c := start(t)
	if c.ready.Magic != 0x31575849 || c.ready.ABI != 2 || c.ready.Landlock < 1 {
		t.Errorf("ready is %+v, want IXW1, ABI 2 and Landlock", c.ready)
	}
	if version := strings.TrimRight(string(c.ready.Version[:]), "\x00"); !strings.HasPrefix(version, "8.") {
		t.Errorf("libvips %q, want 8.x", version)
	}
	if code := c.end(); code != 0 || c.stderr.Len() > 0 {
		t.Errorf("exit code %d and %q at the end of stdin, want 0 and nothing", code, &c.stderr)
	}
}

// TestManyJobs: one process draws one picture after the other, refusals between them,
// and says nothing on stderr.
func TestManyJobs(t *testing.T) {
	t.Parallel()
	c := start(t)
	source := quarters400()
	var first []byte
	for range 20 {
		r := plain(source, webpType)
		_, body := c.do(r, source, nil)
		if first == nil {
			first = body
		}
		if !bytes.Equal(first, body) {
			t.Fatal("the same request has two results")
		}
		if _, _, err := c.send(plain(source[:100], webpType), source[:100], nil); err != nil {
			t.Fatal(err)
		}
	}
	if code := c.end(); code != 0 || c.stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want 0 and nothing", code, &c.stderr)
	}
}

// TestNoRequest: bytes that are no request end the worker with 4 and one line.
func TestNoRequest(t *testing.T) {
	t.Parallel()
	whole := plain(quarters(8, 8), pngType)
	frame := func(change func(r *request)) []byte {
		r := whole
		change(&r)
		var b bytes.Buffer
		_ = binary.Write(&b, binary.LittleEndian, r)
		return b.Bytes()
	}
	for name, input := range map[string][]byte{
		"magic":          frame(func(r *request) { r.Magic++ }),
		"source":         frame(func(r *request) { r.SourceLen = 1 << 31 }),
		"mark":           frame(func(r *request) { r.MarkLen = 1 << 31 }),
		"half":           frame(func(*request) {})[:50],
		"no source":      frame(func(r *request) { r.SourceLen = 100 }),
		"an HTTP client": []byte(strings.Repeat("GET / HTTP/1.1\r\n", 20)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			_, _ = c.in.Write(input)
			if code := c.end(); code != 4 || strings.Count(c.stderr.String(), "\n") != 1 {
				t.Errorf("exit code %d, stderr %q; want 4 and one line", code, &c.stderr)
			}
		})
	}
}

// TestHostile: bombs and files in disguise give a status or a picture. A worker that runs out
// of memory ends, which is for its parent to see; what it must not do is answer wrongly.
func TestHostile(t *testing.T) {
	t.Parallel()
	if os.Getenv("IXMAGE_MUTATIONS") != "all" {
		t.Skip("drawing the bombs takes half a minute with the race detector; make test-long, and e2e without it, try them")
	}
	for _, h := range picture.Bombs() {
		t.Run(h.Name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			r := plain(h.Body, jpegType)
			r.Width, r.Flags = 100, flagFrames
			answer, body, err := c.send(r, h.Body, nil)
			switch {
			case err != nil:
				t.Fatalf("%v: %q", err, &c.stderr)
			case answer.Status == statusOK && h.Refused:
				t.Errorf("status 0 with %d bytes, want a refusal", len(body))
			}
		})
	}
}

// TestTruncated: a file that breaks off is broken, and no half picture comes of it.
func TestTruncated(t *testing.T) {
	t.Parallel()
	c := start(t)
	_, avif := c.do(plain(quarters400(), avifType), quarters400(), nil)
	for _, p := range append(picture.Corpus(), picture.Case{Name: "quarters.avif", Body: avif}) {
		for _, percent := range []int{10, 50, 90} {
			part := p.Body[:len(p.Body)*percent/100]
			r := plain(part, pngType)
			r.SourceType = sniff(p.Body)
			if answer, _, err := c.send(r, part, nil); err != nil || answer.Status != statusBroken {
				t.Errorf("%d %% of %s: status %d, %v; want %d", percent, p.Name, answer.Status, err, statusBroken)
			}
		}
	}
}

// TestMutated feeds the worker that is built with sanitizers broken pictures and random
// requests: whatever they are, its own code does not read or write where it must not.
func TestMutated(t *testing.T) {
	t.Parallel()
	n := 60
	if os.Getenv("IXMAGE_MUTATIONS") == "all" {
		n = 10_000
	}
	c := startProgram(t, built(t, "ixmage-worker-asan"))
	if c.ready.Landlock != 0 {
		t.Error("a worker without a sandbox says that it has one")
	}
	corpus := picture.Corpus()
	random := rand.New(rand.NewPCG(16, 1))
	for i := range n {
		source, mark := corpus[random.IntN(len(corpus))].Body, []byte(nil)
		r := randomRequest(random, source)
		if random.IntN(2) == 0 {
			source = picture.Mutate(random, source)
		}
		if random.IntN(4) == 0 {
			mark = picture.Mutate(random, corpus[random.IntN(len(corpus))].Body)
		}
		if _, _, err := c.send(r, source, mark); err != nil {
			_ = c.end()
			t.Fatalf("frame %d, %+v: %v: %s", i, r, err, &c.stderr)
		}
	}
	if code := c.end(); code != 0 || c.stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want 0 and nothing", code, &c.stderr)
	}
}

// randomRequest is mostly valid, with small results so that thousands are quick.
func randomRequest(random *rand.Rand, source []byte) request {
	small := func(n int) uint32 { return uint32(random.IntN(n)) }
	r := plain(source, uint8(1+small(6)))
	r.MaxSide, r.MaxResult = 300, 90_000
	r.Width, r.Height = small(200), small(200)
	r.Fit, r.Gravity, r.Rotate, r.Flip, r.Flags = uint8(small(6)), uint8(small(11)), uint8(small(4)), uint8(small(4)), uint8(small(32))
	r.FocalX, r.FocalY = random.Float32(), random.Float32()
	r.Quality, r.MarkGravity, r.MarkOpacity, r.MarkScale = small(101), uint8(small(9)), uint8(small(101)), uint8(small(101))
	if small(3) == 0 {
		r.CropX, r.CropY, r.CropW, r.CropH = small(150), small(150), small(150), small(150)
	}
	if small(5) == 0 {
		r.Blur = 0.3 + 5*random.Float32()
	}
	if small(5) == 0 {
		r.Sharpen = 0.1 + 5*random.Float32()
	}
	if small(3) == 0 {
		r.SourceColours, r.MarkColours = [2]uint8{uint8(small(20)), uint8(small(20))}, [2]uint8{uint8(small(256)), uint8(small(256))}
	}
	if small(20) == 0 { // any bytes where options are
		r.Crop(random.Uint32(), random.Uint32())
	}
	return r
}

// Crop sets fields of the request that reach arithmetic first.
func (r *request) Crop(a, b uint32) {
	r.CropX, r.CropY, r.CropW, r.CropH, r.Width, r.Height, r.MaxSide, r.MaxResult = a, b, a^b, a*b, b, a, a, b
}

// TestLoaders: of libvips's loaders and savers only those of the five formats can run.
func TestLoaders(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), built(t, "ixmage-worker-loaders")).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, format := range []string{"gif", "heif", "jpeg", "png", "webp"} {
		want[format+"load_buffer"], want[format+"save_buffer"] = true, true
	}
	for name := range strings.FieldsSeq(string(out)) {
		if !want[name] {
			t.Errorf("%s can run", name)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("cannot run: %v", want)
	}
}
