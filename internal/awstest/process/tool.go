package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// FindTool returns the program that an environment variable names or, if it is unset,
// bin/name beside the nearest go.mod above the working folder, where make tools builds
// it. The error wraps missing if there is none.
func FindTool(name, variable string, missing error) (string, error) {
	if path := os.Getenv(variable); path != "" {
		if err := executable(path); err != nil {
			return "", fmt.Errorf("%w (%s: %w)", missing, variable, err)
		}
		return filepath.Abs(path)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "bin", name)
		if executable(path) == nil {
			return path, nil
		}
		parent := filepath.Dir(dir)
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || parent == dir {
			return "", missing
		}
		dir = parent
	}
}

// builtVariable names the program that make test has built for all packages: linking it costs
// seconds.
const builtVariable = "IXMAGE_BUILT"

// Ixmage puts the program without the race detector into dir: a copy of the one that the
// environment variable IXMAGE_BUILT names or, if it is unset, one that it builds.
func Ixmage(dir string) (string, error) {
	path := filepath.Join(dir, "ixmage")
	if built := os.Getenv(builtVariable); built != "" {
		program, err := os.ReadFile(built)
		if err != nil {
			return "", err
		}
		return path, os.WriteFile(path, program, 0o755) // other users run it
	}
	cmd := exec.Command("go", "build", "-o", path, "ixmage")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ixmage: %w\n%s", err, out)
	}
	return path, nil
}

// executable reports whether a path is a file that can be run.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return errors.New(path + " is not an executable file")
	}
	return nil
}

// Server is what runs in child processes.
type Server interface{ Stop() error }

// portTries is how often a server is started: another process may take its port before it does.
const portTries = 10

// StartServer starts a server, and starts it again if that fails. start returns the server with an
// error too, so that what runs of it is stopped.
func StartServer[S Server](ctx context.Context, start func() (S, error)) (S, error) {
	for try := 1; ; try++ {
		s, err := start()
		if err == nil {
			return s, nil
		}
		if stopErr := s.Stop(); stopErr != nil || try == portTries || ctx.Err() != nil {
			return *new(S), errors.Join(err, stopErr)
		}
	}
}

// ServerOf starts a server that ends with the test. If the error of start is missing, it skips the
// test or, if the environment variable require is set, fails it.
func ServerOf[S Server](
	t testing.TB, start func(ctx context.Context, dir string) (S, error), missing error, require string,
) S {
	t.Helper()
	s, err := start(t.Context(), t.TempDir())
	if errors.Is(err, missing) && os.Getenv(require) == "" {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// FreeAddresses finds n free ports of loopback. All listeners are open at once, so that
// the ports differ. Another process may take one before the caller does.
func FreeAddresses(n int) ([]string, error) {
	if n == 0 {
		return nil, nil
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	rest, err := FreeAddresses(n - 1)
	return append(rest, ln.Addr().String()), err
}

// Healthy reports whether url answers 200.
func Healthy(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
