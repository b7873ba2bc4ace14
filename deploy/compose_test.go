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

// TestComposeFleet: each node has the address that haproxy.cfg has, a name and a volume of its own,
// and nothing that the outside reaches; the program takes its settings, and trusts the balancer.
func TestComposeFleet(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("fleet/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	balancer, err := os.ReadFile("fleet/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	project, err := load(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	front, err := project.GetService("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	volumes, names := map[string]bool{}, map[string]bool{}
	for name, s := range project.Services {
		if !strings.HasPrefix(name, "node-") {
			continue
		}
		setting := func(name string) string {
			if s.Environment[name] == nil {
				return ""
			}
			return *s.Environment[name]
		}
		volumes[s.Volumes[0].Source], names[setting("IXMAGE_NODE")] = true, true
		for what, ok := range map[string]bool{
			"the address of haproxy.cfg": strings.Contains(string(balancer), "server "+name+" "+s.Networks["fleet"].Ipv4Address+":8080 "),
			"no port of the host":        len(s.Ports) == 0,
			"the balancer is trusted":    setting("IXMAGE_TRUSTED_PROXIES") == front.Networks["fleet"].Ipv4Address,
			"its name":                   setting("IXMAGE_NODE") == name,
			"read-only root":             s.ReadOnly && s.User == "65532:65532" && slices.Equal(s.CapDrop, []string{"ALL"}),
			"time to drain":              s.StopGracePeriod != nil && time.Duration(*s.StopGracePeriod) > 32*time.Second,
			"the database first":         s.DependsOn["postgres"].Condition == types.ServiceConditionHealthy,
		} {
			if !ok {
				t.Errorf("%s: not so: %s", name, what)
			}
		}
		env := []string{"PATH=/"}
		for name, value := range s.Environment {
			env = append(env, name+"="+strings.NewReplacer("/run/secrets/admin-token", mountedFiles(t)+"/token/admin-token").Replace(*value))
		}
		got := ixmage(t, env, append(s.Command, "--log-level=none")...)
		if got.code != 2 || !strings.HasPrefix(got.stderr, "ixmage: --log-level") || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("the program refuses the configuration of %s: status %d\n%s", name, got.code, got.stderr)
		}
	}
	if len(volumes) != 3 || len(names) != 3 {
		t.Errorf("volumes %v, names %v", volumes, names)
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
		`(?m)^HEALTHCHECK .* CMD \["/ixmage", "healthcheck"\]$`, `(?m)^FROM scratch AS static$`, `FROM static\n*$`,
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
