package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"ixmage/internal/awstest/process"
)

// transformWay is a way to a smaller picture.
type transformWay interface {
	title() string
	version() string
	// get makes a picture of an object, or of a key that no object had before.
	get(ctx context.Context, key, format string) (transformed, error)
}

// transformed is a picture that a way has made.
type transformed struct {
	whole, work time.Duration
	bytes       int
}

// ourWay is ixmage.
type ourWay struct {
	server *server
	name   string
	libs   string
}

func (o *ourWay) title() string { return o.name }

func (o *ourWay) version() string { return o.libs }

func (o *ourWay) get(ctx context.Context, key, format string) (transformed, error) {
	before, err := o.busy(ctx)
	if err != nil {
		return transformed{}, err
	}
	began := time.Now()
	h, body, err := fetch(ctx, o.server.variantURL(key, format))
	r := transformed{whole: time.Since(began), bytes: len(body)}
	if err != nil {
		return r, err
	}
	if got := h.Get("Content-Type"); got != "image/"+format {
		return r, fmt.Errorf("the answer is %s, want image/%s: are transforms on?", got, format)
	}
	after, err := o.busy(ctx)
	r.work = time.Duration((after - before) * float64(time.Second))
	return r, err
}

// busy is for how many seconds workers have decoded and encoded.
func (o *ourWay) busy(ctx context.Context) (float64, error) {
	m, err := o.server.admin.metrics(ctx)
	return m["ixmage_transform_decode_seconds_sum"] + sumOf(m, "ixmage_transform_encode_seconds_sum"), err
}

// inProcess is the program in the folder inprocess: libvips in an HTTP server.
type inProcess struct {
	child *process.Child
	addr  string
	libs  string
}

// startInProcess builds and starts it on the core of the server.
func (c config) startInProcess(ctx context.Context, e *env) (*inProcess, error) {
	path := filepath.Join(e.dir, "inprocess")
	build := exec.CommandContext(ctx, "go", "-C", "internal/bench/inprocess", "build", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	dir, err := filepath.Abs(c.vips)
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "include"))
	}
	if err == nil {
		lib := filepath.Join(dir, "lib")
		build.Env = append(build.Env,
			fmt.Sprintf("CGO_CFLAGS=-O2 -I%s/include -I%s/include/glib-2.0 -I%s/glib-2.0/include", dir, dir, lib),
			fmt.Sprintf("CGO_LDFLAGS=-L%s -l:%s -Wl,-rpath,%s -lm", lib, libraryIn(lib), lib))
	}
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it cannot be built: %w: %.300s", err, text)
	}
	args := pin(c.serverCPU, path, "-origin", "http://"+e.originAddr+"/"+bucket)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	log, logEnd := io.Pipe()
	cmd.Stderr = logEnd
	child, err := process.Start(wayInProcess, cmd)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 200)
	n, err := log.Read(line)
	go func() { _, _ = io.Copy(io.Discard, log) }() // until the process ends
	libs, addr, ok := strings.Cut(strings.TrimSpace(string(line[:n])), " addr=")
	if err != nil || !ok {
		_ = child.Stop()
		return nil, fmt.Errorf("it does not start: %s", line[:n])
	}
	return &inProcess{child, addr, libs}, nil
}

// libraryIn is the name of the shared library in a folder.
func libraryIn(dir string) string {
	found, _ := filepath.Glob(filepath.Join(dir, "libvips*.so.*"))
	if len(found) == 0 {
		return "libvips.so"
	}
	return filepath.Base(found[0])
}

func (p *inProcess) stop() { _ = p.child.Stop() }

func (p *inProcess) title() string { return wayInProcess }

func (p *inProcess) version() string { return p.libs }

func (p *inProcess) get(ctx context.Context, key, format string) (transformed, error) {
	query := ""
	for _, f := range transformFormats {
		if f.name == format {
			query = fmt.Sprintf("?w=%d&f=%s&q=%d&e=%d", transformWidth, format, f.quality, f.effort)
		}
	}
	began := time.Now()
	h, body, err := fetch(ctx, "http://"+p.addr+"/"+key+query)
	r := transformed{whole: time.Since(began), bytes: len(body)}
	us, _ := strconv.Atoi(h.Get("Library-Time"))
	r.work = time.Duration(us) * time.Microsecond
	return r, err
}

// convert sends a picture and returns it in another width and format.
func (p *inProcess) convert(ctx context.Context, body []byte, query string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr+"/?"+query, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", query, resp.Status, out)
	}
	return out, err
}

// thumbnailer runs vipsthumbnail for each picture.
type thumbnailer struct {
	dir, source, path, libs string
	cpu                     int
}

func (c config) newThumbnailer(ctx context.Context, e *env, source []byte) (*thumbnailer, error) {
	path, err := exec.LookPath(wayThumbnail)
	if err != nil {
		return nil, errors.New("it is not installed")
	}
	file := filepath.Join(e.dir, "source.jpg")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return nil, err
	}
	libs := firstMatch(output(ctx, path, "--version"), `vips-(\S+)`)
	return &thumbnailer{dir: e.dir, source: file, path: path, libs: libs, cpu: c.serverCPU}, nil
}

func (t *thumbnailer) title() string { return wayThumbnail }

func (t *thumbnailer) version() string { return t.libs }

func (t *thumbnailer) get(ctx context.Context, _, format string) (transformed, error) {
	out := filepath.Join(t.dir, "out."+format)
	options := map[string]string{
		"jpeg": "[Q=80,optimize_coding,strip]", "webp": "[Q=75,strip]", "avif": "[Q=62,effort=1,strip]",
	}[format]
	args := pin(t.cpu, t.path, t.source, "--size", strconv.Itoa(transformWidth)+"x", "-o", out+options)
	began := time.Now()
	text, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return transformed{}, fmt.Errorf("%w: %.300s", err, text)
	}
	r := transformed{whole: time.Since(began)}
	info, err := os.Stat(out)
	if err == nil {
		r.bytes = int(info.Size())
	}
	return r, err
}
