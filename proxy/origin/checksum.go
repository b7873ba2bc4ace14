package origin

import (
	"crypto/sha1" //nolint:gosec // S3 offers it; it guards against accidents, not against attackers
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"
)

// checksum checks a whole object against the checksum that S3 stored with it.
type checksum struct {
	hash.Hash
	want string // base64, as in the header
}

// checksumOf picks the cheapest checksum of a reply. It is nil when there is
// none, or only one of the parts of a multipart upload, which says nothing
// about the bytes in a row.
func checksumOf(out *s3.GetObjectOutput) *checksum {
	if out.ChecksumType == types.ChecksumTypeComposite {
		return nil
	}
	for _, c := range []struct {
		value *string
		hash  func() hash.Hash
	}{
		{out.ChecksumCRC32C, newCRC32C},
		{out.ChecksumCRC32, newCRC32},
		{out.ChecksumCRC64NVME, newCRC64NVME},
		{out.ChecksumSHA1, sha1.New},
		{out.ChecksumSHA256, sha256.New},
		{out.ChecksumSHA512, sha512.New},
	} {
		// A composite one ends in a dash and the number of parts.
		if c.value != nil && *c.value != "" && !strings.Contains(*c.value, "-") {
			return &checksum{Hash: c.hash(), want: *c.value}
		}
	}
	return nil
}

// ok reports whether the bytes written are those of the object.
func (c *checksum) ok() bool {
	return c == nil || base64.StdEncoding.EncodeToString(c.Sum(nil)) == c.want
}

func newCRC32() hash.Hash { return crc32.NewIEEE() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newCRC32C() hash.Hash { return crc32.New(castagnoli) }

// newCRC64NVME makes the checksum that S3 gives every object by default. The
// library folds with carry-less multiplication; hash/crc64 looks bytes up in
// tables, which at 1.5 GB/s would be the larger part of a 1 MiB miss.
func newCRC64NVME() hash.Hash { return crc64nvme.New() }
