package seal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
)

// sealedBy seals a text, which openedBy opens.
func sealedBy(t *testing.T, k *Keyset) []byte {
	t.Helper()
	sealed, err := k.Seal(alias.NewSecret("text"), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func openedBy(k *Keyset, sealed []byte) bool {
	text, err := k.Open(sealed, 1, 2)
	return err == nil && text.Reveal() == "text"
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, err := Open(t.Context(), Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), Spec{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.Context(), Spec{Dir: t.TempDir(), Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	f := k.Fingerprint()
	if len(f) != 32 || again.Fingerprint() != f || other.Fingerprint() == f {
		t.Errorf("got %q, %q and %q", f, again.Fingerprint(), other.Fingerprint())
	}
	if !again.Has(f) || other.Has(f) || k.Has("") {
		t.Error("Has is wrong")
	}
	if text, err := os.ReadFile(k.Path()); err != nil || strings.Contains(string(text), f) {
		t.Errorf("the key set has its fingerprint, %v", err)
	}
}

// TestRenew goes from each form of a key set to each other one, and to the same place.
func TestRenew(t *testing.T) {
	t.Parallel()
	_, _, client := startKMS(t)
	forms := map[string]func(dir string) string{
		"folder": func(string) string { return "" },
		"file":   func(dir string) string { return "file:" + dir + "/a.keyset" },
		"file 2": func(dir string) string { return "file:" + dir + "/b.keyset" },
		"KMS":    func(string) string { return kmsPrefix + keyA },
		"KMS 2":  func(string) string { return kmsPrefix + keyB },
	}
	for from, master := range forms {
		for to, next := range forms {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				spec, nextSpec := Spec{Dir: dir, Master: master(dir), Fresh: true}, Spec{Dir: dir, Master: next(dir)}
				old, err := open(t.Context(), spec, client)
				if err != nil {
					t.Fatal(err)
				}
				text, sealed := read(t, old.path), sealedBy(t, old)
				made, err := old.renew(t.Context(), nextSpec, client)
				if err != nil {
					t.Fatal(err)
				}
				if same := made.path == old.path; !same {
					if _, err := os.Lstat(made.path); err == nil {
						t.Error("the file is there before Write")
					}
				}
				if err := made.Write(); err != nil {
					t.Fatal(err)
				}
				if got := read(t, made.Before); got != text {
					t.Error("the old key set was not kept")
				}
				spec.Fresh = false
				reopened, err := open(t.Context(), nextSpec, client)
				if err != nil {
					t.Fatal(err)
				}
				if !openedBy(reopened, sealed) || reopened.Fingerprint() == old.Fingerprint() || !reopened.Has(old.Fingerprint()) {
					t.Error("the new key set does not have the old key, or seals with it")
				}
				if openedBy(old, sealedBy(t, reopened)) {
					t.Error("the old key set opens what the new key has sealed")
				}
				wantContinued(t, old, reopened, nextSpec, made.path != old.path)
			})
		}
	}
}

// wantContinued: another call uses the key set that is in place, unless it has to replace it.
func wantContinued(t *testing.T, old, made *Keyset, next Spec, want bool) {
	t.Helper()
	if !want || strings.HasPrefix(next.Master, kmsPrefix) { // it would need the client
		return
	}
	again, err := old.Renew(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Write(); err != nil || again.Fingerprint() != made.Fingerprint() {
		t.Errorf("again: got the key set %s, %v, want %s", again.Fingerprint(), err, made.Fingerprint())
	}
}

func TestRenewTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := Open(t.Context(), Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	sealed := sealedBy(t, first)
	for n, kept := range []string{".before-rekey", ".before-rekey-2", ".before-rekey-3"} {
		k, err := Open(t.Context(), Spec{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		made, err := k.Renew(t.Context(), Spec{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := made.Write(); err != nil || made.Before != filepath.Join(dir, "master.keyset"+kept) || !openedBy(made.Keyset, sealed) {
			t.Errorf("time %d: kept %s, %v", n+1, made.Before, err)
		}
	}
}

// TestRenewRefusedByKMS: what KMS cannot wrap is not written.
func TestRenewRefusedByKMS(t *testing.T) {
	t.Parallel()
	fake, _, client := startKMS(t)
	dir := t.TempDir()
	old, err := Open(t.Context(), Spec{Dir: dir, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	fake.set(true)
	if _, err := old.renew(t.Context(), Spec{Dir: dir, Master: kmsPrefix + keyA}, client); err == nil || !strings.Contains(err.Error(), keyA) {
		t.Errorf("got %v", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("the folder has %v, %v", list, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
