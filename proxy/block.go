package proxy

import (
	"strconv"

	"ixmage/cache"
)

const (
	// blockSize is what is fetched at a time of a part that others want too. Blocks
	// begin at its multiples, so that parts which overlap have blocks in common.
	blockSize = 1 << 20
	// sharedMax is the longest part that is fetched in blocks: what is longer costs
	// S3 more bytes than requests, however many want it.
	sharedMax = 8 << 20
)

// shareable reports whether other clients may have bytes of the piece that one has
// them fetched for: not if each has to ask for itself (RFC 9111, section 4), or if
// nothing would keep two versions apart.
func (w piece) shareable() bool {
	return w.length() <= sharedMax && strongTag(w.obj.etag) != "" && w.obj.lasts()
}

// blocks reads a piece by way of the blocks that it lies in, one after another. Each
// is fetched once for all who read it at that time.
type blocks struct {
	piece

	proxy  *Proxy
	reader *cache.Reader
	at     int64 // where in the object the reader's bytes begin
	end    int64 // and behind which they end
}

// openBlocks returns when the first block is there, or why it is not.
func (p *Proxy) openBlocks(w piece) (*blocks, error) {
	b := &blocks{piece: w, proxy: p}
	if err := b.open(w.first); err != nil {
		return nil, err
	}
	return b, nil
}

// open goes on to the block of pos, or, where there is no room for one, to the rest
// of the piece by itself.
func (b *blocks) open(pos int64) error {
	b.Close()
	n := pos / blockSize
	block, rest := b.piece, b.piece
	block.byteRange = byteRange{n * blockSize, min((n+1)*blockSize, b.obj.size) - 1}
	rest.byteRange = byteRange{pos, b.last}
	r, ok, err := b.share(block, n)
	if err == nil && !ok {
		block = rest
		r, err = b.proxy.cache.Stream(b.proxy.base, rest.key, b.proxy.part(rest))
	}
	if err != nil {
		return err
	}
	b.reader, b.at, b.end = r, block.first, block.last+1
	return nil
}

// share reads the nth block, if there is room for it.
func (b *blocks) share(block piece, n int64) (r *cache.Reader, ok bool, err error) {
	key := block.key
	key.Object += cache.PartMark + block.obj.etag + " " + strconv.FormatInt(n, 10)
	if !b.proxy.cache.Shares(key, block.length()) { // or S3 would be asked to find out
		return nil, false, nil
	}
	r, err = b.proxy.cache.Share(b.proxy.base, key, b.proxy.part(block))
	if err == nil && r.Alone() {
		return nil, false, r.Close()
	}
	return r, true, err
}

// Next returns bytes of the piece from off on. The last one comes when all of its
// block has.
func (b *blocks) Next(off int64) ([]byte, error) {
	pos := b.first + off
	if pos >= b.end {
		if err := b.open(pos); err != nil {
			return nil, err
		}
	}
	chunk, err := b.reader.Next(pos - b.at)
	if err != nil {
		return nil, err
	}
	chunk = chunk[:min(int64(len(chunk)), b.last+1-pos)]
	switch {
	case pos+int64(len(chunk)) <= b.last, b.end == b.last+1:
		return chunk, nil
	case len(chunk) > 1:
		return chunk[:len(chunk)-1], nil
	}
	if _, err := b.reader.Next(b.end - 1 - b.at); err != nil {
		return nil, err
	}
	return chunk, nil
}

// Close lets go of the block that is being read.
func (b *blocks) Close() error {
	if b.reader == nil {
		return nil
	}
	return b.reader.Close()
}
