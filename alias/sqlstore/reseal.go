package sqlstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"ixmage/alias"
)

// Resealing replaces the sealed values of a registry.
type Resealing struct {
	// Seal opens a value with a key that sealed it, and seals it with the new key.
	Seal func(sealed []byte, credentialID, version int64) ([]byte, error)
	// SealKey is Seal for a signing key of an alias.
	SealKey func(sealed []byte, aliasID int64, kid string) ([]byte, error)
	// KeyCheck and Keyset are those of the new key.
	KeyCheck []byte
	Keyset   string
	// Before is called before the commit, which its error prevents. Optional.
	Before func() error
}

// Reseal replaces every sealed value, in one transaction, and returns how many there were.
// If a value that is in use cannot be opened, it changes nothing.
func (s *Store) Reseal(ctx context.Context, r Resealing) (int, error) {
	replaced := 0
	err := s.update(ctx, func(t *tx) error {
		replaced = 0
		err := errors.Join(
			t.resealCredentials(&r, &replaced), t.resealAliases(&r, &replaced), t.resealOperations(&r, &replaced))
		if err != nil {
			return err
		}
		if err := t.SetMeta(alias.MetaKeyset, []byte(r.Keyset)); err != nil {
			return err
		}
		if err := t.SetMeta(alias.MetaKeyCheck, r.KeyCheck); err != nil {
			return err
		}
		if r.Before != nil {
			return r.Before()
		}
		return nil
	})
	return replaced, err
}

// Rewrite writes the whole database anew, so that no deleted value is left in its file, and
// empties the write-ahead log.
func (s *Store) Rewrite(ctx context.Context) error {
	for _, statement := range []string{`VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`} {
		if _, err := s.writer.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("rewrite the registry: %w", s.dialect.classify(err))
		}
	}
	return nil
}

type sealedRow struct {
	id      int64 // or number of the operation
	label   string
	of      int64 // id of the credential
	version int64
	sealed  []byte
	text    string // JSON with further sealed values
	running bool
}

// resealCredentials replaces the current key of each credential, and the pending and the
// previous one in its public part.
func (t *tx) resealCredentials(r *Resealing, replaced *int) error {
	rows, err := collect(t.querier, func(row row) (sealedRow, error) {
		v := sealedRow{running: true}
		err := row.Scan(&v.id, &v.label, &v.version, &v.sealed, &v.text)
		v.of, v.label = v.id, "credential "+v.label
		return v, err
	}, `SELECT id, name, version, sealed, public FROM credentials ORDER BY name`)
	if err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	var failed []error
	for _, v := range rows {
		text, err := v.reseal(r, replaced)
		if err == nil && v.sealed != nil {
			if v.sealed, err = r.Seal(v.sealed, v.of, v.version); err == nil {
				*replaced++
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", v.label, err))
			continue
		}
		var sealed any // nil is NULL, an empty slice is not
		if v.sealed != nil {
			sealed = v.sealed
		}
		if _, err := t.exec(`UPDATE credentials SET sealed = ?, public = ? WHERE id = ?`, sealed, text, v.id); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// resealOperations replaces the keys in the state of operations: versions before the
// controller stored the pending key there.
func (t *tx) resealOperations(r *Resealing, replaced *int) error {
	rows, err := collect(t.querier, func(row row) (sealedRow, error) {
		var v sealedRow
		err := row.Scan(&v.id, &v.label, &v.of, &v.text, &v.running)
		v.label = "operation " + v.label
		return v, err
	}, `SELECT number, id, credential_id, data, state = 'running' FROM operations
		WHERE data LIKE '%"sealed"%' ORDER BY number`)
	if err != nil {
		return fmt.Errorf("read the operations: %w", err)
	}
	var failed []error
	for _, v := range rows {
		text, err := v.reseal(r, replaced)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", v.label, err))
			continue
		}
		if _, err := t.exec(`UPDATE operations SET data = ? WHERE number = ?`, text, v.id); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// reseal replaces the sealed values in the JSON of a row: members "sealed" of objects with a
// "version". It returns other JSON as it is.
func (v *sealedRow) reseal(r *Resealing, replaced *int) (string, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(v.text)))
	d.UseNumber() // a float64 does not hold every int64
	var root any
	if err := d.Decode(&root); err != nil {
		return "", fmt.Errorf("read its JSON: %w", err)
	}
	before := *replaced
	if err := v.walk(root, r, replaced); err != nil {
		return "", err
	}
	if *replaced == before {
		return v.text, nil
	}
	text, err := json.Marshal(root)
	return string(text), err
}

func (v *sealedRow) walk(node any, r *Resealing, replaced *int) error {
	switch n := node.(type) {
	case []any:
		for _, e := range n {
			if err := v.walk(e, r, replaced); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := v.resealMember(n, r, replaced); err != nil {
			return err
		}
		for _, e := range n {
			if err := v.walk(e, r, replaced); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *sealedRow) resealMember(object map[string]any, r *Resealing, replaced *int) error {
	text, ok := object["sealed"].(string)
	number, ok2 := object["version"].(json.Number)
	if !ok || !ok2 || text == "" {
		return nil
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("read a sealed value: %w", err)
	}
	version, err := number.Int64()
	if err != nil {
		return fmt.Errorf("read the version of a sealed value: %w", err)
	}
	sealed, err = r.Seal(sealed, v.of, version)
	if err != nil {
		if v.running {
			return err
		}
		return nil // it is of no use any more, and no key opens it
	}
	object["sealed"] = base64.StdEncoding.EncodeToString(sealed)
	*replaced++
	return nil
}
