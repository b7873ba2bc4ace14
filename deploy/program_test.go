// Package deploy tests the files that run ixmage: the units of systemd, the chart and the compose
// file. It is a module of its own, because the libraries of Helm, Kubernetes and Compose are large.
package deploy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program is the built ixmage.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // Helm warns of the link to the alerts, which is meant
	if os.Getenv(asConfined) != "" {
		confine()
	}
	os.Exit(testMain(m)) //nolint:forbidigo // as main does
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ixmage-deploy-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user runs the program
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	program = filepath.Join(dir, "ixmage")
	cmd := exec.Command("go", "-C", "..", "build", "-o", program, ".")
	if built := os.Getenv("IXMAGE_BUILT"); built != "" { // by make test, for all packages
		cmd = exec.Command("cp", built, program) // the other user may not enter its folder
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, text)
		return 1
	}
	return m.Run()
}

// outcome is the result of a run of the program.
type outcome struct {
	code           int
	stdout, stderr string
}

// ixmage runs the program until it ends, with env only.
func ixmage(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// mountedFiles makes the files that a pod may have under /etc/ixmage.
func mountedFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := certificate(t)
	for name, text := range map[string]string{
		"token/admin-token": strings.Repeat("0123456789abcdef", 4), "master/master.keyset": "{}",
		"tls/tls.crt": cert, "tls/tls.key": key,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"ixmage"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8)
}
