package alias

import (
	"crypto/sha256"
	"encoding/binary"
)

// OriginHash identifies the place where the alias's objects come from. A file of a cache
// that bears another one holds an object of another alias or location and must not be
// served: an ID and an epoch alone may come again with a registry that is restored from a
// backup. It is never stored in the registry.
func (a *Alias) OriginHash() (id [16]byte) {
	b := binary.BigEndian.AppendUint64(nil, uint64(a.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(a.CreatedAt.UnixMicro())) // the store keeps microseconds
	for _, s := range []string{a.Bucket, a.Prefix, a.Region, a.Endpoint} {
		// With its length, so that its end is no part of the next field.
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}
