package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ixmage/internal/awstest/s3"
)

// TestDiskBudget: the budget of the disk tier is a number of bytes or a percentage of the
// file system, and a tier that is not asked for has no series and no folder.
func TestDiskBudget(t *testing.T) {
	t.Parallel()
	var volume unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &volume); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, budget string
		own          bool // folder
		want         int64
	}{
		{"none", "0", false, 0},
		{"none in percent", "0%", false, 0},
		{"bytes", "64MiB", false, 64 << 20},
		{"bytes in a folder of its own", "64MiB", true, 64 << 20},
		{"percentage", "1%", true, int64(volume.Blocks) * volume.Bsize / 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			args := []string{"--cache-disk", tc.budget}
			folder := filepath.Join(data, "cache")
			if tc.own {
				folder = filepath.Join(t.TempDir(), "deep", "cache")
				args = append(args, "--cache-disk-path", folder)
			}
			s := startIn(t, data, args...)
			info, err := os.Stat(folder)
			if tc.want == 0 {
				for series := range s.samples() {
					if strings.Contains(series, `tier="disk"`) || strings.Contains(series, "disk_available") {
						t.Errorf("there is a series %s", series)
					}
				}
				if err == nil {
					t.Errorf("there is a folder %s", folder)
				}
				return
			}
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder: %v, %v, want mode 0700", info, err)
			}
			got := int64(s.metric(`ixmage_cache_capacity_bytes{tier="disk"}`))
			if got < tc.want-100 || got > tc.want { // of a percentage, rounded
				t.Errorf("the capacity is %d, want %d", got, tc.want)
			}
			for series, want := range map[string]float64{
				"ixmage_cache_disk_available": 1, `ixmage_cache_entries{tier="disk"}`: 0,
				`ixmage_cache_evictions_total{reason="corrupt",tier="disk"}`: 0, `ixmage_cache_disk_errors_total{operation="write"}`: 0,
			} {
				if got := s.metric(series); got != want {
					t.Errorf("%s is %v, want %v", series, got, want)
				}
			}
		})
	}
}

// TestDiskInUse: a second server does not start on the folder of another one, and says what
// to do. It has a data folder of its own.
func TestDiskInUse(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "cache")
	args := []string{"--cache-disk", "64MiB", "--cache-disk-path", folder}
	first := start(t, args...)
	r := runProgram(t, nil, serveArgs(filepath.Join(t.TempDir(), "data"), args...)...)
	if r.code != 1 || !strings.Contains(r.stderr, "the cache folder "+folder+" is in use by another ixmage") ||
		!strings.Contains(r.stderr, "--cache-disk-path") {
		t.Errorf("the second one ended with %d:\n%s", r.code, r.stderr)
	}
	first.process.Kill()
	if got := start(t, args...).metric("ixmage_cache_disk_available"); got != 1 {
		t.Errorf("after the first one ended: available is %v, want 1", got)
	}
}

// TestDiskTrouble: with a folder that cannot be used, or a budget larger than the disk, the
// server starts, says so and serves.
func TestDiskTrouble(t *testing.T) {
	t.Parallel()
	full := regexp.MustCompile(`level=WARN msg="--cache-disk is more than its file system has; a smaller budget is used" cache_disk=17592186044416 used=(\d+) `)
	off := func(why string) *regexp.Regexp {
		return regexp.MustCompile(`level=ERROR msg="disk cache is off; [^"]*" .*` + why)
	}
	for _, tc := range []struct {
		name, path string
		says       *regexp.Regexp
		available  float64
	}{
		{"a file is in the way", "file", off("not a directory"), 0},
		{"below a file", "file/cache", off("not a directory"), 0},
		{"file system without writing", "/proc/ixmage", off(""), 0},
		{"somebody's own", ".", off("the folder holds file, which is not of a disk cache"), 0},
		{"larger than the disk", "cache", full, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "file"), "not a folder", 0o600)
			if !filepath.IsAbs(tc.path) {
				tc.path = filepath.Join(dir, tc.path)
			}
			e := newEnv(t, "--cache-disk", "16384GiB", "--cache-disk-path", tc.path)
			picture := png(1000, "disk")
			e.put("a.png", s3.Object{Body: picture})
			for range 3 {
				r := e.get("/shop/a.png")
				if r.StatusCode != http.StatusOK || !bytes.Equal(r.body, picture) {
					t.Errorf("got %s", summary(r))
				}
			}
			m := tc.says.FindStringSubmatch(e.output())
			if m == nil {
				t.Fatalf("the log does not say %s:\n%s", tc.says, e.output())
			}
			if got := e.metric("ixmage_cache_disk_available"); got != tc.available {
				t.Errorf("available is %v, want %v", got, tc.available)
			}
			if tc.says == full {
				if got := fmt.Sprintf("%.0f", e.metric(`ixmage_cache_capacity_bytes{tier="disk"}`)); got != m[1] {
					t.Errorf("the capacity is %s, want %s", got, m[1])
				}
			}
		})
	}
}

