package disk

// index knows every file: its size and how much it is used, not its name. It is guarded
// by Store.mu. Entries lie in one array without pointers, which the collector does not
// scan, and the array is the clock of the eviction.
type index struct {
	slot    map[hash]uint32
	entries []entry
	free    uint32 // the first free entry plus one; the others follow in entry.space
	hand    int
	spaces  map[spaceID]*space
	numbers []*space // by entry.space; nil where the number is free
	unused  []uint32 // free numbers
	live    int      // entries of spaces that were not dropped
}

type entry struct {
	hash  hash
	space uint32 // in index.numbers
	pages uint32 // of the file, in units of 4 KiB
	tag   uint32 // the low bits of Header.Body, which tell a file from its successor; 0 is unknown
	stamp uint32 // of the file when flagVerified was set: see Object.stamp
	use   uint8
	flags uint8
}

const (
	flagLive     = 1 << iota // the entry is not free
	flagVerified             // the body has been compared with its checksums
	flagSeen                 // written in this run, or found by the walk

	// useMax is how many rounds of the clock an entry survives without a request.
	useMax = 3
	// entryOverhead is what an entry takes of the disk beside its file: names in folders
	// and the index file.
	entryOverhead = 128
)

func (e *entry) bytes() int64 { return fileCost(e.pages) }

func fileCost(pages uint32) int64 { return int64(pages)*page + entryOverhead }

// space is the part of the index that belongs to one epoch of a space. After the epoch
// was dropped, its entries are removed step by step.
type space struct {
	id      spaceID
	number  uint32
	dropped bool
	entries int
	// variants is how many of the entries are of variants.
	variants int
	bytes    int64
	folders  int
}

func newIndex() *index {
	return &index{slot: make(map[hash]uint32), spaces: make(map[spaceID]*space)}
}

// lookup returns the entry of h or nil. It is valid until the next insert.
func (x *index) lookup(h hash) *entry {
	i, ok := x.slot[h]
	if !ok || x.numbers[x.entries[i].space].dropped {
		return nil
	}
	return &x.entries[i]
}

// space finds or makes a space.
func (x *index) space(id spaceID) *space {
	sp := x.spaces[id]
	if sp != nil {
		return sp
	}
	sp = &space{id: id}
	x.spaces[id] = sp
	if last := len(x.unused) - 1; last >= 0 {
		sp.number = x.unused[last]
		x.unused = x.unused[:last]
		x.numbers[sp.number] = sp
		return sp
	}
	sp.number = uint32(len(x.numbers))
	x.numbers = append(x.numbers, sp)
	return sp
}

// insert adds an entry, which must not exist.
func (x *index) insert(h hash, id spaceID, pages uint32) *entry {
	if i, ok := x.slot[h]; ok {
		x.removeAt(i) // of a dropped space
	}
	sp := x.space(id)
	i := x.free
	if i == 0 {
		x.entries = append(x.entries, entry{})
		i = uint32(len(x.entries))
	} else {
		x.free = x.entries[i-1].space
	}
	i--
	x.slot[h] = i
	e := &x.entries[i]
	*e = entry{hash: h, space: sp.number, pages: pages, flags: flagLive}
	sp.entries++
	if h.isVariant() {
		sp.variants++
	}
	sp.bytes += e.bytes()
	x.live++
	return e
}

func (x *index) remove(h hash) {
	if i, ok := x.slot[h]; ok {
		x.removeAt(i)
	}
}

func (x *index) removeAt(i uint32) {
	e := &x.entries[i]
	sp := x.numbers[e.space]
	sp.entries--
	if e.hash.isVariant() {
		sp.variants--
	}
	sp.bytes -= e.bytes()
	if !sp.dropped {
		x.live--
	}
	delete(x.slot, e.hash)
	*e = entry{space: x.free}
	x.free = i + 1
	x.release(sp)
}

// release forgets a space that has nothing.
func (x *index) release(sp *space) {
	if sp.entries > 0 || sp.folders > 0 {
		return
	}
	x.numbers[sp.number] = nil
	x.unused = append(x.unused, sp.number)
	if x.spaces[sp.id] == sp {
		delete(x.spaces, sp.id)
	}
}

// resize changes the size of an entry.
func (x *index) resize(e *entry, pages uint32) {
	x.numbers[e.space].bytes += (int64(pages) - int64(e.pages)) * page
	e.pages = pages
}

// drop detaches a whole space: its entries are no longer found. It returns what they
// took, and their number.
func (x *index) drop(id spaceID) (sp *space) {
	sp = x.spaces[id]
	if sp == nil {
		return &space{id: id}
	}
	delete(x.spaces, id)
	x.live -= sp.entries
	sp.dropped = true
	counts := *sp
	sp.folders = 0
	x.release(sp)
	return &counts
}

// sweep frees entries of dropped spaces between from and from+n, and returns where to go on.
func (x *index) sweep(from, n int) int {
	end := min(from+n, len(x.entries))
	for i := from; i < end; i++ {
		if e := &x.entries[i]; e.flags&flagLive != 0 && x.numbers[e.space].dropped {
			x.removeAt(uint32(i))
		}
	}
	return end
}

// victim is the next entry to evict: CLOCK, with a few rounds for entries that are used
// often. An entry that keep wants stays. It returns nil if all stay.
func (x *index) victim(keep func(*entry) bool) *entry {
	for range (useMax + 2) * len(x.entries) {
		if x.hand >= len(x.entries) {
			x.hand = 0
		}
		i := x.hand
		x.hand++
		e := &x.entries[i]
		switch {
		case e.flags&flagLive == 0:
		case x.numbers[e.space].dropped:
			x.removeAt(uint32(i))
		case keep(e):
		case e.use > 0:
			e.use--
		default:
			return e
		}
	}
	return nil
}

func (e *entry) touch() { e.use = min(e.use+1, useMax) }
