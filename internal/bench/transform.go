package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ixmage/internal/awstest/picture"
)

// Names of the ways to a smaller picture besides ixmage.
const (
	wayInProcess = "in-process"
	wayThumbnail = "vipsthumbnail"
)

const (
	transformWidth = 400
	transformTurn  = 6 // requests of one way before the next one takes its turn
	freeAlias      = "free"
)

// transformFormats are the formats of results, with the quality and effort that ixmage
// gives them.
var transformFormats = []struct {
	name            string
	quality, effort int
}{{"jpeg", 80, 4}, {"webp", 75, 4}, {"avif", 62, 1}}

// transformFlags are the flags of the transform part.
func transformFlags(f *flag.FlagSet, c *config) {
	f.StringVar(&c.worker, "transform-worker", "bin/ixmage-worker", "worker of the transform part")
	f.StringVar(&c.vips, "vips", "bin/vips-1.3.4", "folder with include and lib of the libvips of the worker, for the "+
		"program that uses it in-process; if it is absent, CGO_CFLAGS and CGO_LDFLAGS count")
	f.StringVar(&c.images, "images", filepath.Join("..", "shared", "images"), "folder of photographs of the same part")
}

// runTransforms measures pictures in other sizes and formats.
func (c config) runTransforms(ctx context.Context, w io.Writer) error {
	worker, err := filepath.Abs(c.worker)
	if err == nil {
		_, err = os.Stat(worker)
	}
	if err != nil && c.part == "all" {
		fmt.Fprintf(w, "This is left out: %v; make worker builds it.\n", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("-transform-worker: %w; make worker builds it", err)
	}
	photographs, err := readPhotographs(c.images)
	if err != nil {
		return err
	}
	o, err := startPhotoOrigin(picture.Montage(2000, 1500, images(photographs)...))
	if err != nil {
		return err
	}
	defer o.close()
	e, done, err := c.newEnv()
	if err != nil {
		return err
	}
	defer done()
	e.originAddr, e.flags = o.addr, []string{
		"--transform-worker", worker, "--transform-alias-share", "100", "--transform-client-share", "100",
	}
	if err := c.runColdVariants(ctx, w, e, o); err != nil {
		return err
	}
	if err := c.runVariantHits(ctx, w, e, o); err != nil {
		return err
	}
	if err := c.runCrowd(ctx, w, e); err != nil {
		return err
	}
	return c.runQuality(ctx, w, e, photographs)
}

// photograph is a real picture.
type photograph struct {
	name  string
	body  []byte
	image image.Image
}

// readPhotographs reads the photographs in a folder. Without the folder there are none.
func readPhotographs(dir string) ([]photograph, error) {
	var all []photograph
	for _, name := range []string{"astronaut.png", "coffee.png", "chelsea.png", "hubble.jpg"} {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		img, _, err := image.Decode(bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, photograph{name, body, img})
	}
	return all, nil
}

func images(photographs []photograph) []image.Image {
	all := make([]image.Image, 0, len(photographs))
	for _, p := range photographs {
		all = append(all, p.image)
	}
	return all
}

// photoOrigin answers every key with one picture, unless it has another one for it.
type photoOrigin struct {
	addr   string
	body   []byte
	others map[string][]byte // by key; set before it is requested
	server *http.Server
}

func startPhotoOrigin(body []byte) (*photoOrigin, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the origin: %w", err)
	}
	o := &photoOrigin{addr: ln.Addr().String(), body: body, others: make(map[string][]byte)}
	o.server = &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = o.server.Serve(ln) }() // ends with close
	return o, nil
}

func (o *photoOrigin) close() { _ = o.server.Close() }

