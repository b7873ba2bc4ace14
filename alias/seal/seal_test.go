package seal

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
)

func openTest(t *testing.T, spec Spec) *Keyset {
	t.Helper()
	k, err := Open(t.Context(), spec)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return k
}

// wantRefused checks that an error says all of want.
func wantRefused(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestOpenMakesOnce(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		spec   func(dir string) Spec
		path   string
		beside bool
	}{
		{"default", func(dir string) Spec { return Spec{Dir: dir} }, "master.keyset", true},
		{"file in the data folder", func(dir string) Spec { return Spec{Dir: dir, Master: "file:" + dir + "/sub/my.keys"} }, "sub/my.keys", true},
		{"file elsewhere", func(dir string) Spec { return Spec{Dir: dir + "/sub", Master: "file:" + dir + "/my.keys"} }, "my.keys", false},
		{"folder of a like name", func(dir string) Spec { return Spec{Dir: dir + "/sub", Master: "file:" + dir + "/sub2/my.keys"} }, "sub2/my.keys", false},
		{"name that begins with dots", func(dir string) Spec { return Spec{Dir: dir, Master: "file:" + dir + "/..keys"} }, "..keys", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, sub := range []string{"sub", "sub2"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			spec := row.spec(dir)
			spec.Fresh = true
			first := openTest(t, spec)
			path := filepath.Join(dir, row.path)
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("key set: got %v, %v, want a file of mode 0600", info, err)
			}
			before, _ := os.ReadFile(path)
			sealed, err := first.Seal(alias.NewSecret("s3cret"), 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, fresh := range []bool{true, false} {
				spec.Fresh = fresh
				again := openTest(t, spec)
				if got, err := again.Open(sealed, 1, 1); err != nil || got.Reveal() != "s3cret" {
					t.Errorf("Open with the key set read again: got error %v", err)
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the key set was written again")
			}
			got, beside := first.BesideData()
			if beside != row.beside || beside && got != path {
				t.Errorf("BesideData: got %q, %v, want %q, %v", got, beside, path, row.beside)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const key = "bm90IGEgcmVhbCBrZXkgYnV0IHNlY3JldA"
	text := func(s string, mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, row := range []struct {
		name string
		make func(t *testing.T, path string)
		want []string
	}{
		{"group may read", text("{}", 0o640), []string{"chmod 600", "0640"}},
		{"group may write", text("{}", 0o620), []string{"chmod 600"}},
		{"others may read", text("{}", 0o604), []string{"chmod 600"}},
		{"others may run", text("{}", 0o601), []string{"chmod 600"}},
		{"empty", text("", 0o600), []string{"damaged", "backup"}},
		{"no JSON", text(key, 0o600), []string{"damaged", "backup"}},
		{"no keys", text("{}", 0o600), []string{"damaged", "backup"}},
		{"cut off", text(`{"primaryKeyId":1,"key":[{"keyData":{"value":"`+key, 0o600), []string{"damaged", "backup"}},
		{"odd key", text(`{"primaryKeyId":1,"key":[{"keyData":{"typeUrl":"type.googleapis.com/google.crypto.tink.AesGcmKey",`+
			`"value":"`+key+`","keyMaterialType":"SYMMETRIC"},"status":"ENABLED","keyId":1,"outputPrefixType":"TINK"}]}`, 0o600), []string{"key set"}},
		{"folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"not a file"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "master.keyset")
			row.make(t, path)
			for _, fresh := range []bool{true, false} {
				_, err := Open(t.Context(), Spec{Dir: dir, Fresh: fresh})
				wantRefused(t, err, append(row.want, path)...)
				if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), key[:8]) {
					t.Errorf("error %q quotes the file", err)
				}
			}
		})
	}
}

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(t.Context(), Spec{Dir: dir, Sealed: 3})
	wantRefused(t, err, filepath.Join(dir, "master.keyset"), "missing", "secrets of 3 credentials", "cannot be read", "restore the file from backup", "move the database away", "register")
	_, err = Open(t.Context(), Spec{Dir: dir, Master: "file:" + dir + "/other"})
	wantRefused(t, err, dir+"/other is missing", "secrets of credentials")
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("a refused Open left %v", list)
	}
	_, err = Open(t.Context(), Spec{Dir: filepath.Join(dir, "none"), Fresh: true})
	wantRefused(t, err, "write the key set", "no such file")
}

func TestValidateMaster(t *testing.T) {
	t.Parallel()
	for master, valid := range map[string]bool{
		"":            true,
		"file:/a/b":   true,
		"file:b":      true,
		"file:":       false,
		"/a/b":        false,
		"gcp-kms://x": false,
		"aws-kms://":  false,
		"aws-kms://arn:aws:kms:eu-west-1:123456789012:key/abc":       true,
		"aws-kms://arn:aws-cn:kms:cn-north-1:123456789012:alias/abc": true,
		"aws-kms://arn:aws:s3:eu-west-1:123456789012:key/abc":        false,
		"aws-kms://arn:aws:kms::123456789012:key/abc":                false,
		"aws-kms://arn:aws:kms:eu-west-1::key/abc":                   false,
		"aws-kms://arn::kms:eu-west-1:123456789012:key/abc":          false,
		"aws-kms://arn:aws:kms:eu-west-1:123456789012:abc":           false,
		"aws-kms://arn:aws:kms:eu-west-1:123456789012:key/a:b":       false,
		"aws-kms://abc": false,
	} {
		if err := ValidateMaster(master); (err == nil) != valid {
			t.Errorf("ValidateMaster(%q): got %v, want valid %v", master, err, valid)
		}
	}
	_, err := Open(t.Context(), Spec{Dir: t.TempDir(), Fresh: true, Master: "nonsense"})
	wantRefused(t, err, "nonsense", "file:PATH", "aws-kms://")
}

// TestSealBinds changes one thing at a time.
func TestSealBinds(t *testing.T) {
	t.Parallel()
	k := openTest(t, Spec{Dir: t.TempDir(), Fresh: true})
	other := openTest(t, Spec{Dir: t.TempDir(), Fresh: true})
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sealed, err := k.Seal(alias.NewSecret(secret), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for _, row := range []struct {
		name        string
		keyset      *Keyset
		sealed      []byte
		id, version int64
		opens       bool
	}{
		{"same", k, sealed, 1, 2, true},
		{"other credential", k, sealed, 2, 2, false},
		{"version before", k, sealed, 1, 1, false},
		{"version after", k, sealed, 1, 3, false},
		{"id and version swapped", k, sealed, 2, 1, false},
		{"other key set", other, sealed, 1, 2, false},
		{"one bit flipped", k, flipped, 1, 2, false},
		{"cut off", k, sealed[:len(sealed)-1], 1, 2, false},
		{"empty", k, nil, 1, 2, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := row.keyset.Open(row.sealed, row.id, row.version)
			if row.opens != (err == nil) || row.opens != (got.Reveal() == secret) {
				t.Errorf("Open: got error %v, want opens %v", err, row.opens)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("error %q shows the secret", err)
			}
		})
	}
	if bytes.Contains(sealed, []byte(secret)) {
		t.Error("the sealed value holds the secret")
	}
	if again, err := k.Seal(alias.NewSecret(secret), 1, 2); err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed twice: got the same value, %v", err)
	}
}

