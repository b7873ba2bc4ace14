package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"ixmage/alias"
)

const selectOperations = `SELECT id, kind, alias, credential, credential_id, state, error, steps, request, data, actor,
	revision, created_at, updated_at, finished_at FROM operations`

func scanOperation(r row) (*alias.Operation, error) {
	var o alias.Operation
	var failure, steps, request, data string
	var created, updated, finished int64
	err := r.Scan(&o.ID, &o.Kind, &o.Alias, &o.Credential, &o.CredentialID, &o.State, &failure, &steps, &request, &data,
		&o.Actor, &o.Revision, &created, &updated, &finished)
	if err != nil {
		return nil, fmt.Errorf("read an operation: %w", err)
	}
	err = errors.Join(json.Unmarshal([]byte(steps), &o.Steps), json.Unmarshal([]byte(failure), &o.Error))
	if err != nil {
		return nil, fmt.Errorf("read operation %s: %w", o.ID, err)
	}
	o.Request, o.Data = []byte(request), json.RawMessage(data)
	o.CreatedAt, o.UpdatedAt, o.FinishedAt = fromMicros(created), fromMicros(updated), fromMicros(finished)
	return &o, nil
}

var operationColumns = []string{
	"kind", "alias", "credential", "credential_id", "state", "error", "steps", "request", "data", "actor",
	"revision", "created_at", "updated_at", "finished_at", "id",
}

func operationValues(o *alias.Operation) ([]any, error) {
	failure, err := json.Marshal(o.Error)
	steps, stepsErr := json.Marshal(o.Steps)
	if err := errors.Join(err, stepsErr); err != nil {
		return nil, fmt.Errorf("write operation %s: %w", o.ID, err)
	}
	return []any{
		string(o.Kind), string(o.Alias), string(o.Credential), o.CredentialID, string(o.State), string(failure),
		string(steps), string(o.Request), string(o.Data), o.Actor,
		o.Revision, micros(o.CreatedAt), micros(o.UpdatedAt), micros(o.FinishedAt), o.ID,
	}, nil
}

// InsertOperation adds an operation. The database itself refuses a second running
// operation for the same alias or credential, with alias.ErrExists.
func (t *tx) InsertOperation(o *alias.Operation) error {
	values, err := operationValues(o)
	if err != nil {
		return t.fail(err)
	}
	t.log(alias.LogOperation, o.Credential)
	_, err = t.exec(insertInto("operations", operationColumns), values...)
	return err
}

// UpdateOperation replaces an operation.
func (t *tx) UpdateOperation(o *alias.Operation) error {
	values, err := operationValues(o)
	if err != nil {
		return t.fail(err)
	}
	t.log(alias.LogOperation, o.Credential)
	return t.replace(updateOf("operations", operationColumns), append(values, o.Revision-1)...)
}

// Operation reads one operation.
func (t *tx) Operation(id string) (*alias.Operation, error) { return t.operation(id) }

// RunningOperation reads the operation that runs for an alias or a credential.
func (t *tx) RunningOperation(aliasName, credential alias.Name) (*alias.Operation, error) {
	const query = selectOperations + ` WHERE state = 'running' AND
		((alias = ? AND alias <> '') OR (credential = ? AND credential <> '')) ORDER BY number LIMIT 1`
	return one(t.querier, scanOperation, query, string(aliasName), string(credential))
}

// LastOperation reads the newest operation of a kind for an alias.
func (t *tx) LastOperation(kind alias.OperationKind, aliasName alias.Name) (*alias.Operation, error) {
	const query = selectOperations + ` WHERE alias = ? AND kind = ? ORDER BY number DESC LIMIT 1`
	return one(t.querier, scanOperation, query, string(aliasName), string(kind))
}

func (q querier) operation(id string) (*alias.Operation, error) {
	return one(q, scanOperation, selectOperations+` WHERE id = ?`, id)
}

// Operation reads one operation: alias.ErrNotFound if there is none.
func (s *Store) Operation(ctx context.Context, id string) (*alias.Operation, error) {
	return s.read(ctx).operation(id)
}

// Operations lists operations, the newest first.
func (s *Store) Operations(ctx context.Context, f alias.OperationFilter) ([]*alias.Operation, error) {
	query, args := selectOperations+` WHERE 1 = 1`, []any{}
	for _, c := range []struct{ condition, value string }{
		{` AND alias = ?`, string(f.Alias)},
		{` AND credential = ?`, string(f.Credential)},
		{` AND state = ?`, string(f.State)},
		{` AND number < (SELECT number FROM operations WHERE id = ?)`, f.Before},
	} {
		if c.value != "" {
			query, args = query+c.condition, append(args, c.value)
		}
	}
	return collect(s.read(ctx), scanOperation, query+` ORDER BY number DESC LIMIT ?`, append(args, max(f.Limit, 0))...)
}

