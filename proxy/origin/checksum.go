package origin

import (
	"crypto/md5"  //nolint:gosec // as sha1
	"crypto/sha1" //nolint:gosec // S3 offers it; it guards against accidents, not against attackers
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"
)

// checksum checks a whole object against the checksum that S3 stored with it.
type checksum struct {
	hash.Hash
	want string // base64, as in the header
	// trailer, if set, returns what the reply has at its end in place of want, perhaps nothing.
	trailer func() string
}

// checksumOf picks the cheapest checksum of a reply. It is nil when there is
// none, or only one of the parts of a multipart upload, which says nothing
// about the bytes in a row.
func checksumOf(out *s3.GetObjectOutput) *checksum {
	if out.ChecksumType == types.ChecksumTypeComposite {
		return nil
	}
	values := []*string{
		out.ChecksumCRC32C, out.ChecksumCRC32, out.ChecksumCRC64NVME,
		out.ChecksumSHA1, out.ChecksumSHA256, out.ChecksumSHA512,
	}
	for i, value := range values {
		// A composite one ends in a dash and the number of parts.
		if value != nil && *value != "" && !strings.Contains(*value, "-") {
			return &checksum{Hash: checksums[i].hash(), want: *value}
		}
	}
	return nil
}

// checksums are the algorithms of S3, the cheapest first.
var checksums = []struct {
	header string
	hash   func() hash.Hash
}{
	{"X-Amz-Checksum-Crc32c", newCRC32C},
	{"X-Amz-Checksum-Crc32", newCRC32},
	{"X-Amz-Checksum-Crc64nvme", newCRC64NVME},
	{"X-Amz-Checksum-Sha1", sha1.New},
	{"X-Amz-Checksum-Sha256", sha256.New},
	{"X-Amz-Checksum-Sha512", sha512.New},
}

// trailerChecksum is the checksum that a chunked reply announces for its end. A server on the
// way may drop it (RFC 9110, section 6.5.1); the last chunk proves the end all the same.
func trailerChecksum(reply *http.Response) *checksum {
	for _, c := range checksums {
		if _, ok := reply.Trailer[c.header]; ok {
			return &checksum{Hash: c.hash(), trailer: func() string { return reply.Trailer.Get(c.header) }}
		}
	}
	return nil
}

// etagChecksum takes an entity tag that has the form of an MD5 for one, as it is for objects
// that were uploaded in one part without a KMS key. It is nil for any other. It serves a body
// that ends with its connection: an entity tag that is no MD5 after all cuts that body, which
// nothing else could prove complete.
func etagChecksum(etag string) *checksum {
	sum, err := hex.DecodeString(strings.Trim(etag, `"`))
	if err != nil || len(sum) != md5.Size {
		return nil
	}
	return &checksum{Hash: md5.New(), want: base64.StdEncoding.EncodeToString(sum)} //nolint:gosec // S3's ETag is one
}

// ok reports whether the bytes written are those of the object.
func (c *checksum) ok() bool {
	if c == nil {
		return true
	}
	want := c.want
	if c.trailer != nil {
		if want = c.trailer(); want == "" {
			return true
		}
	}
	return base64.StdEncoding.EncodeToString(c.Sum(nil)) == want
}

func newCRC32() hash.Hash { return crc32.NewIEEE() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newCRC32C() hash.Hash { return crc32.New(castagnoli) }

// newCRC64NVME makes the checksum that S3 gives every object by default. The
// library folds with carry-less multiplication; hash/crc64 looks bytes up in
// tables, which at 1.5 GB/s would be the larger part of a 1 MiB miss.
func newCRC64NVME() hash.Hash { return crc64nvme.New() }
