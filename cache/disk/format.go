package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/crc64nvme"
)

// A file holds one object:
//
//	header   one or more pages: the fields of Header, and a checksum
//	body     begins at a page, so that the kernel reads and sends whole pages
//	trailer  a checksum for each block of the body, and one of itself
//
// The trailer is last because the sums of a large object are known only when it has arrived.
// Nothing is synced: after a power cut a file may have any length and any bytes, and the
// checksums find that.
const (
	formatVersion = 1
	objectMagic   = "ixmgobj\x00"
	page          = 4 << 10
	blockSize     = 64 << 10
	headerMax     = 64 << 10
	sizeMax       = 1 << 50
	headerFixed   = 24 + 4*8 + 16 + 2*12 + 2*4 + 8
	trailerFixed  = 16
)

var order = binary.LittleEndian

// errMalformed means that a file is no object, or not the one of this key.
var errMalformed = errors.New("malformed")

// hash is a key in 128 bits. It names the file; the key in the header decides.
type hash [16]byte

func (k Key) hash() hash {
	buf := make([]byte, 0, 1100) // stays on the stack
	buf = order.AppendUint64(buf, uint64(k.Space))
	buf = order.AppendUint64(buf, uint64(k.Epoch))
	buf = append(buf, k.Object...)
	sum := sha256.Sum256(buf)
	h := hash(sum[:16])
	if strings.Contains(k.Object, variantMark) {
		copy(h[len(h)-len(variantEnd):], variantEnd)
	}
	return h
}

// variantEnd ends the hashes of variants, so that they are found among all files. One in 2^32 other
// hashes ends so too, which costs a look at its file.
const variantEnd = "vari"

func (h hash) isVariant() bool { return string(h[len(h)-len(variantEnd):]) == variantEnd }

func (h hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(name string) (h hash, ok bool) {
	if len(name) != 2*len(h) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(name))
	return h, err == nil && h.String() == name // refuses upper case
}

// spaceID is one epoch of a space. Its String names its folder.
type spaceID struct{ space, epoch int64 }

func (k Key) spaceID() spaceID { return spaceID{k.Space, k.Epoch} }

func (id spaceID) String() string { return fmt.Sprintf("%d-%d", id.space, id.epoch) }

func parseSpaceID(name string) (id spaceID, ok bool) {
	n, err := fmt.Sscanf(name, "%d-%d", &id.space, &id.epoch)
	return id, err == nil && n == 2 && id.String() == name
}

// appendTime is exact for all times; UnixNano is not.
func appendTime(b []byte, t time.Time) []byte {
	b = order.AppendUint64(b, uint64(t.Unix()))
	return order.AppendUint32(b, uint32(t.Nanosecond()))
}

func parseTime(b []byte) time.Time {
	return time.Unix(int64(order.Uint64(b)), int64(order.Uint32(b[8:])))
}

// headerLen is how many bytes the header of h takes in its file.
func headerLen(h *Header) int64 {
	n := int64(headerFixed + len(h.Key.Object) + len(h.Meta))
	return (n + page - 1) / page * page
}

// encodeHeader returns size bytes. The checksum covers the fields and not the padding.
func encodeHeader(h *Header, size int64) []byte {
	b := make([]byte, 0, size)
	b = append(b, objectMagic...)
	b = order.AppendUint32(b, formatVersion)
	b = order.AppendUint32(b, uint32(size))
	b = order.AppendUint64(b, 0) // the checksum
	for _, v := range []uint64{uint64(h.Key.Space), uint64(h.Key.Epoch), h.Generation, h.Body} {
		b = order.AppendUint64(b, v)
	}
	b = append(b, h.Origin[:]...)
	b = appendTime(b, h.Stored)
	b = appendTime(b, h.Expires)
	b = order.AppendUint32(b, uint32(len(h.Key.Object)))
	b = order.AppendUint32(b, uint32(len(h.Meta)))
	b = order.AppendUint64(b, uint64(h.Size))
	b = append(b, h.Key.Object...)
	b = append(b, h.Meta...)
	order.PutUint64(b[16:], headerSum(b))
	return b[:size]
}

