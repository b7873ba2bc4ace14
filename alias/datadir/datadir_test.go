package datadir

import (
	"context"
	"database/sql" //nolint:depguard // a test spoils databases
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// envKill makes the test binary run one command, and kill itself at a step.
const envKill = "IXMAGE_TEST_KILL_AT"

func TestMain(m *testing.M) {
	if at := os.Getenv(envKill); at != "" {
		n, err := strconv.Atoi(at)
		if err == nil {
			err = runAndDie(n, os.Args[1:])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // as main does
		}
		os.Exit(0) //nolint:forbidigo // as main does
	}
	os.Exit(m.Run()) //nolint:forbidigo // as main does
}

// runAndDie runs a command until its n-th step.
func runAndDie(n int, args []string) error {
	step := func(string) {
		if n--; n < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
	}
	if args[0] == "restore" {
		_, err := Restore(context.Background(), RestoreSpec{File: args[1], Dir: args[2], Master: args[3], step: step})
		return err
	}
	if args[0] == "copy" {
		return copyAndDie(args[1], args[2], step)
	}
	_, err := Rekey(context.Background(), RekeySpec{Dir: args[1], Master: args[2], NewMaster: args[3], step: step})
	return err
}

// eachKill runs a command and kills it at each of its steps: before each, prepare makes what
// it works on and returns its arguments, and afterwards check looks at it.
func eachKill(t *testing.T, least int, prepare func(t *testing.T) []string, check func(t *testing.T, args []string)) {
	t.Helper()
	for n := 0; ; n++ {
		args := prepare(t)
		cmd := exec.Command(os.Args[0], args...)
		cmd.Env = append(os.Environ(), envKill+"="+strconv.Itoa(n))
		text, err := cmd.CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		switch {
		case err == nil:
			if n < least {
				t.Errorf("the command has %d steps, at least %d were expected", n, least)
			}
			return
		case !ok || !exit.Sys().(syscall.WaitStatus).Signaled():
			t.Fatalf("step %d: %v: %s", n, err, text)
		}
		t.Run(fmt.Sprint("killed at ", n), func(t *testing.T) { check(t, args) })
	}
}

// TestUnlock: a process that is being started has copies of the descriptors of this one.
func TestUnlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(list) == 0 {
		t.Skip("SKIPPED: there is no /proc")
	}
	for _, link := range list {
		if path, _ := os.Readlink(link); path != filepath.Join(dir, "lock") {
			continue
		}
		fd, _ := strconv.Atoi(filepath.Base(link))
		child, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(child) })
	}
	unlock()
	if unlock, err = Lock(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}

const (
	secretStatic   = "the-secret-of-the-static-key"
	secretCurrent  = "the-secret-of-the-current-key"
	secretPending  = "the-secret-of-the-pending-key"
	secretPrevious = "the-secret-of-the-previous-key"
	secretOld      = "the-secret-in-an-operation"
)

