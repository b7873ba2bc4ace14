package sqlstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"ixmage/alias"
)

// transformsRow are the columns of an alias that need decoding.
type transformsRow struct{ widths, templates, keys string }

// signingKey is a signing key in the column signing_keys.
type signingKey struct {
	KID       string `json:"kid"`
	Sealed    []byte `json:"sealed"`
	CreatedAt int64  `json:"created_at"` // microseconds since 1970
}

func transformsOf(a *alias.Alias) transformsRow {
	widths := make([]string, len(a.Widths))
	for i, w := range a.Widths {
		widths[i] = strconv.Itoa(w)
	}
	keys := make([]signingKey, len(a.SigningKeys))
	for i, k := range a.SigningKeys {
		keys[i] = signingKey{k.KID, k.Sealed, micros(k.CreatedAt)}
	}
	templates := a.Templates
	if templates == nil {
		templates = map[string]string{}
	}
	return transformsRow{strings.Join(widths, " "), mustJSON(templates), mustJSON(keys)}
}

// mustJSON encodes a value of a type that always can be.
func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) //nolint:forbidigo // see above
	}
	return string(text)
}

// into sets the fields of an alias.
func (r transformsRow) into(a *alias.Alias) error {
	for _, w := range words(r.widths) {
		n, err := strconv.Atoi(w)
		if err != nil {
			return errors.New("its widths are no numbers")
		}
		a.Widths = append(a.Widths, n)
	}
	if err := json.Unmarshal([]byte(r.templates), &a.Templates); err != nil {
		return fmt.Errorf("read its templates: %w", err)
	}
	if len(a.Templates) == 0 {
		a.Templates = nil
	}
	var keys []signingKey
	if err := json.Unmarshal([]byte(r.keys), &keys); err != nil {
		return fmt.Errorf("read its signing keys: %w", err)
	}
	for _, k := range keys {
		made := alias.SigningKey{KID: k.KID, Sealed: k.Sealed, CreatedAt: fromMicros(k.CreatedAt)}
		a.SigningKeys = append(a.SigningKeys, made)
	}
	return nil
}

// resealAliases replaces the signing keys of each alias.
func (t *tx) resealAliases(r *Resealing, replaced *int) error {
	type aliasKeys struct {
		id         int64
		name, keys string
	}
	rows, err := collect(t.querier, func(s row) (aliasKeys, error) {
		var v aliasKeys
		err := s.Scan(&v.id, &v.name, &v.keys)
		return v, err
	}, `SELECT id, name, signing_keys FROM aliases WHERE signing_keys <> '[]' ORDER BY name`)
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	var failed []error
	for _, v := range rows {
		var keys []signingKey
		if err := json.Unmarshal([]byte(v.keys), &keys); err != nil {
			failed = append(failed, fmt.Errorf("alias %s: read its signing keys: %w", v.name, err))
			continue
		}
		for i, k := range keys {
			if keys[i].Sealed, err = r.SealKey(k.Sealed, v.id, k.KID); err != nil {
				failed = append(failed, fmt.Errorf("alias %s: its signing key %s: %w", v.name, k.KID, err))
				continue
			}
			*replaced++
		}
		if _, err := t.exec(`UPDATE aliases SET signing_keys = ? WHERE id = ?`, mustJSON(keys), v.id); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}
