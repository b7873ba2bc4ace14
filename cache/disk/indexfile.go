package disk

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/minio/crc64nvme"
)

// The index file lets a start know all objects without a walk through the folder:
//
//	magic, version, incarnation, block size, clean, numbers of spaces and entries
//	spaces:  space, epoch, folders
//	entries: hash, number of the space, pages and use
//
// each part followed by its checksum, the entries by one for each chunk. clean says that it
// was written by Close, so that only the next incarnation can take it for complete.
const (
	indexMagic  = "ixmgindx"
	indexHeader = 8 + 6*8
	indexSpace  = 24
	indexEntry  = 24
	indexChunk  = 4096 // entries
	useShift    = 30   // use lies in the upper bits of pages
	pagesMax    = 1<<30 - 1
	spacesMax   = 1 << 28
	folderMask  = 1<<16 - 1
)

// saveIndex writes the index file.
func (s *Store) saveIndex(clean bool) {
	s.mu.Lock()
	skip := !s.ready || !s.on || !s.dirty && !clean
	complete := s.complete && len(s.trash) == 0 && len(s.stray) == 0
	s.dirty = false
	s.mu.Unlock()
	if skip {
		return
	}
	b := s.encodeIndex(clean && complete)
	f, err := replaceFile(s.fs, s.path("index"), b)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = s.fs.SyncDir(s.cfg.Dir)
	}
	if err != nil {
		s.fail("write", err)
	}
}

func appendSum(b []byte, from int) []byte { return order.AppendUint64(b, crc64nvme.Checksum(b[from:])) }

// encodeIndex copies the index in steps that do not hold mu for long. What changes
// meanwhile is found by the walk.
func (s *Store) encodeIndex(clean bool) []byte {
	s.mu.Lock()
	spaces := slices.Collect(maps.Values(s.index.spaces))
	number := make(map[*space]uint32, len(spaces)) // in the file
	b := make([]byte, indexHeader+8, indexHeader+8+len(spaces)*indexSpace+8+s.index.live*(indexEntry+1))
	from := len(b)
	for i, sp := range spaces {
		number[sp] = uint32(i)
		b = order.AppendUint64(b, uint64(sp.id.space))
		b = order.AppendUint64(b, uint64(sp.id.epoch))
		b = order.AppendUint64(b, uint64(sp.folders))
	}
	s.mu.Unlock()
	b = appendSum(b, from)
	entries := 0
	for at, end := 0, false; !end; {
		from, n := len(b), 0
		for n < indexChunk && !end {
			s.mu.Lock()
			var added int
			b, added = s.index.appendEntries(b, number, at, indexChunk-n)
			at, n = at+indexChunk-n, n+added
			end = at >= len(s.index.entries)
			s.mu.Unlock()
		}
		if n > 0 {
			b, entries = appendSum(b, from), entries+n
		}
	}
	var flag uint64
	if clean {
		flag = 1
	}
	copy(b, indexMagic)
	for i, v := range []uint64{
		formatVersion, s.incarnation, uint64(s.block.Load()), flag, uint64(len(spaces)), uint64(entries),
	} {
		order.PutUint64(b[8+8*i:], v)
	}
	order.PutUint64(b[indexHeader:], crc64nvme.Checksum(b[:indexHeader]))
	return b
}

// appendEntries looks at the places from at to at+n, counted from the hand of the clock, and appends the
// entries of spaces that have a number.
func (x *index) appendEntries(b []byte, number map[*space]uint32, at, n int) (_ []byte, added int) {
	for i := at; i < min(at+n, len(x.entries)); i++ {
		e := &x.entries[(i+x.hand)%len(x.entries)]
		if e.flags&flagLive == 0 {
			continue
		}
		if no, ok := number[x.numbers[e.space]]; ok {
			b = append(b, e.hash[:]...)
			b = order.AppendUint32(b, no)
			b = order.AppendUint32(b, e.pages|uint32(e.use)<<useShift)
			added++
		}
	}
	return b, added
}

