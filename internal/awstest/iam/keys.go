package iam

import (
	"time"

	"ixmage/alias"
)

// Key is an access key without its secret.
type Key struct {
	ID, User    string
	Active      bool
	Created     time.Time
	LastUsed    time.Time // zero: never
	LastService string
	LastRegion  string

	secret alias.Secret
	userID string
	uses   *[]use // shared by all versions of the key
}

// Pair is the key pair, for a key that the test has not made itself.
func (k Key) Pair() alias.KeyPair {
	return alias.KeyPair{AccessKeyID: k.ID, SecretAccessKey: k.secret}
}

// keysQuota is how many keys a user may have.
const keysQuota = 2

func (k Key) status() string {
	if k.Active {
		return "Active"
	}
	return "Inactive"
}

// keysOf are the keys that a user has, visible or not.
func (s *Server) keysOf(u *User) []*Key {
	var out []*Key
	for _, k := range s.keys.allLatest() {
		if k.userID == u.ID {
			out = append(out, k)
		}
	}
	return out
}

// newKey gives a user a key from a moment on.
func (s *Server) newKey(u *User, created, from time.Time) *Key {
	k := &Key{
		ID: uniqueID("AKIA", 16), User: u.Name, Active: true, Created: created,
		secret: alias.NewSecret(newSecret()), userID: u.ID, uses: &[]use{},
	}
	s.keys.set(k.ID, k, from)
	return k
}

func createAccessKey(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	if latest, ok := s.users.latest(u.Name); !ok || latest.ID != u.ID {
		return nil, noSuchUser(u.Name)
	}
	if len(s.keysOf(u)) >= keysQuota {
		return nil, limitExceeded("AccessKeysPerUser", keysQuota)
	}
	k := s.newKey(u, r.now, r.from)
	type xmlKey struct {
		UserName        string
		AccessKeyID     string `xml:"AccessKeyId"`
		Status          string
		SecretAccessKey string
		CreateDate      string
	}
	return struct{ AccessKey xmlKey }{xmlKey{k.User, k.ID, k.status(), k.secret.Reveal(), date(k.Created)}}, nil
}

// visibleKey is the key that a request names: it is visible, it belongs to the
// named user, and it was not deleted meanwhile.
func (s *Server) visibleKey(r *request) (*Key, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	id := r.params.Get("AccessKeyId")
	seen, ok := s.keys.visibleAt(id, r.now)
	latest, still := s.keys.latest(id)
	if !ok || !still || seen.userID != u.ID {
		return nil, refusal("NoSuchEntity", "The Access Key with id %s cannot be found.", id)
	}
	return latest, nil
}

func updateAccessKey(s *Server, r *request) (any, error) {
	status := r.params.Get("Status")
	if status != "Active" && status != "Inactive" {
		return nil, invalid("status")
	}
	k, err := s.visibleKey(r)
	if err != nil {
		return nil, err
	}
	changed := *k
	changed.Active = status == "Active"
	s.keys.set(k.ID, &changed, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func deleteAccessKey(s *Server, r *request) (any, error) {
	k, err := s.visibleKey(r)
	if err != nil {
		return nil, err
	}
	s.keys.remove(k.ID, r.from)
	return nil, nil //nolint:nilnil // an answer without content
}

func listAccessKeys(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	type xmlKey struct {
		UserName    string
		AccessKeyID string `xml:"AccessKeyId"`
		Status      string
		CreateDate  string
	}
	var keys []xmlKey
	for _, k := range s.keys.allVisibleAt(r.now) {
		if k.userID == u.ID {
			keys = append(keys, xmlKey{k.User, k.ID, k.status(), date(k.Created)})
		}
	}
	keys, more, err := page(s, r, keys, func(k xmlKey) string { return k.AccessKeyID })
	return struct {
		AccessKeyMetadata []xmlKey `xml:"AccessKeyMetadata>member"`
		xmlPage
	}{keys, more}, err
}
