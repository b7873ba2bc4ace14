package origin

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc64"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// nvmePolynomial is reversed, as hash/crc64 wants it.
const nvmePolynomial = 0x9a6c9329ac4bc9b5

// The one we use against the standard library's, in pieces of many sizes, and
// against the check value that the algorithm's authors publish.
func TestCRC64NVME(t *testing.T) {
	t.Parallel()
	h := newCRC64NVME()
	_, _ = h.Write([]byte("123456789"))
	if got, want := hex.EncodeToString(h.Sum(nil)), "ae8b14860a799888"; got != want {
		t.Errorf("check value is %s, want %s", got, want)
	}
	table := crc64.MakeTable(nvmePolynomial)
	data := noise(5000)
	for piece := 1; piece < 40; piece++ {
		h.Reset()
		for rest := data; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
			_, _ = h.Write(rest[:min(piece, len(rest))])
		}
		if got, want := binary.BigEndian.Uint64(h.Sum(nil)), crc64.Checksum(data, table); got != want {
			t.Errorf("in pieces of %d: %x, want %x", piece, got, want)
		}
	}
}

func TestChecksumOf(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		out  s3.GetObjectOutput
		want bool
	}{
		"none":              {s3.GetObjectOutput{}, false},
		"empty":             {s3.GetObjectOutput{ChecksumCRC32: aws.String("")}, false},
		"CRC32":             {s3.GetObjectOutput{ChecksumCRC32: aws.String("AAAAAA==")}, true},
		"SHA512":            {s3.GetObjectOutput{ChecksumSHA512: aws.String("x")}, true},
		"of parts, by form": {s3.GetObjectOutput{ChecksumSHA256: aws.String("x-3")}, false},
		"of parts, by type": {s3.GetObjectOutput{ChecksumCRC32: aws.String("AAAAAA=="), ChecksumType: types.ChecksumTypeComposite}, false},
	} {
		if got := checksumOf(&tc.out) != nil; got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
	// The cheapest of several, and a value that no hash can have is wrong.
	c := checksumOf(&s3.GetObjectOutput{ChecksumSHA256: aws.String("x"), ChecksumCRC32C: aws.String("AAAAAA==")})
	if c.want != "AAAAAA==" || !c.ok() {
		t.Errorf("picked %q, ok %t", c.want, c.ok())
	}
	if checksumOf(&s3.GetObjectOutput{ChecksumCRC32: aws.String("not base64!")}).ok() {
		t.Error("nonsense passed")
	}
}

func BenchmarkCRC64NVME(b *testing.B) {
	data := noise(32 << 10)
	for name, h := range map[string]io.Writer{
		"ours": newCRC64NVME(), "standard": crc64.New(crc64.MakeTable(nvmePolynomial)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = h.Write(data)
			}
		})
	}
}