// savedIndex is an index file.
type savedIndex struct {
	incarnation uint64
	block       int64
	clean       bool
	spaces      []savedSpace
	entries     []byte // without the sums, which were compared
}

type savedSpace struct {
	id      spaceID
	folders int
}

// decodeIndex checks an index file. It changes b.
func decodeIndex(b []byte) (x savedIndex, err error) {
	bad := func(what string) (savedIndex, error) {
		return savedIndex{}, fmt.Errorf("%w index file: %s", errMalformed, what)
	}
	if len(b) < indexHeader+16 || string(b[:8]) != indexMagic || order.Uint64(b[8:]) != formatVersion ||
		crc64nvme.Checksum(b[:indexHeader]) != order.Uint64(b[indexHeader:]) {
		return bad("the beginning")
	}
	x.incarnation, x.block, x.clean = order.Uint64(b[16:]), int64(order.Uint64(b[24:])), order.Uint64(b[32:]) == 1
	spaces, entries := order.Uint64(b[40:]), order.Uint64(b[48:])
	b = b[indexHeader+8:]
	chunks := (entries + indexChunk - 1) / indexChunk
	if spaces > spacesMax || entries > 1<<32-1 ||
		uint64(len(b)) != spaces*indexSpace+8+entries*indexEntry+chunks*8 {
		return bad("the length")
	}
	end := spaces * indexSpace
	if crc64nvme.Checksum(b[:end]) != order.Uint64(b[end:]) {
		return bad("the spaces")
	}
	for ; len(x.spaces) < int(spaces); b = b[indexSpace:] {
		id := spaceID{int64(order.Uint64(b)), int64(order.Uint64(b[8:]))}
		x.spaces = append(x.spaces, savedSpace{id, int(order.Uint64(b[16:]) & folderMask)})
	}
	var ok bool
	if x.entries, ok = joinChunks(b[8:], uint32(spaces)); !ok {
		return bad("the entries")
	}
	return x, nil
}

// joinChunks checks the sums of the chunks and moves the entries together. The number of each entry's
// space must be less than spaces.
func joinChunks(b []byte, spaces uint32) (entries []byte, ok bool) {
	entries = b[:0]
	for len(b) > 0 {
		n := min(len(b)-8, indexChunk*indexEntry)
		if crc64nvme.Checksum(b[:n]) != order.Uint64(b[n:]) {
			return nil, false
		}
		entries = append(entries, b[:n]...)
		b = b[n+8:]
	}
	for at := 0; at < len(entries); at += indexEntry {
		if order.Uint32(entries[at+16:]) >= spaces {
			return nil, false
		}
	}
	return entries, true
}

// loadIndex reads the index file. It reports whether the last incarnation has written it in
// Close.
func (s *Store) loadIndex(last uint64) (clean bool) {
	b, err := s.readAll("index")
	if err != nil {
		if !os.IsNotExist(err) {
			s.log.Warn("the index of the disk cache cannot be read; the folder is searched", "error", err)
		}
		return false
	}
	x, err := decodeIndex(b)
	if err != nil || x.block != s.block.Load() {
		s.log.Warn("the index of the disk cache cannot be used; the folder is searched", "error", err)
		return false
	}
	clean = x.clean && x.incarnation == last
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(x.entries) / indexEntry
	s.index.slot = make(map[hash]uint32, n)
	s.index.entries = make([]entry, 0, n)
	for _, sp := range x.spaces {
		if !clean {
			break // the walk counts them
		}
		s.index.space(sp.id).folders = sp.folders
		s.used += int64(sp.folders) * folderCost
	}
	for at := 0; at < len(x.entries); at += indexEntry {
		h, size := hash(x.entries[at:]), order.Uint32(x.entries[at+20:])
		if s.index.lookup(h) != nil {
			continue
		}
		e := s.index.insert(h, x.spaces[order.Uint32(x.entries[at+16:])].id, size&pagesMax)
		e.use = uint8(size >> useShift)
		s.used += e.bytes()
	}
	return clean
}