// TestDiskOfDeletedAliases: the files of aliases that are deleted go at once, and those of
// the others stay, also across a restart.
func TestDiskOfDeletedAliases(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"--cache-disk", "64MiB"}
	e := newEnvOn(t, startIn(t, data, args...))
	names := []string{"shop", "one", "two", "three"}
	for _, name := range names[1:] {
		e.open(name, "media", "web/", nil)
	}
	e.put("a.png", s3.Object{Body: png(5000, "deleted")})
	for _, name := range names {
		for range 3 { // the second request is the one that is written
			if r := e.get("/" + name + "/a.png"); r.StatusCode != http.StatusOK {
				t.Fatal(summary(r))
			}
		}
	}
	eventually(t, "all are written", func() bool { return e.metric(`ixmage_cache_disk_writes_total{result="written"}`) == 4 })
	for _, name := range names[1:] {
		if r := e.api(http.MethodDelete, "/api/v1/aliases/"+name, nil); r.StatusCode != http.StatusNoContent {
			t.Fatalf("delete %s: %s", name, summary(r))
		}
	}
	eventually(t, "three are deleted", func() bool { return len(objectFiles(t, data)) == 1 })
	if code := e.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	again := startIn(t, data, args...)
	calls := e.calls("a.png")
	if r := again.get("/shop/a.png"); r.StatusCode != http.StatusOK || e.calls("a.png") != calls {
		t.Errorf("after a restart: %s, with %d calls of S3", summary(r), e.calls("a.png")-calls)
	}
	if got := again.metric("ixmage_cache_disk_hits_total"); got != 1 {
		t.Errorf("%v hits from disk, want 1", got)
	}
}

// objectFiles lists the files of objects in the disk tier of a data folder.
func objectFiles(t *testing.T, data string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "cache", "objects"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return nil // folders are deleted meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestPurgeWithoutFolder: an object that is purged while its file cannot be reached does not
// come back with the file, although the server is killed right after the answer.
func TestPurgeWithoutFolder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		// meanwhile is the server that purges: its flags, and what happens to the folder before
		// it starts, if anything.
		args   func(folder string) []string
		damage func(t *testing.T, folder string) (mend func())
	}{
		{"folder is away", func(folder string) []string { return []string{"--cache-disk", "64MiB", "--cache-disk-path", folder} }, moveAway},
		{"no disk tier", func(string) []string { return nil }, nil},
		{"other folder", func(folder string) []string {
			return []string{"--cache-disk", "64MiB", "--cache-disk-path", folder + "-2"}
		}, nil},
		{"other folder, not usable", func(string) []string {
			return []string{"--cache-disk", "64MiB", "--cache-disk-path", "/proc/ixmage"}
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			data, folder := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "cache")
			args := []string{"--cache-disk", "64MiB", "--cache-disk-path", folder}
			e := newEnvOn(t, startIn(t, data, args...))
			before, after := png(5000, "before"), png(5000, "after")
			e.put("a.png", s3.Object{Body: before})
			for range 3 {
				e.get("/shop/a.png")
			}
			eventually(t, "it is written", func() bool { return e.metric(`ixmage_cache_disk_writes_total{result="written"}`) == 1 })
			e.stop()
			e.put("a.png", s3.Object{Body: after})
			if e.server = startIn(t, data, args...); !bytes.Equal(e.get("/shop/a.png").body, before) {
				t.Fatal("it does not come from disk after a restart")
			}
			e.stop()
			mend := func() {}
			if tc.damage != nil {
				mend = tc.damage(t, folder)
			}
			e.server = startIn(t, data, tc.args(folder)...)
			for _, body := range []string{`{"alias":"shop","key":"a.png","hard":true}`, `{"alias":"shop","prefix":"b","hard":true}`} {
				if r := e.api(http.MethodPost, "/api/v1/purge", body); r.StatusCode != http.StatusOK {
					t.Errorf("purge: %s", summary(r))
				}
			}
			e.kill()
			mend()
			e.server = startIn(t, data, args...)
			if r := e.get("/shop/a.png"); !bytes.Equal(r.body, after) {
				t.Errorf("the purged picture came back: %s", summary(r))
			}
			if got := e.metric("ixmage_cache_disk_available"); got != 1 {
				t.Errorf("available is %v, want 1", got)
			}
		})
	}
}

// moveAway puts a file in the place of a folder.
func moveAway(t *testing.T, folder string) (mend func()) {
	t.Helper()
	if err := os.Rename(folder, folder+"-away"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, folder, "", 0o600)
	return func() {
		if err := os.Remove(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(folder+"-away", folder); err != nil {
			t.Fatal(err)
		}
	}
}