// ServeHTTP answers GET of /bucket/key as S3 does.
func (o *photoOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
	body, ok := o.others[key]
	if !ok {
		body = o.body
	}
	h := w.Header()
	h.Set("ETag", `"`+strconv.Itoa(len(body))+key+`"`)
	h.Set("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
	h.Set("Content-Type", http.DetectContentType(body))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

// startTransforming starts ixmage with an alias of which everyone may ask for any variant.
func (e *env) startTransforming(ctx context.Context, path string) (*server, error) {
	s, err := e.startOurs(ctx, path)
	if err != nil {
		return nil, err
	}
	err = s.admin.post(ctx, "aliases", map[string]any{
		"name": freeAlias, "bucket": bucket, "region": "us-east-1", "endpoint": "http://" + e.originAddr, "path_style": true,
		"credential": bucket, "transforms": "open",
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// variantURL is that of a variant of an object.
func (s *server) variantURL(key, format string) string {
	return fmt.Sprintf("http://%s/%s/%s?w=%d&f=%s", s.addr, freeAlias, key, transformWidth, format)
}

// transformSample is one turn of one way.
type transformSample struct {
	way, format string
	round       int
	whole, work float64 // ms, medians; work is the time in libvips, 0 where it is not known
	bytes       int
}

// runColdVariants measures whole requests for pictures that are in no cache, on one core.
func (c config) runColdVariants(ctx context.Context, w io.Writer, e *env, o *photoOrigin) error {
	ours, err := e.startTransforming(ctx, c.binaries[0].path)
	if err != nil {
		return err
	}
	defer ours.stop()
	ways := []transformWay{&ourWay{server: ours, name: c.binaries[0].name, libs: workerVersion(ctx, c.worker)}}
	if p, err := c.startInProcess(ctx, e); err != nil {
		fmt.Fprintf(w, "libvips in-process is left out: %v\n\n", err)
	} else {
		defer p.stop()
		ways = append(ways, p)
	}
	if t, err := c.newThumbnailer(ctx, e, o.body); err != nil {
		fmt.Fprintf(w, "vipsthumbnail is left out: %v\n\n", err)
	} else {
		ways = append(ways, t)
	}
	var all []transformSample
	for round := range c.rounds + 1 {
		for _, f := range transformFormats {
			for i := range ways {
				way := ways[(i+round)%len(ways)]
				s, err := measureVariant(ctx, way, round, f.name)
				if err != nil {
					return fmt.Errorf("%s: %w", way.title(), err)
				}
				fmt.Fprintf(os.Stderr, "round %d/%d  %-14s %-5s whole %6.1f ms  libvips %6.1f ms\n",
					round, c.rounds, s.way, s.format, s.whole, s.work)
				if round > 0 {
					all = append(all, s)
				}
			}
		}
	}
	fmt.Fprintf(w, "### Variants that are in no cache\n\n%d rounds of %d requests one after the other: a JPEG of "+
		"2000 x 1500 pixels and %d KiB to %d pixels, with %s. Server and workers share core %d.\n\n", c.rounds, transformTurn,
		len(o.body)>>10, transformWidth, versionsOf(ways), c.serverCPU)
	c.writeVariants(w, all, ways)
	fmt.Fprintf(w, "\nPeak resident memory of the workers: %s MiB.\n\n", strings.Join(workerPeaks(ours.child.Pid()), ", "))
	return nil
}

// measureVariant takes one turn.
func measureVariant(ctx context.Context, way transformWay, round int, format string) (transformSample, error) {
	s := transformSample{way: way.title(), format: format, round: round}
	var whole, work []float64
	for i := range transformTurn {
		r, err := way.get(ctx, fmt.Sprintf("%s-%d-%d.jpg", format, round, i), format)
		if err != nil {
			return s, err
		}
		whole = append(whole, float64(r.whole)/1e6)
		work = append(work, float64(r.work)/1e6)
		s.bytes = r.bytes
	}
	s.whole, s.work = quantile(whole, 0.5), quantile(work, 0.5)
	return s, nil
}

func versionsOf(ways []transformWay) string {
	all := make([]string, 0, len(ways))
	for _, w := range ways {
		all = append(all, w.title()+" (libvips "+w.version()+")")
	}
	return strings.Join(all, ", ")
}

// writeVariants prints the tables of runColdVariants.
func (c config) writeVariants(w io.Writer, all []transformSample, ways []transformWay) {
	series := func(way, format string, figure func(transformSample) float64) map[int]float64 {
		values := make(map[int]float64)
		for _, s := range all {
			if s.way == way && s.format == format {
				values[s.round] = figure(s)
			}
		}
		return values
	}
	whole := func(s transformSample) float64 { return s.whole }
	work := func(s transformSample) float64 { return s.work }
	size := func(s transformSample) float64 { return float64(s.bytes) }
	fmt.Fprintln(w, "| result | way | whole request, ms | in libvips, ms | bytes |\n|---|---|---|---|---|")
	for _, f := range transformFormats {
		for _, way := range ways {
			row := func(figure func(transformSample) float64) spread {
				return spreadOf(values(series(way.title(), f.name, figure)))
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %.0f |\n", f.name, way.title(), row(whole).format("%.1f"),
				row(work).format("%.1f"), row(size).median)
		}
	}
	fmt.Fprintln(w, "\n"+ratioHeader)
	ours := ways[0].title()
	for _, f := range transformFormats {
		for _, way := range ways[1:] {
			g, figures := goal{}, []func(transformSample) float64{whole}
			if way.title() == wayInProcess {
				g, figures = atMost(1.15), append(figures, work)
			}
			for i, figure := range figures {
				ratios := pairedRatios(series(ours, f.name, figure), series(way.title(), f.name, figure))
				what := []string{"whole request", "in libvips"}[i] + ", " + ours + " / " + way.title()
				c.goals.ratio(w, what, f.name, ratio{ratios, g})
			}
		}
	}
}

// workerVersion is the libvips of a worker, by the library beside it.
func workerVersion(ctx context.Context, worker string) string {
	return firstMatch(output(ctx, "ldd", worker), `libvips\S*\.so\.(\d+\.\d+\.\d+)`)
}

// workerPeaks are the peaks of the resident memory of the children of a process, in MiB.
func workerPeaks(pid int) []string {
	children, err := childrenByParent()
	if err != nil {
		return nil
	}
	var peaks []string
	for _, child := range slices.Sorted(slices.Values(children[pid])) {
		kib := firstMatch(readText(fmt.Sprintf("/proc/%d/status", child)), `VmHWM:\s*(\d+)`)
		n, _ := strconv.Atoi(kib)
		peaks = append(peaks, strconv.Itoa(n>>10))
	}
	return peaks
}