func headerSum(b []byte) uint64 { return crc64nvme.Update(crc64nvme.Checksum(b[:16]), b[24:]) }

// headerSize reads the length of a header from its first page.
func headerSize(b []byte) (int64, error) {
	switch {
	case len(b) < page || string(b[:8]) != objectMagic:
		return 0, fmt.Errorf("%w: it does not begin like an object", errMalformed)
	case order.Uint32(b[8:]) != formatVersion:
		return 0, fmt.Errorf("%w: format version %d, want %d", errMalformed, order.Uint32(b[8:]), formatVersion)
	}
	n := order.Uint32(b[12:])
	if n < page || n > headerMax || n%page != 0 {
		return 0, fmt.Errorf("%w: a header of %d bytes", errMalformed, n)
	}
	return int64(n), nil
}

// decodeHeader parses a whole header. The result does not refer to b.
func decodeHeader(b []byte) (h Header, err error) {
	n, err := headerSize(b)
	if err != nil || int64(len(b)) != n {
		return h, errors.Join(errMalformed, err)
	}
	at := headerFixed - 16
	key, meta := order.Uint32(b[at:]), order.Uint32(b[at+4:])
	if int64(key)+int64(meta) > n-headerFixed {
		return h, fmt.Errorf("%w: lengths of %d and %d bytes in a header of %d", errMalformed, key, meta, n)
	}
	used := b[:headerFixed+key+meta]
	if headerSum(used) != order.Uint64(b[16:]) {
		return h, fmt.Errorf("%w: the checksum of the header is wrong", errMalformed)
	}
	h = Header{
		Generation: order.Uint64(b[40:]), Body: order.Uint64(b[48:]),
		Origin: [16]byte(b[56:]), Stored: parseTime(b[72:]), Expires: parseTime(b[84:]),
		Size: int64(order.Uint64(b[at+8:])),
	}
	h.Key = Key{
		Space: int64(order.Uint64(b[24:])), Epoch: int64(order.Uint64(b[32:])),
		Object: string(used[headerFixed : headerFixed+key]),
	}
	h.Meta = append([]byte(nil), used[headerFixed+key:]...)
	if h.Size < 0 || h.Size > sizeMax {
		return h, fmt.Errorf("%w: a body of %d bytes", errMalformed, h.Size)
	}
	return h, nil
}

// readHeader reads the header of an object and returns its length. An error is
// errMalformed or of the disk.
func readHeader(f File) (h Header, size int64, err error) {
	b := make([]byte, page)
	if err := readFull(f, b, 0); err != nil {
		return h, 0, err
	}
	size, err = headerSize(b)
	if err != nil {
		return h, 0, err
	}
	if size > page {
		first := b
		b = make([]byte, size)
		copy(b, first)
		if err := readFull(f, b[page:], page); err != nil {
			return h, 0, err
		}
	}
	h, err = decodeHeader(b)
	return h, size, err
}

// readFull reads all of p. A file that ends before is malformed.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: it ends at byte %d", errMalformed, off+int64(n))
	}
	return err
}

func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

func trailerLen(size int64) int64 { return blocks(size)*8 + trailerFixed }

// encodeTrailer binds the sums to their body, so that the trailer of another file is not
// taken for this one's.
func encodeTrailer(sums []uint64, body uint64) []byte {
	b := make([]byte, 0, len(sums)*8+trailerFixed)
	for _, s := range sums {
		b = order.AppendUint64(b, s)
	}
	b = order.AppendUint64(b, body)
	return order.AppendUint64(b, crc64nvme.Checksum(b))
}

func decodeTrailer(b []byte, size int64, body uint64) ([]uint64, error) {
	if int64(len(b)) != trailerLen(size) {
		return nil, fmt.Errorf("%w: a trailer of %d bytes", errMalformed, len(b))
	}
	end := len(b) - 8
	if order.Uint64(b[end:]) != crc64nvme.Checksum(b[:end]) || order.Uint64(b[end-8:]) != body {
		return nil, fmt.Errorf("%w: the checksum of the trailer is wrong", errMalformed)
	}
	sums := make([]uint64, blocks(size))
	for i := range sums {
		sums[i] = order.Uint64(b[i*8:])
	}
	return sums, nil
}
