package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// fingerprintPurpose distinguishes fingerprints from other values that may be derived from a
// key.
const fingerprintPurpose = "ixmage key set fingerprint"

// Fingerprint names the key that Seal uses: 32 hex digits that do not reveal it. A key is
// 256 random bits, so it cannot be guessed from them.
func (k *Keyset) Fingerprint() string { return primaryOf(k.handle) }

// Has reports whether the key set has the key of a fingerprint, so that it opens what a key
// set with this fingerprint has sealed.
func (k *Keyset) Has(fingerprint string) bool {
	return slices.Contains(fingerprints(k.handle), fingerprint)
}

// Place says where the key set is, as Spec.Master does, but with an absolute path.
func (k *Keyset) Place() string {
	if strings.HasPrefix(k.master, kmsPrefix) {
		return k.master + " (wrapped in " + absolute(k.path) + ")"
	}
	return absolute(k.path)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Path returns the path of the file of the key set.
func (k *Keyset) Path() string { return k.path }

func primaryOf(h *keyset.Handle) string {
	material := insecurecleartextkeyset.KeysetMaterial(h)
	for _, key := range material.GetKey() {
		if key.GetKeyId() == material.GetPrimaryKeyId() {
			return fingerprint(key)
		}
	}
	return "" // no handle lacks its primary key
}

// fingerprints returns those of all keys that open.
func fingerprints(h *keyset.Handle) []string {
	var list []string
	for _, key := range insecurecleartextkeyset.KeysetMaterial(h).GetKey() {
		if key.GetStatus() == tinkpb.KeyStatusType_ENABLED {
			list = append(list, fingerprint(key))
		}
	}
	return list
}

func fingerprint(key *tinkpb.Keyset_Key) string {
	mac := hmac.New(sha256.New, key.GetKeyData().GetValue())
	mac.Write([]byte(fingerprintPurpose))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
