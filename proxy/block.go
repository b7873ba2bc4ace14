package proxy

import (
	"errors"
	"io"
	"sync"

	"ixmage/cache"
)

const (
	// blockSize is how many bytes are fetched at a time of a range that overlaps
	// another one. Blocks begin at its multiples, so that ranges which overlap have
	// blocks in common.
	blockSize = 1 << 20
	// sharedMax is the longest range that is fetched in blocks: of a longer one, the
	// bytes from S3 cost more than the requests.
	sharedMax = 8 << 20
)

// blockGroup lets requests for overlapping ranges of one object, which is too large
// for the cache, share the bytes from S3. The first range is fetched by itself. A range
// that overlaps one being sent is fetched in blocks instead, and all requests that need a
// block at that time share one fetch of it. So the number of requests to S3 is bounded by
// the number of blocks and not by that of clients.
//
// A block is read completely before any request gets a byte of it. It lives as long as a
// request reads it, and its memory is taken from the cache's budget.
type blockGroup struct {
	cache *cache.Cache

	// mu guards the rest. The locks of the cache may be taken under it.
	mu     sync.Mutex
	ranges map[version][]byteRange // being sent
	blocks map[blockKey]*block
}

// version is one version of an object. With the generation of its alias in it (see
// Cache.Generation), requests that begin after a purge share nothing with earlier ones.
type version struct {
	cache.Key

	etag       string
	generation uint64
}

type blockKey struct {
	version

	n int64 // the block begins at n times blockSize
}

type block struct {
	key    blockKey
	refs   int   // guarded by blockGroup.mu
	cost   int64 // bytes taken from the cache's budget
	loaded chan struct{}
	data   []byte // fixed when loaded is closed
	err    error
}

func newBlockGroup(c *cache.Cache) *blockGroup {
	return &blockGroup{cache: c, ranges: make(map[version][]byteRange), blocks: make(map[blockKey]*block)}
}

// enter notes a range that is being sent until leave is called for the first time. It
// reports whether the range overlaps another one.
func (g *blockGroup) enter(v version, r byteRange) (overlaps bool, leave func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range g.ranges[v] {
		overlaps = overlaps || r.first <= other.last && other.first <= r.last
	}
	g.ranges[v] = append(g.ranges[v], r)
	return overlaps, sync.OnceFunc(func() { g.leave(v, r) })
}

func (g *blockGroup) leave(v version, r byteRange) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.ranges[v]
	for i, other := range list {
		if other == r {
			end := len(list) - 1
			list[i] = list[end]
			g.ranges[v] = list[:end]
			break
		}
	}
	if len(g.ranges[v]) == 0 {
		delete(g.ranges, v)
	}
}

var errBlockExited = errors.New("the fetch of a block ended its goroutine")

// get returns a block of size bytes, which the caller must release. load fetches it
// unless another request does so. The block is nil if the cache's budget has no
// room for it.
func (g *blockGroup) get(key blockKey, size int64, load func() ([]byte, error)) (*block, error) {
	b, found := g.find(key, size)
	switch {
	case b == nil:
		return nil, nil //nolint:nilnil // no room is no error
	case !found:
		g.fill(b, load)
	}
	<-b.loaded
	if b.err != nil {
		g.release(b)
		return nil, b.err
	}
	return b, nil
}

// find takes a reference on the block of key, making it if there is room.
func (g *blockGroup) find(key blockKey, size int64) (b *block, found bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b := g.blocks[key]; b != nil {
		b.refs++
		return b, true
	}
	if !g.cache.Reserve(size) {
		return nil, false
	}
	b = &block{key: key, refs: 1, cost: size, loaded: make(chan struct{})}
	g.blocks[key] = b
	return b, false
}

