package seal

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"

	"ixmage/alias"
)

const (
	keyA = "arn:aws:kms:eu-west-1:123456789012:key/aaaaaaaa-0000-0000-0000-000000000000"
	keyB = "arn:aws:kms:eu-west-1:123456789012:key/bbbbbbbb-0000-0000-0000-000000000000"
)

// fakeKMS speaks the JSON of KMS over HTTP. What it calls a ciphertext is a
// reference to a plaintext that it keeps, with the key and context it came with.
type fakeKMS struct {
	mu      sync.Mutex // guards what follows
	vault   []entry
	refuses bool // answers AccessDenied
	calls   []string
}

type entry struct {
	key     string
	context map[string]string
	text    []byte
}

// message is a request or answer of either call. KMS spells the names of the
// fields as they stand here.
type message struct {
	KeyID             string            `json:"KeyId"`             //nolint:tagliatelle // see above
	Plaintext         []byte            `json:"Plaintext"`         //nolint:tagliatelle // see above
	CiphertextBlob    []byte            `json:"CiphertextBlob"`    //nolint:tagliatelle // see above
	EncryptionContext map[string]string `json:"EncryptionContext"` //nolint:tagliatelle // see above
}

func (f *fakeKMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	call := r.Header.Get("X-Amz-Target")
	f.calls = append(f.calls, call)
	var in message
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, "SerializationException")
		return
	}
	switch {
	case f.refuses:
		fail(w, "AccessDeniedException")
	case in.KeyID != keyA && in.KeyID != keyB:
		fail(w, "NotFoundException")
	case call == "TrentService.Encrypt":
		f.vault = append(f.vault, entry{in.KeyID, in.EncryptionContext, in.Plaintext})
		answer(w, message{KeyID: in.KeyID, CiphertextBlob: []byte{byte(len(f.vault))}})
	case call == "TrentService.Decrypt":
		f.decrypt(w, in)
	default:
		fail(w, "UnknownOperationException")
	}
}

func (f *fakeKMS) decrypt(w http.ResponseWriter, in message) {
	if len(in.CiphertextBlob) != 1 || int(in.CiphertextBlob[0]) > len(f.vault) {
		fail(w, "InvalidCiphertextException")
		return
	}
	e := f.vault[in.CiphertextBlob[0]-1]
	switch {
	case e.key != in.KeyID:
		fail(w, "IncorrectKeyException")
	case !maps.Equal(e.context, in.EncryptionContext):
		fail(w, "InvalidCiphertextException")
	default:
		answer(w, message{KeyID: e.key, Plaintext: e.text})
	}
}

func answer(w http.ResponseWriter, m message) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(text)
}

func fail(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write([]byte(`{"__type":"` + code + `","message":"no"}`))
}

func (f *fakeKMS) set(refuses bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = refuses
}

// startKMS gives a fake and the option that leads to it.
func startKMS(t *testing.T) (*fakeKMS, *httptest.Server, awskms.ClientOption) { //nolint:ireturn // Tink has no other type
	t.Helper()
	fake := &fakeKMS{}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	client := kms.New(kms.Options{
		Region:           "eu-west-1",
		BaseEndpoint:     aws.String(server.URL),
		Credentials:      credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
		HTTPClient:       server.Client(),
		RetryMaxAttempts: 1,
	})
	return fake, server, awskms.WithKMS(client)
}

func TestKMS(t *testing.T) {
	t.Parallel()
	fake, _, option := startKMS(t)
	spec := Spec{Master: "aws-kms://" + keyA, Dir: t.TempDir(), Fresh: true}
	first, err := open(t.Context(), spec, option)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := first.Seal(alias.NewSecret("s3cret"), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	spec.Fresh = false
	second, err := open(t.Context(), spec, option)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.Open(sealed, 1, 1); err != nil || got.Reveal() != "s3cret" {
		t.Errorf("Open with the key set read again: got error %v", err)
	}
	if path, beside := second.BesideData(); beside {
		t.Errorf("BesideData: got %q, want none: the key set is wrapped", path)
	}
	if got := strings.Join(fake.calls, " "); got != "TrentService.Encrypt TrentService.Decrypt" {
		t.Errorf("calls: got %s", got)
	}
	wantWrapped(t, fake, filepath.Join(spec.Dir, "master.keyset.kms"))
}

// wantWrapped looks for the key in the file. What KMS was given to encrypt ends
// with the bytes of the key.
func wantWrapped(t *testing.T, fake *fakeKMS, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("wrapped key set: got %v, %v, want mode 0600", info, err)
	}
	if !strings.Contains(string(text), "encryptedKeyset") || strings.Contains(string(text), "keyData") {
		t.Errorf("file holds %s, want an encrypted key set", text)
	}
	if len(fake.vault) != 1 || len(fake.vault[0].text) < 32 {
		t.Fatalf("KMS holds %d texts, want the key set", len(fake.vault))
	}
	if bytes.Contains(text, fake.vault[0].text[:32]) {
		t.Error("the file holds the key set in the clear")
	}
}

func TestKMSRefuses(t *testing.T) {
	t.Parallel()
	fake, _, option := startKMS(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "master.keyset.kms")
	spec := Spec{Master: "aws-kms://" + keyA, Dir: dir}

	_, err := open(t.Context(), Spec{Master: spec.Master, Dir: dir, Sealed: 2}, option)
	wantRefused(t, err, path, "missing", "2 credentials")

	fake.set(true)
	spec.Fresh = true
	_, err = open(t.Context(), spec, option)
	wantRefused(t, err, path, keyA, "AccessDenied")
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Fatalf("a key set that could not be wrapped left %v", list)
	}
	fake.set(false)
	if _, err := open(t.Context(), spec, option); err != nil {
		t.Fatal(err)
	}

	spec.Fresh = false
	_, err = open(t.Context(), Spec{Master: "aws-kms://" + keyB, Dir: dir}, option)
	wantRefused(t, err, path, keyB, "IncorrectKey")
	fake.set(true)
	_, err = open(t.Context(), spec, option)
	wantRefused(t, err, path, keyA, "AccessDenied")
	fake.set(false)

	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = open(t.Context(), spec, option)
	wantRefused(t, err, path)
}

// TestKMSFromEnvironment goes the way of a real start: the client is made from
// the environment. It cannot be parallel, as the environment is everybody's.
func TestKMSFromEnvironment(t *testing.T) {
	fake, server, _ := startKMS(t)
	dir := t.TempDir()
	t.Setenv("AWS_ENDPOINT_URL_KMS", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
	openTest(t, Spec{Master: "aws-kms://" + keyA, Dir: dir, Fresh: true})
	openTest(t, Spec{Master: "aws-kms://" + keyA, Dir: dir})
	if len(fake.calls) != 2 {
		t.Errorf("calls: got %v, want two", fake.calls)
	}
}
