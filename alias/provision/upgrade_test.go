package provision

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// before is a registry, and the account in IAM, in which the version before the controller
// died at a write. testdata/before-controller.jsonl.gz has one for each write of each
// operation, made by that version. They have no secrets: the keys are made anew.
type before struct {
	Scenario string         `json:"scenario"`
	Write    int            `json:"write"`
	After    bool           `json:"after"`
	Now      time.Time      `json:"now"`
	Aliases  []*alias.Alias `json:"aliases"`

	Credentials []struct {
		Row      *alias.Credential  `json:"row"`
		Provider *alias.Provisioned `json:"provider"`
		Sealed   bool               `json:"sealed"`
	} `json:"credentials"`

	Operations []struct {
		Row     *alias.Operation `json:"row"`
		Request json.RawMessage  `json:"request"`
	} `json:"operations"`

	Users    []iam.User   `json:"users"`
	Keys     []iam.Key    `json:"keys"`
	Policies []iam.Policy `json:"policies"`
}

// TestUpgrade: what ran when the version before the controller ended is brought to its end, as
// after a crash of this version.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	stride := crashStride(t)
	byName := map[string]scenario{}
	for _, s := range scenarios() {
		byName[s.name] = s
	}
	for i, line := range beforeController(t) {
		if i%stride != 0 {
			continue
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			old := w.restore(line)
			defer func() {
				if t.Failed() {
					t.Logf("%s, write %d, after it %v", old.Scenario, old.Write, old.After)
				}
			}()
			p := w.start()
			p.quiet()
			w.wantConverged(p, byName[old.Scenario])
		})
	}
}

// beforeController are the lines of the fixture.
func beforeController(t *testing.T) [][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/before-controller.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	lines := bufio.NewReader(z)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
}

// restore puts a fixture into the registry and into IAM.
func (w *env) restore(line []byte) *before {
	w.t.Helper()
	line = bytes.ReplaceAll(line, []byte("{S3}"), []byte(w.iam.S3URL))
	pairs := map[string]alias.KeyPair{}
	w.restoreIAM(w.parse(line), func(was, is string) { line = bytes.ReplaceAll(line, []byte(was), []byte(is)) }, pairs)
	old := w.parse(line)
	w.clock.now = old.Now
	sealed := func(c *alias.Credential, key *alias.SealedKey) {
		if key != nil && key.AccessKeyID != "" {
			key.Sealed = w.sealed(c, *key, pairs)
		}
	}
	err := w.store.Update(w.t.Context(), func(tx alias.Tx) error {
		byID := map[int64]*alias.Credential{}
		for _, row := range old.Credentials {
			c := row.Row
			byID[c.ID], c.Provider = c, row.Provider
			if row.Sealed {
				c.Sealed = w.sealed(c, alias.SealedKey{AccessKeyID: row.Provider.AccessKeyID, Version: c.Version}, pairs)
			}
			if row.Provider.Previous != nil {
				sealed(c, &row.Provider.Previous.SealedKey)
			}
			if err := tx.InsertCredential(c); err != nil {
				return err
			}
		}
		for _, a := range old.Aliases {
			if err := tx.InsertAlias(a); err != nil {
				return err
			}
		}
		for _, row := range slices.Backward(old.Operations) { // the newest is the first
			op := row.Row
			op.Request = row.Request
			op.Data = w.sealData(op.Data, func(key *alias.SealedKey) { sealed(byID[op.CredentialID], key) })
			if err := tx.InsertOperation(op); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return old
}

func (w *env) parse(line []byte) *before {
	w.t.Helper()
	old := &before{}
	if err := json.Unmarshal(line, old); err != nil {
		w.t.Fatal(err)
	}
	return old
}

// restoreIAM makes the users, keys and policies of a fixture, and tells which ids they have now.
func (w *env) restoreIAM(old *before, renamed func(was, is string), pairs map[string]alias.KeyPair) {
	for _, p := range old.Policies {
		w.clock.now = p.Created
		_, err := w.iam.IAMClient(w.power).CreatePolicy(w.t.Context(), &awsiam.CreatePolicyInput{
			PolicyName: &p.Name, Path: &p.Path, Description: &p.Description, PolicyDocument: aws.String(p.Document()), Tags: iamTags(p.Tags),
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, u := range old.Users {
		w.clock.now = u.Created
		w.iam.RemoveKey(w.iam.AddUser(u.Path, u.Name, "").AccessKeyID)
		w.iam.ChangeUser(u.Name, func(made *iam.User) {
			renamed(u.ID, made.ID)
			made.Tags, made.Inline, made.Attached, made.Boundary = u.Tags, u.Inline, u.Attached, u.Boundary
		})
	}
	for _, k := range old.Keys {
		w.clock.now = k.Created
		kp := w.iam.AddKey(k.User)
		w.iam.SetKey(kp.AccessKeyID, k.Active)
		if !k.LastUsed.IsZero() {
			w.iam.RecordUse(kp.AccessKeyID, k.LastUsed)
		}
		renamed(k.ID, kp.AccessKeyID)
		pairs[kp.AccessKeyID] = kp
	}
}

// sealed is the secret of a key for a credential. Of a key that does not exist any more it is
// any secret.
func (w *env) sealed(c *alias.Credential, key alias.SealedKey, pairs map[string]alias.KeyPair) []byte {
	w.t.Helper()
	secret := alias.NewSecret(strings.Repeat("s", 40))
	if kp, ok := pairs[key.AccessKeyID]; ok {
		secret = kp.SecretAccessKey
	}
	text, err := w.seal.Seal(secret, c.ID, key.Version)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// sealData seals the keys in the data of an operation of the version before.
func (w *env) sealData(data json.RawMessage, seal func(*alias.SealedKey)) json.RawMessage {
	w.t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"pending", "old"} {
		if fields[name] == nil {
			continue
		}
		var key alias.SealedKey
		err := json.Unmarshal(fields[name], &key)
		seal(&key)
		text, err2 := json.Marshal(key)
		if err != nil || err2 != nil {
			w.t.Fatal(err, err2)
		}
		fields[name] = text
	}
	text, err := json.Marshal(fields)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}
