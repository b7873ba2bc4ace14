package sqlstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/postgres"
)

// large makes a registry with many rows.
func large(b *testing.B, aliases, audit int) *Store {
	b.Helper()
	s, err := OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "registry.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	now := time.Now()
	err = s.Update(b.Context(), func(tx alias.Tx) error {
		var errs []error
		for i := range int64(aliases) {
			name := alias.Name(fmt.Sprintf("alias-%06d", i))
			c := &alias.Credential{
				ID: i<<40 + 1, Name: name, Provider: alias.Static{AccessKeyID: "AKIAIOSFODNN7EXAMPLE"}, Sealed: make([]byte, 80),
				Version: 1, State: alias.CredentialActive, Scope: "proven", Revision: 1, CreatedAt: now, UpdatedAt: now,
			}
			a := alias.New()
			a.ID, a.Name, a.CredentialID, a.Credential, a.Revision = i<<40+1, name, c.ID, name, 1
			a.Location = alias.Location{Bucket: "acme-media", Prefix: "website-images/" + string(name) + "/", Region: "eu-west-1"}
			a.CreatedAt, a.UpdatedAt = now, now
			errs = append(errs, tx.InsertCredential(c), tx.InsertAlias(a))
		}
		for i := range audit {
			errs = append(errs, tx.AddAudit(&alias.AuditEntry{
				At: now, Actor: "admin@127.0.0.1", Action: "iam:CreateAccessKey", User: fmt.Sprint("ixmage-s3read-", i), Outcome: "ok",
				AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Alias: "shop", Credential: "shop", Operation: "op-1", Detail: "the key of a rotation",
			}))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkCopy copies 100,000 aliases with a credential each and 1,000,000 entries of the audit
// to PostgreSQL and back. With IXMAGE_COPY_KEEP the registry is kept in this folder.
func BenchmarkCopy(b *testing.B) {
	source := large(b, 100_000, 1_000_000)
	if dir := os.Getenv("IXMAGE_COPY_KEEP"); dir != "" {
		if _, err := source.Copy(b.Context(), dir, "registry.db.*"); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		middle, err := NewPostgres(postgres.Database(b))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { middle.Close() })
		if err := middle.Prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
		back, err := OpenSQLite(b.Context(), filepath.Join(b.TempDir(), "registry.db"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { back.Close() })
		timeCopy(b, source, &middle.Store, "to-postgres")
		timeCopy(b, &middle.Store, back, "to-sqlite")
	}
}

func timeCopy(b *testing.B, from, to *Store, name string) {
	b.Helper()
	runtime.GC()
	begin, peak := time.Now(), uint64(0)
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	_, err := RegistryCopy{From: from, To: to, Progress: func(int64, int64) {
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64())
	}}.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(begin).Seconds(), "s-"+name)
	b.ReportMetric(float64(peak)/(1<<20), "MiB-"+name)
}
