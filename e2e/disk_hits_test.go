package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// diskWorld is a server with a disk tier in front of the real S3, whose objects do not fit into
// its memory.
type diskWorld struct {
	*server

	bucket  string
	args    []string
	objects map[string][]byte // by alias/key
}

// aliases of a diskWorld; each has its own folder.
var diskAliases = []string{"shop", "soft", "hard"}

func newDiskWorld(t *testing.T) *diskWorld {
	t.Helper()
	gw := realS3(t)
	w := &diskWorld{
		bucket:  "disk-" + strings.ToLower(rand.Text()),
		args:    []string{"--cache-memory", "16MiB", "--cache-disk", "256MiB"},
		objects: map[string][]byte{},
	}
	w.server = startIn(t, filepath.Join(t.TempDir(), "data"), w.args...)
	if err := gw.CreateBucket(t.Context(), w.bucket); err != nil {
		t.Fatal(err)
	}
	user, err := gw.ReadOnlyUser(t.Context(), w.bucket, w.bucket, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range diskAliases {
		w.create(map[string]any{
			"name": name, "bucket": w.bucket, "prefix": name + "/", "endpoint": gw.S3URL, "path_style": true,
			"credential": pair(user.AccessKeyID, user.SecretAccessKey.Reveal()), "stale_while_revalidate": "0s",
		})
	}
	return w
}

func (w *diskWorld) put(name string, size int, seed string) {
	w.t.Helper()
	body := png(size, seed+name)
	err := realS3(w.t).PutObject(w.t.Context(), w.bucket, name, s3.Object{Body: body, ContentType: "image/png"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.objects[name] = body
}

// writeAll requests all objects until each is on disk: the second request writes one.
func (w *diskWorld) writeAll() {
	w.t.Helper()
	eventually(w.t, "all are on disk", func() bool {
		for _, name := range slices.Sorted(maps.Keys(w.objects)) {
			wantPicture(w.t, w.get("/"+name), w.objects[name])
		}
		return w.metric(`ixmage_cache_entries{tier="disk"}`) == float64(len(w.objects))
	})
}

// restart ends the server and starts it again.
func (w *diskWorld) restart() {
	w.t.Helper()
	if code := w.stop(); code != 0 {
		w.t.Fatalf("exit status %d", code)
	}
	w.server = startIn(w.t, w.data, w.args...)
}

// originCalls is how many requests the server has sent to S3 since its start.
func (w *diskWorld) originCalls() (n float64) {
	for series, v := range w.samples() {
		if strings.HasPrefix(series, "ixmage_origin_requests_total{") {
			n += v
		}
	}
	return n
}

const diskHit = "ixmage; hit; detail=disk; ttl=3"

// TestDiskHits: a working set that is larger than the memory budget is served from disk
// without a request to S3, whole and by range, and so it is after a restart.
func TestDiskHits(t *testing.T) {
	t.Parallel()
	w := newDiskWorld(t)
	sizes := map[string]int{"4k": 4 << 10, "64k": 64 << 10, "1m": 1 << 20, "40m": 40 << 20}
	for kind, n := range map[string]int{"4k": 20, "64k": 20, "1m": 20, "40m": 1} {
		for i := range n {
			w.put(fmt.Sprintf("shop/%s-%d.png", kind, i), sizes[kind], "")
		}
	}
	w.writeAll()
	calls := w.originCalls()
	onDisk := 0
	for range 2 {
		for name, body := range w.objects {
			r := w.get("/" + name)
			wantPicture(t, r, body)
			status := r.Header.Get("Cache-Status")
			if strings.HasPrefix(status, diskHit) {
				onDisk++
			} else if !strings.HasPrefix(status, "ixmage; hit; ttl=3") {
				t.Errorf("%s: Cache-Status is %q", name, status)
			}
		}
	}
	if n := w.originCalls() - calls; n != 0 || onDisk < 10 {
		t.Errorf("%v requests to S3, %d answers from disk", n, onDisk)
	}

	w.restart()
	for _, kind := range []string{"4k", "64k", "1m", "40m"} {
		w.wantRanges(t, "shop/"+kind+"-0.png")
	}
	for name, body := range w.objects {
		r := w.get("/" + name)
		wantPicture(t, r, body)
		if status := r.Header.Get("Cache-Status"); !strings.HasPrefix(status, "ixmage; hit; ") ||
			!strings.Contains(name, "-0") && !strings.HasPrefix(status, diskHit) {
			t.Errorf("%s after a restart: Cache-Status is %q", name, status)
		}
	}
	if n := w.originCalls(); n != 0 {
		t.Errorf("%v requests to S3 after a restart", n)
	}
	w.waitInFlight(0)
	if hits := w.metric(`ixmage_cache_requests_total{alias="shop",cache="hit"}`); hits < float64(len(w.objects)) {
		t.Errorf("%v requests count as hits", hits)
	}
}

// wantRanges requests ranges of an object, and its metadata.
func (w *diskWorld) wantRanges(t *testing.T, name string) {
	t.Helper()
	body := w.objects[name]
	size := len(body)
	w.wantTier(t, name, "disk")
	tag := ""
	for _, at := range [][2]int{{0, 0}, {1, size / 2}, {size / 3, size/3 + 1000}, {size - 1, size - 1}, {0, size - 1}} {
		r := w.get("/"+name, "Range", fmt.Sprintf("bytes=%d-%d", at[0], at[1]))
		if r.StatusCode != http.StatusPartialContent || r.err != nil || !bytes.Equal(r.body, body[at[0]:at[1]+1]) ||
			r.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", at[0], at[1], size) {
			t.Errorf("%s, %v: %s, %q", name, at, r.Status, r.Header.Get("Content-Range"))
		}
		if got := r.Header.Get("Cache-Status"); !strings.HasPrefix(got, "ixmage; hit; ") {
			t.Errorf("%s, %v: Cache-Status is %q", name, at, got)
		}
		tag = r.Header.Get("ETag")
	}
	for header, want := range map[[2]string]int{
		{"If-None-Match", tag}: http.StatusNotModified, {"If-Match", `"other"`}: http.StatusPreconditionFailed,
		{"Range", fmt.Sprintf("bytes=%d-", size)}: http.StatusRequestedRangeNotSatisfiable,
	} {
		if r := w.get("/"+name, header[:]...); r.StatusCode != want {
			t.Errorf("%s, %v: %s, want %d", name, header, r.Status, want)
		}
	}
	r := w.head("/" + name)
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Length") != strconv.Itoa(size) || r.Header.Get("ETag") != tag {
		t.Errorf("HEAD of %s: %s, %v", name, r.Status, r.Header)
	}
}

// wantTier asks explain where an object is.
func (w *diskWorld) wantTier(t *testing.T, name, tier string) {
	t.Helper()
	var e struct {
		Status int
		Cache  struct {
			Tier         string
			Memory, Disk *struct {
				State string
				Size  int
			}
		}
	}
	r := w.api(http.MethodGet, "/api/v1/explain?path=/"+name, nil)
	if err := json.Unmarshal(r.body, &e); err != nil {
		t.Fatal(err)
	}
	if e.Status != http.StatusOK || e.Cache.Tier != tier || (e.Cache.Disk != nil) != (tier == "disk") || e.Cache.Memory != nil && tier == "disk" ||
		tier == "disk" && (e.Cache.Disk.State != "fresh" || e.Cache.Disk.Size != len(w.objects[name])) {
		t.Errorf("explain of %s: %s", name, r.body)
	}
}

// TestDiskPurge: what is purged does not come back from disk, before and after a restart, and
// what is not purged does.
func TestDiskPurge(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} {
		t.Run(map[bool]string{false: "at once", true: "after a restart"}[again], func(t *testing.T) {
			t.Parallel()
			w := newDiskWorld(t)
			purged := map[string]bool{}
			for name, gone := range map[string]bool{
				"shop/key/soft.png": true, "shop/key/hard.png": true, "shop/key/stays.png": false,
				"shop/soft/1.png": true, "shop/soft/2.png": true, "shop/softer.png": false,
				"shop/hard/1.png": true, "shop/hard/2.png": true, "shop/harder.png": false,
				"soft/1.png": true, "soft/2.png": true, "hard/1.png": true, "hard/2.png": true,
			} {
				w.put(name, 70_000, "old")
				purged[name] = gone
			}
			w.writeAll()
			w.restart() // so that nothing is in memory
			for _, body := range []string{
				`{"alias":"shop","key":"key/soft.png"}`, `{"alias":"shop","key":"key/hard.png","hard":true}`,
				`{"alias":"shop","prefix":"soft/"}`, `{"alias":"shop","prefix":"hard/","hard":true}`,
				`{"alias":"soft"}`, `{"alias":"hard","hard":true}`,
			} {
				if r := w.api(http.MethodPost, "/api/v1/purge", body); r.StatusCode != http.StatusOK {
					t.Fatalf("purge: %s", summary(r))
				}
			}
			old := maps.Clone(w.objects)
			for name := range w.objects {
				w.put(name, 70_001, "new")
			}
			if again {
				w.restart()
			}
			for name, gone := range purged {
				r := w.get("/" + name)
				status := r.Header.Get("Cache-Status")
				if !gone {
					wantPicture(t, r, old[name])
					if !strings.HasPrefix(status, diskHit) {
						t.Errorf("%s was not purged: Cache-Status is %q", name, status)
					}
					continue
				}
				wantPicture(t, r, w.objects[name])
				if !strings.HasPrefix(status, "ixmage; fwd=") {
					t.Errorf("%s was purged: Cache-Status is %q", name, status)
				}
			}
		})
	}
}
