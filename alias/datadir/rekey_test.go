package datadir

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/seal"
)

func TestRekey(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		t.Run(map[bool]string{true: "same place", false: "another place"}[same], func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			oldFile := filepath.Join(dir, "master.keyset")
			oldSet := read(t, oldFile)
			next := ""
			if !same {
				next = "file:" + filepath.Join(t.TempDir(), "new.keyset")
			}
			done, err := Rekey(t.Context(), RekeySpec{Dir: dir, NewMaster: next})
			if err != nil {
				t.Fatal(err)
			}
			if done.Sealed != 5 || done.Fingerprint == done.OldFingerprint {
				t.Errorf("got %+v, want 5 sealed values", done)
			}
			if !opens(t, dir, next) {
				t.Error("the new key set does not open the registry")
			}
			if string(read(t, done.Before)) != string(oldSet) {
				t.Error("the old key set was not kept")
			}
			// The old key set alone opens nothing, whatever its name.
			if opens(t, dir, "file:"+done.Before) {
				t.Error("the old key set opens the registry")
			}
			wantNothingOpens(t, dir, done.Before)
			if noted, err := openStore(t, dir).Meta(t.Context(), alias.MetaKeyset); err != nil || string(noted) != done.Fingerprint {
				t.Errorf("noted %s, %v, want %s", noted, err, done.Fingerprint)
			}
			names(t, dir)
		})
	}
}