// TestAssociatedData is a contract with every database there is: a change of
// these bytes would make all secrets unreadable.
func TestAssociatedData(t *testing.T) {
	t.Parallel()
	got := hex.EncodeToString(associated(0x0102030405060708, 9))
	want := hex.EncodeToString([]byte("ixmage credential secret")) + "00" + "0102030405060708" + "0000000000000009"
	if got != want {
		t.Errorf("associated data: got %s, want %s", got, want)
	}
}

func FuzzOpen(f *testing.F) {
	k, err := Open(f.Context(), Spec{Dir: f.TempDir(), Fresh: true})
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := k.Seal(alias.NewSecret("s3cret"), 1, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, int64(1), int64(1))
	f.Add(sealed[:5], int64(1), int64(1))
	f.Add([]byte{}, int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, text []byte, id, version int64) {
		got, err := k.Open(text, id, version)
		genuine := bytes.Equal(text, sealed) && id == 1 && version == 1
		if genuine != (err == nil) || genuine != (got.Reveal() == "s3cret") {
			t.Errorf("Open(%x, %d, %d): error %v", text, id, version, err)
		}
	})
}

// TestInDataFolder: only a key set in the data folder belongs to this registry alone.
func TestInDataFolder(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	for _, path := range []string{
		filepath.Join(dir, "master.keyset"), filepath.Join(dir, "mine"), filepath.Join(elsewhere, "shared"),
	} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const arn = "aws-kms://arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
	for _, tt := range []struct{ name, master, dir, want string }{
		{"default", "", dir, filepath.Join(dir, "master.keyset")},
		{"default, none there", "", elsewhere, ""},
		{"named in the folder", "file:" + filepath.Join(dir, "mine"), dir, filepath.Join(dir, "mine")},
		{"named in the folder, none there", "file:" + filepath.Join(dir, "none"), dir, ""},
		{"named elsewhere", "file:" + filepath.Join(elsewhere, "shared"), dir, ""},
		{"named elsewhere by a path through the folder", "file:" + filepath.Join(dir, "..", filepath.Base(elsewhere), "shared"), dir, ""},
		{"wrapped, none there", arn, dir, ""},
	} {
		if got := InDataFolder(Spec{Master: tt.master, Dir: tt.dir}); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	wrapped := filepath.Join(dir, "master.keyset.kms")
	if err := os.WriteFile(wrapped, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := InDataFolder(Spec{Master: arn, Dir: dir}); got != wrapped {
		t.Errorf("wrapped: got %q, want %q", got, wrapped)
	}
}
