package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"ixmage/internal/awstest/process"
)

// ErrMissing means that PostgreSQL is not installed on this machine.
var ErrMissing = errors.New(
	"PostgreSQL is not here: install the package postgresql, or put postgres and initdb on PATH")

// cluster is a data folder with its address and the way to start a server on it.
type cluster struct {
	bin      string // folder of initdb and postgres
	dir      string // owned by the account of the server
	addr     string
	password string // of every role
	tls      bool
}

// newCluster makes a data folder. The caller removes dir, also after an error.
func newCluster(ctx context.Context, opts Options) (*cluster, error) {
	bin, err := findBin()
	if err != nil {
		return nil, err
	}
	c := &cluster{bin: bin, password: rand.Text(), tls: opts.TLS}
	if c.addr, err = freeAddress(); err != nil {
		return nil, err
	}
	if c.dir, err = privateDir(); err != nil {
		return nil, err
	}
	err = c.init(ctx)
	return c, err
}

// findBin returns the folder with the newest server. Debian keeps each version in a folder of
// its own.
func findBin() (string, error) {
	paths, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(paths) > 0 {
		return filepath.Dir(slices.MaxFunc(paths, func(a, b string) int { return version(a) - version(b) })), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", ErrMissing
	}
	return filepath.Dir(path), nil
}

// version reads 15 from /usr/lib/postgresql/15/bin/postgres.
func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // another name counts as 0
	return n
}

// freeAddress finds a free port below those that the kernel gives to clients, so that no client
// takes it while the server is stopped.
func freeAddress() (string, error) {
	for try := 1; ; try++ {
		n, err := rand.Int(rand.Reader, big.NewInt(20_000))
		if err != nil {
			return "", err
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.FormatInt(12_000+n.Int64(), 10))
		ln, err := net.Listen("tcp4", addr)
		if err == nil {
			return addr, ln.Close()
		}
		if try == 100 {
			return "", err
		}
	}
}

// account is the user that servers run as: PostgreSQL and PgBouncer refuse to run as root. It is
// nil for this process's own user.
func account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // documented
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

// privateDir makes a folder that belongs to the account. It is not in t.TempDir, which only root
// may enter when the test runs as root.
func privateDir() (string, error) {
	dir, err := os.MkdirTemp("", "ixmage-postgres-")
	if err != nil {
		return "", err
	}
	return dir, give(dir)
}

// give makes the account the owner of a file.
func give(path string) error {
	as, err := account()
	if err != nil || as == nil {
		return err
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}

// write writes a file that belongs to the account.
func write(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return give(path)
}

// command returns a program that runs as the account in a folder of its own, without our
// environment, which may name another server.
func command(dir, program string, args ...string) (*exec.Cmd, error) {
	as, err := account()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C"}
	return cmd, nil
}

func (c *cluster) init(ctx context.Context) error {
	password := filepath.Join(c.dir, "password")
	if err := write(password, c.password); err != nil {
		return err
	}
	cmd, err := command(c.dir, filepath.Join(c.bin, "initdb"), "--pgdata", c.data(), "--no-sync",
		"--username", superuser, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C")
	if err != nil {
		return err
	}
	child, err := process.Start("initdb", cmd)
	if err != nil {
		return err
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		child.Kill()
	}
	if err := child.Err(); !errors.Is(err, process.ErrExited) {
		return fmt.Errorf("initdb: %w: %s", err, child.Output())
	}
	return errors.Join(c.writeCertificate(), write(filepath.Join(c.data(), "pg_hba.conf"), c.hba()))
}

// hba is the file that says who may connect.
func (c *cluster) hba() string {
	kind := "host"
	if c.tls {
		kind = "hostssl"
	}
	return kind + "\tall\tall\t127.0.0.1/32\tscram-sha-256\n" //nolint:dupword // all databases, all roles
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

// server returns the command of the server. Its data need not survive a power cut, and its
// background processes would only take processor time from the tests.
func (c *cluster) server() (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, err
	}
	args := []string{"-D", c.data()}
	for _, setting := range []string{
		"listen_addresses=" + host, "port=" + port, "unix_socket_directories=", "max_connections=200",
		"fsync=off", "full_page_writes=off", "shared_buffers=16MB", "autovacuum=off",
		"wal_level=minimal", "max_wal_senders=0", "max_logical_replication_workers=0", "jit=off",
	} {
		args = append(args, "-c", setting)
	}
	if c.tls {
		args = append(args, "-c", "ssl=on")
	}
	return command(c.dir, filepath.Join(c.bin, "postgres"), args...)
}