const selectAudit = `SELECT id, at, actor, action, iam_user, policy, access_key_id, alias, credential, outcome,
	operation, detail FROM audit`

func scanAudit(r row) (*alias.AuditEntry, error) {
	var e alias.AuditEntry
	var at int64
	err := r.Scan(&e.ID, &at, &e.Actor, &e.Action, &e.User, &e.Policy, &e.AccessKeyID, &e.Alias, &e.Credential,
		&e.Outcome, &e.Operation, &e.Detail)
	if err != nil {
		return nil, fmt.Errorf("read the audit: %w", err)
	}
	e.At = fromMicros(at)
	return &e, nil
}

var auditColumns = []string{
	"at", "actor", "action", "iam_user", "policy", "access_key_id", "alias", "credential", "outcome", "operation",
	"detail",
}

// AddAudit adds an entry to the audit.
func (t *tx) AddAudit(e *alias.AuditEntry) error {
	_, err := t.exec(insertInto("audit", auditColumns), micros(e.At), e.Actor, e.Action, e.User, e.Policy, e.AccessKeyID,
		string(e.Alias), string(e.Credential), e.Outcome, e.Operation, text(e.Detail))
	return err
}

// Audit lists entries of the audit, the newest first.
func (s *Store) Audit(ctx context.Context, before int64, limit int) ([]*alias.AuditEntry, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	const query = selectAudit + ` WHERE id < ? ORDER BY id DESC LIMIT ?`
	return collect(s.read(ctx), scanAudit, query, before, max(limit, 0))
}

// CountAudit counts entries of the audit.
func (s *Store) CountAudit(ctx context.Context, f alias.AuditFilter) (int, error) {
	const query = `SELECT count(*) FROM audit WHERE actor = ? AND action = ? AND outcome = ? AND at >= ?`
	return one(s.read(ctx), scanValue[int], query, f.Actor, f.Action, f.Outcome, micros(f.Since))
}

func scanVerification(r row) (*alias.Verification, error) {
	var v alias.Verification
	var checks, notTried string
	var at int64
	if err := r.Scan(&v.AliasID, &v.Alias, &v.CredentialID, &v.CredentialVersion, &at, &checks, &notTried); err != nil {
		return nil, fmt.Errorf("read a verification: %w", err)
	}
	v.CheckedAt = fromMicros(at)
	err := errors.Join(json.Unmarshal([]byte(checks), &v.Checks), json.Unmarshal([]byte(notTried), &v.NotTried))
	if err != nil {
		return nil, fmt.Errorf("read the verification of alias %s: %w", v.Alias, err)
	}
	return &v, nil
}

// Verification reads the last one of an alias: alias.ErrNotFound if there is none.
func (s *Store) Verification(ctx context.Context, aliasID int64) (*alias.Verification, error) {
	query := `SELECT ` + strings.Join(verificationColumns, ", ") + ` FROM verifications WHERE alias_id = ?`
	return one(s.read(ctx), scanVerification, query, aliasID)
}

var verificationColumns = []string{
	"alias_id", "alias", "credential_id", "credential_version", "checked_at", "checks", "not_tried",
}

// PutVerification replaces the verification of an alias.
func (t *tx) PutVerification(v *alias.Verification) error {
	checks, err := json.Marshal(v.Checks)
	notTried, err2 := json.Marshal(v.NotTried)
	if err := errors.Join(err, err2); err != nil {
		return t.fail(fmt.Errorf("write the verification of alias %s: %w", v.Alias, err))
	}
	query := insertInto("verifications", verificationColumns) + `
		ON CONFLICT (alias_id) DO UPDATE SET alias = excluded.alias, credential_id = excluded.credential_id,
		credential_version = excluded.credential_version,
		checked_at = excluded.checked_at, checks = excluded.checks, not_tried = excluded.not_tried`
	_, err = t.exec(query, v.AliasID, string(v.Alias), v.CredentialID, v.CredentialVersion, micros(v.CheckedAt),
		string(checks), string(notTried))
	if errors.Is(err, errForeign) {
		return fmt.Errorf("its alias: %w", alias.ErrNotFound)
	}
	return err
}

// DeleteVerification deletes the verification of an alias, if there is one.
func (t *tx) DeleteVerification(aliasID int64) error {
	_, err := t.exec(`DELETE FROM verifications WHERE alias_id = ?`, aliasID)
	return err
}
