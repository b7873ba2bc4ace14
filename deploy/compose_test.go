package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// load reads a compose file as docker compose does; names that are not in the specification are
// refused.
func load(t *testing.T, text string) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, Environment: types.Mapping{},
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: []byte(text)}},
	})
}

func composeFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCompose: the file is valid, and its service has a read-only root, limits, a health check and
// the token by file.
func TestCompose(t *testing.T) {
	t.Parallel()
	project, err := load(t, composeFile(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := project.GetService("ixmage")
	if err != nil {
		t.Fatal(err)
	}
	const minMemory = 256<<20 + 128<<20
	for what, ok := range map[string]bool{
		"read-only root":       s.ReadOnly,
		"another user":         s.User == "65532:65532",
		"no capabilities":      slices.Equal(s.CapDrop, []string{"ALL"}) && len(s.CapAdd) == 0,
		"no new rights":        slices.Contains(s.SecurityOpt, "no-new-privileges:true"),
		"a limit of memory":    int64(s.MemLimit) >= minMemory && s.MemSwapLimit == s.MemLimit,
		"a limit of processes": s.PidsLimit > 0,
		"enough descriptors":   s.Ulimits["nofile"] != nil && s.Ulimits["nofile"].Single >= 65536,
		"a health check":       s.HealthCheck != nil && slices.Equal(s.HealthCheck.Test, types.HealthCheckTest{"CMD", "/ixmage", "healthcheck"}),
		"time to drain":        s.StopGracePeriod != nil && time.Duration(*s.StopGracePeriod) > 32*time.Second,
		"the token by file":    len(s.Secrets) == 1 && strings.HasSuffix(project.Secrets["admin-token"].File, "/admin-token"),
		"a volume of its own":  len(s.Volumes) == 1 && s.Volumes[0].Type == types.VolumeTypeVolume && s.Volumes[0].Target == "/data",
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
	for _, p := range s.Ports {
		if p.Target != 8080 && p.HostIP != "127.0.0.1" {
			t.Errorf("port %d is published on %q", p.Target, p.HostIP)
		}
	}
	env := []string{"PATH=/"}
	secrets := mountedFiles(t) + "/token"
	for name, text := range s.Environment {
		env = append(env, name+"="+strings.ReplaceAll(*text, "/run/secrets", secrets))
	}
	got := ixmage(t, env, append(s.Command, "--log-level=none")...)
	if got.code != 2 || !strings.HasPrefix(got.stderr, "ixmage: --log-level") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("the program refuses the configuration of the container: status %d\n%s", got.code, got.stderr)
	}
}

// TestComposeRefuses: the check of the file above finds a wrong name and a wrong value.
func TestComposeRefuses(t *testing.T) {
	t.Parallel()
	for old, other := range map[string]string{
		"read_only: true": "readonly: true", "pids_limit: 256": "pids_limit: [256]", "- admin-token": "- token",
	} {
		text := strings.Replace(composeFile(t), old, other, 1)
		if _, err := load(t, text); text == composeFile(t) || err == nil {
			t.Errorf("a compose file with %q is taken", other)
		}
	}
}

// TestDockerfile: the compose file and the chart agree with the image.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^USER 65532:65532$`, `(?m)^ENTRYPOINT \["/ixmage"\]$`, `(?m)^CMD \["serve"\]$`, `(?m)^ENV IXMAGE_DATA=/data$`, `(?m)^VOLUME /data$`,
		`(?m)^HEALTHCHECK .* CMD \["/ixmage", "healthcheck"\]$`, `(?m)^FROM scratch$`,
		`(?m)^COPY --from=build --chown=65532:65532 /out/data /data$`,
	} {
		if !regexp.MustCompile(want).Match(text) {
			t.Errorf("the Dockerfile has no line like %s", want)
		}
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	needs := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	has := regexp.MustCompile(`(?m)^ARG GO_IMAGE=golang:(\d+\.\d+)`).FindSubmatch(text)
	if needs == nil || has == nil || string(needs[1]) != string(has[1]) {
		t.Errorf("go.mod needs Go %s, the image is built with %s", needs, has)
	}
}
