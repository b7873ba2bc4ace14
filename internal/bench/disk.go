package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The disk part requests diskSet bytes of objects of one size in turn, of which the
// memory tier holds a small part. The files stay in the kernel's page cache.
const (
	diskSet    = 192 << 20
	diskMemory = 16 << 20
	diskLeast  = 64 << 10 // smaller objects are not compared
)

// diskRest is the share of the set that may come from memory: what fits there, and what a
// policy keeps there.
const diskRest = 2.0 * diskMemory / diskSet

// diskPasses is how often the set is requested before it must be on disk: an object is
// written at its second request, and only while the queue of writes has room.
const diskPasses = 12

// runDisk measures answers from files.
func (c config) runDisk(ctx context.Context, w io.Writer) error {
	c.sizes = slices.DeleteFunc(slices.Clone(c.sizes), func(n int) bool { return n < diskLeast })
	names := c.diskServers(ctx)
	var all samples
	for _, n := range c.sizes {
		taken, err := c.diskSize(ctx, names, n)
		if err != nil {
			return err
		}
		all = append(all, taken...)
	}
	fmt.Fprintf(w, "%d rounds of %s, %d connections, server on core %d, wrk on core %d; "+
		"objects of %.0f MiB in all in random order, memory tier of %.0f MiB, files in %s and in the page cache. "+
		"Before it is measured, a server gives all but at most %.0f %% of the set from files.\n\n",
		c.rounds, c.duration, c.connections, c.serverCPU, c.clientCPU, mib(diskSet), mib(diskMemory), c.diskDir, 100*diskRest)
	c.servers = names
	all.writeServers(w, c)
	all.writeRatios(w, c, diskComparisons(c.binaries))
	all.addRatios(c, "disk", diskComparisons(c.binaries))
	return nil
}

// diskServers are the servers that keep files: ixmage where it has the flag, and nginx.
func (c config) diskServers(ctx context.Context) []string {
	var names []string
	for _, b := range c.binaries {
		if strings.Contains(output(ctx, b.path, "serve", "--help"), "--cache-disk") {
			names = append(names, b.name)
		} else {
			fmt.Fprintf(os.Stderr, "%s has no disk tier\n", b.name)
		}
	}
	return append(names, nameNginx, nameCopying)
}

// diskSize measures one size. Each server has its own folder below the disk folder.
func (c config) diskSize(ctx context.Context, names []string, size int) (taken samples, err error) {
	base, err := os.MkdirTemp(c.diskDir, "ixmage-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(base) }()
	origin, err := startTraceOrigin(ctx, c.clientCPU, originSpec{})
	if err != nil {
		return nil, err
	}
	defer origin.stop()
	e := c.diskEnv(base, origin.addr)
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	objects := diskSet / size
	for _, name := range names {
		s, err := e.begin(ctx, name)
		if err != nil {
			return nil, err
		}
		servers = append(servers, s)
		if err := s.fillDisk(ctx, objects, size); err != nil {
			return nil, fmt.Errorf("fill %s: %w\n%s", name, err, s.child.Output())
		}
	}
	syscall.Sync() // writes to the disk must not disturb what follows
	script := filepath.Join(base, "paths.lua")
	if err := os.WriteFile(script, diskScript(objects, size), 0o600); err != nil {
		return nil, err
	}
	for round := range c.rounds + 1 {
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			l := c.load("http://" + s.addr)
			l.script = script
			m, err := c.measure(ctx, s, l)
			if err != nil {
				return nil, err
			}
			m.size, m.round = size, round
			c.progress(m)
			if round > 0 {
				taken = append(taken, m)
			}
		}
	}
	return taken, nil
}

func (c config) diskEnv(dir, originAddr string) *env {
	return &env{
		dir: dir, originAddr: originAddr, cpu: c.serverCPU, binaries: c.binaries, budget: 1 << 30, openFiles: cachedFiles,
		flags: []string{"--cache-memory", strconv.Itoa(diskMemory), "--cache-disk", "1GiB"},
	}
}

// fillDisk requests every object until every answer comes from a file. The memory tier
// holds the last few objects; the pass goes in one order, so that they are gone when
// their turn comes.
func (s *server) fillDisk(ctx context.Context, objects, size int) error {
	hit := s.isHit
	if s.admin.addr != "" {
		hit = func(h http.Header) bool { return strings.HasPrefix(h.Get("Cache-Status"), "ixmage; hit; detail=disk") }
	}
	var last http.Header
	for range diskPasses {
		misses := 0
		for id := range objects {
			h, body, err := fetch(ctx, "http://"+s.addr+"/"+bucket+"/"+traceKey(id, size))
			if err != nil {
				return err
			}
			if !bytes.Equal(body, traceBody(id, size)) {
				return fmt.Errorf("object %d: %d bytes came that are not the object", id, len(body))
			}
			if !hit(h) {
				misses++
				last = h
			}
		}
		if float64(misses) <= diskRest*float64(objects) {
			return nil
		}
	}
	return fmt.Errorf("the set is not on disk after %d passes: %v", diskPasses, last)
}

// diskScript has wrk request the objects in one random order, again and again.
func diskScript(objects, size int) []byte {
	var b bytes.Buffer
	b.WriteString("local paths = {\n")
	for _, id := range repeatable(3, uint64(size)).Perm(objects) {
		fmt.Fprintf(&b, "%q,\n", "/"+bucket+"/"+traceKey(id, size))
	}
	b.WriteString("}\n")
	//nolint:dupword // this is Lua
	b.WriteString(`local requests, at = {}, 0
function init() for i, p in ipairs(paths) do requests[i] = wrk.format("GET", p) end end
function request() at = at % #requests + 1; return requests[at] end
`)
	return b.Bytes()
}
