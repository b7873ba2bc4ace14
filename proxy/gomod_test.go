package proxy

import (
	"cmp"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// fasthttpFloor is the first version that refuses every form of request
// smuggling we know of. Fiber's own go.mod asks for 1.51.0, which does not: a
// require line of ours is all that stands between.
const fasthttpFloor = "v1.77.0"

const fasthttpModule = "github.com/valyala/fasthttp"

// What is linked into the program is compared with go.mod beside main.go.
func TestFasthttpIsPinned(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(fasthttpModule) + `\s+(v\S+)(.*)$`).FindSubmatch(text)
	if line == nil {
		t.Fatalf("go.mod does not require %s", fasthttpModule)
	}
	if version := string(line[1]); compareVersions(t, version, fasthttpFloor) < 0 {
		t.Errorf("go.mod requires %s %s, want %s at least", fasthttpModule, version, fasthttpFloor)
	}
	if strings.Contains(string(line[2]), "indirect") || !strings.Contains(string(line[2]), "gomod_test") {
		t.Errorf("the line does not say why it is there and what guards it: %q", line[0])
	}
	if replaced := regexp.MustCompile(`(?m)` + regexp.QuoteMeta(fasthttpModule) + `\s.*=>`).Find(text); replaced != nil {
		t.Errorf("go.mod replaces it: %q", replaced)
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"v1.77.0", "v1.77.0", 0},
		{"v1.77.1", "v1.77.0", 1},
		{"v1.100.0", "v1.77.0", 1},
		{"v2.0.0", "v1.77.0", 1},
		{"v1.51.0", "v1.77.0", -1},
		{"v1.9.9", "v1.77.0", -1},
		{"v1.77.0-rc1", "v1.77.0", -1},
		{"v0.0.0-20250101000000-abcdef012345", "v1.77.0", -1},
	} {
		if got := compareVersions(t, tc.a, tc.b); got != tc.want {
			t.Errorf("%s against %s: got %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// compareVersions orders semantic versions; anything behind the numbers makes a
// version older than one without.
func compareVersions(t *testing.T, a, b string) int {
	t.Helper()
	x, y := parts(t, a), parts(t, b)
	return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(x[2], y[2]), cmp.Compare(x[3], y[3]))
}

func parts(t *testing.T, version string) [4]int {
	t.Helper()
	m := regexp.MustCompile(`^v(\d+)\.(\d+)\.(\d+)(-.*)?$`).FindStringSubmatch(version)
	if m == nil {
		t.Fatalf("%q is no version", version)
	}
	var p [4]int
	for i := range 3 {
		p[i], _ = strconv.Atoi(m[i+1])
	}
	if m[4] != "" {
		p[3] = -1
	}
	return p
}
