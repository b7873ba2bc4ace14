package s3

import (
	"crypto/sha1" //nolint:gosec // S3 offers it, so it must be served
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"strings"
)

// Checksum is a checksum algorithm of S3.
type Checksum string

// The algorithms of S3. NoChecksum stores an object without a checksum.
const (
	CRC32      Checksum = "CRC32"
	CRC32C     Checksum = "CRC32C"
	CRC64NVME  Checksum = "CRC64NVME"
	SHA1       Checksum = "SHA1"
	SHA256     Checksum = "SHA256"
	NoChecksum Checksum = "NONE"
)

// Checksums are all algorithms but NoChecksum.
func Checksums() []Checksum { return []Checksum{CRC32, CRC32C, CRC64NVME, SHA1, SHA256} }

// nvmePolynomial is that of CRC-64/NVME, bit-reversed for hash/crc64.
const nvmePolynomial = 0x9a6c9329ac4bc9b5

// header is the response header that carries the checksum.
func (c Checksum) header() string { return "x-amz-checksum-" + strings.ToLower(string(c)) }

// of is the header's value for a body.
func (c Checksum) of(body []byte) string {
	var h hash.Hash
	switch c {
	case CRC32:
		h = crc32.NewIEEE()
	case CRC32C:
		h = crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case CRC64NVME:
		h = crc64.New(crc64.MakeTable(nvmePolynomial))
	case SHA1:
		h = sha1.New() //nolint:gosec // as above
	case SHA256:
		h = sha256.New()
	default:
		return ""
	}
	h.Write(body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