// wantNothingOpens looks for values that a key set opens: in every place, and in bytes of the
// file that are not used any more.
func wantNothingOpens(t *testing.T, dir, keyset string) {
	t.Helper()
	keys, err := seal.Open(t.Context(), seal.Spec{Master: "file:" + keyset, Sealed: 1})
	if err != nil {
		t.Fatal(err)
	}
	// A sealed value begins with the id of its key.
	sealed, err := keys.Seal(alias.NewSecret("x"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"registry.db", "registry.db-wal"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil && bytes.Contains(text, sealed[:5]) {
			t.Errorf("%s still has what the old key has sealed", name)
		}
	}
}

// TestRekeyKilled: killed at any step, the registry opens with the key set of before or with
// the new one, and the same call completes it.
func TestRekeyKilled(t *testing.T) {
	t.Parallel()
	for _, same := range []bool{true, false} {
		t.Run(map[bool]string{true: "same place", false: "another place"}[same], func(t *testing.T) {
			t.Parallel()
			prepare := func(t *testing.T) []string {
				t.Helper()
				args := []string{"rekey", folder(t), "", ""}
				if !same {
					args[3] = "file:" + filepath.Join(t.TempDir(), "new.keyset")
				}
				return args
			}
			eachKill(t, 5, prepare, func(t *testing.T, args []string) {
				dir, old, next := args[1], args[2], args[3]
				if before, after := opens(t, dir, old), opens(t, dir, next); !before && !after {
					t.Fatalf("neither key set opens the registry: %s", names(t, dir))
				}
				if _, err := Rekey(t.Context(), RekeySpec{Dir: dir, Master: old, NewMaster: next}); err != nil {
					t.Fatalf("again: %v", err)
				}
				if !opens(t, dir, next) || !same && opens(t, dir, old) {
					t.Error("the registry does not open with the new key set alone")
				}
				wantNothingOpens(t, dir, oldest(t, dir))
				names(t, dir)
			})
		})
	}
}

// oldest is the path of the key set of before.
func oldest(t *testing.T, dir string) string {
	t.Helper()
	kept := filepath.Join(dir, "master.keyset.before-rekey")
	if _, err := os.Stat(kept); err != nil {
		return filepath.Join(dir, "master.keyset")
	}
	return kept
}

// TestRekeyServedInBetween: a server that ran with the new key set after a kill has sealed with
// it.
func TestRekeyServedInBetween(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	next := "file:" + filepath.Join(t.TempDir(), "new.keyset")
	keys, err := seal.Open(t.Context(), seal.Spec{Dir: dir, Sealed: 1})
	if err != nil {
		t.Fatal(err)
	}
	made, err := keys.Renew(t.Context(), seal.Spec{Dir: dir, Master: next})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Write(); err != nil {
		t.Fatal(err)
	}
	store := openStore(t, dir)
	r, err := alias.Open(t.Context(), store, made, alias.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	pair := alias.KeyPair{AccessKeyID: "AKIASTATIC", SecretAccessKey: alias.NewSecret(secretStatic)}
	if _, err := r.ReplaceKeyPair(t.Context(), "shop", 0, pair); err != nil {
		t.Fatal(err)
	}
	store.Close()
	if _, err := Rekey(t.Context(), RekeySpec{Dir: dir, NewMaster: next}); err != nil {
		t.Fatal(err)
	}
	if !opens(t, dir, next) {
		t.Error("the new key set does not open the registry")
	}
}

func TestRekeyRefused(t *testing.T) {
	t.Parallel()
	other := folder(t)
	for _, row := range []struct {
		name  string
		spec  func(t *testing.T, dir string) RekeySpec
		wants []string
	}{
		{"no registry", func(t *testing.T, _ string) RekeySpec { return RekeySpec{Dir: t.TempDir()} }, []string{"there is no registry", "--data"}},
		{"no folder", func(_ *testing.T, dir string) RekeySpec { return RekeySpec{Dir: dir + "/none"} }, []string{"there is no registry"}},
		{"in use", func(t *testing.T, dir string) RekeySpec {
			unlock, err := Lock(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unlock)
			return RekeySpec{Dir: dir}
		}, []string{"in use by another ixmage", "stop it"}},
		{"old key set missing", func(_ *testing.T, dir string) RekeySpec {
			return RekeySpec{Dir: dir, Master: "file:" + dir + "/none", NewMaster: "file:" + dir + "/none2"}
		}, []string{"none is missing"}},
		{"wrong key set", func(_ *testing.T, dir string) RekeySpec {
			return RekeySpec{Dir: dir, Master: "file:" + other + "/master.keyset", NewMaster: "file:" + dir + "/none"}
		}, []string{"is not the one", "fingerprint", "--master-key"}},
		{"another key set in the way", func(_ *testing.T, dir string) RekeySpec {
			return RekeySpec{Dir: dir, NewMaster: "file:" + other + "/master.keyset"}
		}, []string{"holds another key set", "where no file is"}},
		{"another file in the way", func(t *testing.T, dir string) RekeySpec {
			path := filepath.Join(t.TempDir(), "notes.txt")
			if err := os.WriteFile(path, []byte("notes"), 0o600); err != nil {
				t.Fatal(err)
			}
			return RekeySpec{Dir: dir, NewMaster: "file:" + path}
		}, []string{"notes.txt"}},
		{"no form of a key", func(_ *testing.T, dir string) RekeySpec { return RekeySpec{Dir: dir, NewMaster: "new.keyset"} }, []string{"--new-master-key", "file:PATH"}},
		{"folder of the new one missing", func(_ *testing.T, dir string) RekeySpec {
			return RekeySpec{Dir: dir, NewMaster: "file:" + dir + "/none/new.keyset"}
		}, []string{"none/new.keyset"}},
		{"a secret that no key opens", func(t *testing.T, dir string) RekeySpec {
			store := openStore(t, dir)
			err := store.Update(t.Context(), func(tx alias.Tx) error {
				c, err := tx.Credential("web")
				if err != nil {
					return err
				}
				c.Sealed[len(c.Sealed)-1] ^= 1
				c.Revision++
				return tx.UpdateCredential(c)
			})
			if err != nil {
				t.Fatal(err)
			}
			store.Close()
			return RekeySpec{Dir: dir}
		}, []string{"nothing was changed", "credential web"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			spec := row.spec(t, dir)
			set := read(t, filepath.Join(dir, "master.keyset"))
			_, err := Rekey(t.Context(), spec)
			if err == nil {
				t.Fatal("got no error")
			}
			for _, w := range row.wants {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want %q in it", err, w)
				}
			}
			if strings.Contains(err.Error(), secretStatic) {
				t.Errorf("the error has a secret: %v", err)
			}
			if string(set) != string(read(t, filepath.Join(dir, "master.keyset"))) || strings.Contains(names(t, dir), "before") {
				t.Errorf("the key set has changed: %s", names(t, dir))
			}
			if row.name != "a secret that no key opens" && row.name != "in use" && !opens(t, dir, "") {
				t.Error("the registry does not open any more")
			}
		})
	}
}