// folder makes a data folder with a sealed value in every place that has some.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	store := openStore(t, dir)
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := alias.Open(t.Context(), store, keys, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	a := alias.New()
	a.Name, a.Location = "shop", alias.Location{Bucket: "acme-media", Region: "eu-west-1"}
	pair := alias.KeyPair{AccessKeyID: "AKIASTATIC", SecretAccessKey: alias.NewSecret(secretStatic)}
	if _, err := r.CreateAlias(t.Context(), a, alias.CredentialRef{KeyPair: &pair}); err != nil {
		t.Fatal(err)
	}
	c := &alias.Credential{ID: 77, Name: "web", Version: 5, State: alias.CredentialRotating, Revision: 1}
	sealed := func(id, secret string, version int64) alias.SealedKey {
		k, err := r.SealKey(c, alias.KeyPair{AccessKeyID: id, SecretAccessKey: alias.NewSecret(secret)}, version)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	c.Sealed = sealed("AKIACURRENT", secretCurrent, 5).Sealed
	c.Provider = &alias.Provisioned{
		AccessKeyID: "AKIACURRENT", Tags: map[string]string{"a&b": "<1>"}, RotateEvery: 1<<62 + 1,
		Pending:  &alias.PendingKey{SealedKey: sealed("AKIAPENDING", secretPending, 6)},
		Previous: &alias.PreviousKey{SealedKey: sealed("AKIAPREVIOUS", secretPrevious, 4), Until: time.Unix(1, 0).UTC()},
	}
	data, err := json.Marshal(map[string]any{"pending": sealed("AKIAOLD", secretOld, 6), "number": json.Number("9007199254740993")})
	if err != nil {
		t.Fatal(err)
	}
	op := &alias.Operation{
		ID: "op-1", Kind: alias.OperationRotate, Credential: "web", CredentialID: 77, State: alias.OperationRunning,
		Request: []byte(`{"a":1,"sealed":"no","version":1}`), Data: data, Revision: 1,
	}
	other := &alias.Operation{ID: "op-2", Kind: alias.OperationRotate, State: alias.OperationDone, Data: []byte(`{"z":1, "a":2}`), Revision: 1}
	err = store.Update(t.Context(), func(tx alias.Tx) error {
		return errors.Join(tx.InsertCredential(c), tx.InsertOperation(op), tx.InsertOperation(other))
	})
	// A deleted secret stays in free space of the file.
	for i := range 20 {
		gone, err := r.CreateCredential(t.Context(), alias.Name(fmt.Sprint("gone", i)), alias.CredentialRef{KeyPair: &pair})
		if err == nil {
			err = r.DeleteCredential(t.Context(), gone.Name, gone.Revision)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(err, alias.NoteKeyset(t.Context(), store, keys.Fingerprint()), store.Close())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func openStore(t *testing.T, dir string) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.OpenSQLite(t.Context(), RegistryPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// opens reports whether the registry opens with a master key, and checks every secret if it
// does.
func opens(t *testing.T, dir, master string) bool {
	t.Helper()
	store := openStore(t, dir)
	defer store.Close()
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Master: master, Sealed: 2})
	if err != nil {
		return false
	}
	r, err := alias.Open(t.Context(), store, keys, alias.Policy{})
	if err != nil {
		if !errors.Is(err, alias.ErrWrongKey) {
			t.Errorf("open with %q: %v", master, err)
		}
		return false
	}
	shop, err := r.Credential(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	wantSecret(t, secretStatic)(r.Reveal(shop))
	web, err := r.Credential(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	wantSecret(t, secretCurrent)(r.Reveal(web))
	p, _ := web.Provisioned()
	wantSecret(t, secretPending)(r.RevealSealed(web, p.Pending.SealedKey))
	wantSecret(t, secretPrevious)(r.RevealSealed(web, p.Previous.SealedKey))
	if p.Tags["a&b"] != "<1>" || p.RotateEvery != 1<<62+1 || !p.Previous.Until.Equal(time.Unix(1, 0)) {
		t.Errorf("the rest of the credential has changed: %+v", p)
	}
	wantOperations(t, r, web)
	return true
}

func wantOperations(t *testing.T, r *alias.Registry, web *alias.Credential) {
	t.Helper()
	op, err := r.History().Operation(t.Context(), "op-1")
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		Pending alias.SealedKey
		Number  json.Number
	}
	if err := json.Unmarshal(op.Data, &data); err != nil || data.Number != "9007199254740993" || string(op.Request) != `{"a":1,"sealed":"no","version":1}` {
		t.Errorf("operation: got %s and %s, %v", op.Data, op.Request, err)
	}
	wantSecret(t, secretOld)(r.RevealSealed(web, data.Pending))
	if other, err := r.History().Operation(t.Context(), "op-2"); err != nil || string(other.Data) != `{"z":1, "a":2}` {
		t.Errorf("an operation without a secret: got %s, %v", other.Data, err)
	}
}

func wantSecret(t *testing.T, want string) func(alias.KeyPair, error) {
	t.Helper()
	return func(kp alias.KeyPair, err error) {
		t.Helper()
		if err != nil || kp.SecretAccessKey.Reveal() != want {
			t.Errorf("got %q, %v, want %q", kp.SecretAccessKey.Reveal(), err, want)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// backup copies the registry of a folder.
func backup(t *testing.T, dir string) string {
	t.Helper()
	store := openStore(t, dir)
	path, err := store.Copy(t.Context(), t.TempDir(), "backup-*")
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// names lists the files of a folder.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
		if !Files.MatchString(e.Name()) {
			t.Errorf("the server would not know %s in its folder", e.Name())
		}
	}
	return strings.Join(list, " ")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, read(t, from), 0o600); err != nil {
		t.Fatal(err)
	}
}

// execRaw changes a database without the store.
func execRaw(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
