package disk

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

// Files are bytes from outside. What is accepted must be what would be written.

func FuzzHeader(f *testing.F) {
	h := Header{Key: Key{1, 2, "key"}, Generation: 3, Stored: time.Unix(4, 5), Expires: time.Unix(6, 7), Meta: []byte("meta"), Size: 8}
	good := encodeHeader(&h, headerLen(&h))
	f.Add(good)
	f.Add(good[:100])
	h.Meta = make([]byte, 5000)
	f.Add(encodeHeader(&h, headerLen(&h)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		again := encodeHeader(&h, int64(len(b)))
		n := headerFixed + len(h.Key.Object) + len(h.Meta)
		if !bytes.Equal(again[:n], b[:n]) {
			t.Errorf("got %x, want %x", again[:n], b[:n])
		}
	})
}

func FuzzTrailer(f *testing.F) {
	f.Add(encodeTrailer([]uint64{1, 2}, 3), int64(100_000), uint64(3))
	f.Add(encodeTrailer(nil, 3), int64(0), uint64(3))
	f.Fuzz(func(t *testing.T, b []byte, size int64, body uint64) {
		if size < 0 || size > sizeMax {
			return
		}
		sums, err := decodeTrailer(b, size, body)
		if err == nil && !bytes.Equal(encodeTrailer(sums, body), b) {
			t.Errorf("got %v", sums)
		}
	})
}

func FuzzIndexFile(f *testing.F) {
	s := &Store{index: newIndex(), incarnation: 9}
	s.block.Store(page)
	f.Add(s.encodeIndex(true))
	for i := range 5000 {
		s.index.insert(numbered(i).hash(), spaceID{int64(i % 3), 1}, 2).use = uint8(i % 4)
	}
	f.Add(s.encodeIndex(false))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decodeIndex(slices.Clone(b))
		if err != nil {
			return
		}
		for at := 0; at < len(x.entries); at += indexEntry {
			if n := order.Uint32(x.entries[at+16:]); int(n) >= len(x.spaces) {
				t.Errorf("an entry of space %d of %d", n, len(x.spaces))
			}
		}
	})
}

func FuzzJournal(f *testing.F) {
	b := append([]byte(journalMagic), 1, 0, 0, 0, 0, 0, 0, 0)
	f.Add(b)
	m := appendMark(nil, &Mark{Space: 1, Epoch: 2, Object: "key", Hard: true, Generation: 3, At: time.Unix(4, 5)})
	b = appendFrame(b, 1, m)
	b = appendFrame(b, 2, appendMark(m, &Mark{Prefix: true}))
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		marks, err := decodeJournal(b)
		if err != nil {
			return
		}
		// A frame that follows is read too, or the journal is refused: what was confirmed is never passed over.
		var records []byte
		for _, m := range marks {
			records = appendMark(records, m)
		}
		again, err := decodeJournal(appendFrame(append([]byte(journalMagic), b[8:16]...), 1, records))
		if err != nil || len(again) != len(marks) {
			t.Errorf("%d marks of %d, %v", len(again), len(marks), err)
		}
	})
}

// TestJournalDamage: with any byte of a journal changed, each mark before the last frame is there or the journal is refused.
func TestJournalDamage(t *testing.T) {
	t.Parallel()
	b := append([]byte(journalMagic), 1, 0, 0, 0, 0, 0, 0, 0)
	for i := range 4 {
		b = appendFrame(b, uint64(i+1), appendMark(nil, &Mark{Space: 1, Object: "key", Generation: uint64(i)}))
	}
	frame := (len(b) - journalHeader) / 4
	if marks, err := decodeJournal(slices.Delete(slices.Clone(b), journalHeader+frame, journalHeader+2*frame)); err == nil {
		t.Errorf("a lost frame: %d marks", len(marks))
	}
	last := 3 * frame
	for i := range b {
		c := slices.Clone(b)
		c[i] ^= 4
		marks, err := decodeJournal(c)
		if err == nil && (len(marks) != 3 || i < journalHeader+last) {
			t.Errorf("byte %d: %d marks", i, len(marks))
		}
		if cut, err := decodeJournal(b[:i]); err == nil && len(cut) != max(0, i-journalHeader)/(last/3) {
			t.Errorf("cut at %d: %d marks", i, len(cut))
		}
	}
}