// fill loads b. A block that cannot be loaded leaves the table first, so that a request
// which comes after the failure tries again.
func (g *blockGroup) fill(b *block, load func() ([]byte, error)) {
	returned := false
	b.err = errBlockExited
	defer func() {
		if !returned { // load panicked or ended the goroutine, and get goes no further
			defer g.release(b)
		}
		if b.err != nil {
			g.mu.Lock()
			g.removeLocked(b)
			g.mu.Unlock()
		}
		close(b.loaded)
	}()
	b.data, b.err = load()
	returned = true
}

func (g *blockGroup) release(b *block) {
	g.mu.Lock()
	b.refs--
	last := b.refs == 0
	if last {
		g.removeLocked(b)
	}
	g.mu.Unlock()
	if last {
		g.cache.Unreserve(b.cost)
	}
}

func (g *blockGroup) removeLocked(b *block) {
	if g.blocks[b.key] == b {
		delete(g.blocks, b.key)
	}
}

// shareable reports whether other clients may get bytes that were fetched for this one:
// not if each request has to ask S3 (RFC 9111, section 4), or if no strong entity tag
// tells two versions apart.
func (w rangeRequest) shareable() bool {
	return w.length() <= sharedMax && strongTag(w.obj.etag) != "" && w.obj.isShareable()
}

// blocks reads a rangeRequest by way of the blocks that it lies in, one after another.
type blocks struct {
	rangeRequest

	proxy   *Proxy
	version version
	block   *block        // or
	rest    *cache.Reader // the rest of the rangeRequest, if there was no room for a block
	at      int64         // where in the object the bytes of either begin
	end     int64         // and after which they end
}

// openBlocks returns when the first block has been read.
func (p *Proxy) openBlocks(w rangeRequest, v version) (*blocks, error) {
	b := &blocks{rangeRequest: w, proxy: p, version: v}
	if err := b.open(w.first); err != nil {
		return nil, err
	}
	return b, nil
}

// open opens the block of pos or, if there is no room for one, to the rest of
// the rangeRequest by itself.
func (b *blocks) open(pos int64) error {
	b.close()
	n := pos / blockSize
	whole, rest := b.rangeRequest, b.rangeRequest
	whole.byteRange = byteRange{n * blockSize, min((n+1)*blockSize, b.obj.size) - 1}
	rest.byteRange = byteRange{pos, b.last}
	var err error
	b.block, err = b.proxy.blocks.get(blockKey{b.version, n}, whole.length(), func() ([]byte, error) {
		return b.proxy.read(whole)
	})
	if err != nil {
		return err
	}
	part := whole
	if b.block == nil {
		part = rest
		if b.rest, err = b.proxy.cache.Stream(b.proxy.base, rest.key, b.proxy.loadRange(rest)); err != nil {
			return err
		}
	}
	b.at, b.end = part.first, part.last+1
	return nil
}

// read fetches all bytes of a rangeRequest.
func (p *Proxy) read(w rangeRequest) ([]byte, error) {
	r, err := p.cache.Stream(p.base, w.key, p.loadRange(w))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, 0, w.length())
	for {
		chunk, err := r.Next(int64(len(data)))
		if err == io.EOF { //nolint:errorlint // only io.EOF itself is a good end
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		data = append(data, chunk...)
	}
}

// Next returns bytes of the rangeRequest from off on.
func (b *blocks) Next(off int64) ([]byte, error) {
	pos := b.first + off
	if pos >= b.end {
		if err := b.open(pos); err != nil {
			return nil, err
		}
	}
	if b.block != nil {
		return b.block.data[pos-b.at : min(b.end, b.last+1)-b.at], nil
	}
	if b.rest == nil {
		return nil, cache.ErrReaderClosed
	}
	return b.rest.Next(pos - b.at)
}

// Close releases the block that is being read. It may be called more than once, but not
// during Next.
func (b *blocks) Close() error {
	b.close()
	return nil
}

func (b *blocks) close() {
	if b.block != nil {
		b.proxy.blocks.release(b.block)
	}
	if b.rest != nil {
		b.rest.Close()
	}
	b.block, b.rest = nil, nil
}
