package disk

import (
	"fmt"
	"os"
	"sync"

	"github.com/minio/crc64nvme"
)

// The journal holds the marks of purges. A purge is durable before it is answered: without
// its mark, a restart would serve a purged object again.
//
//	file   magic, version, then frames
//	frame  magic, length, number, records, checksum
//
// Purges that wait for the disk at the same time share a frame and one sync. A frame that
// the end of the file cuts was never answered. A bad frame with a good one behind it means
// that marks are lost.
const (
	journalMagic   = "ixmgjrnl"
	journalHeader  = 16
	frameMagic     = 0x6b72616d // "mark"
	frameFixed     = 16
	frameMax       = 64 << 20
	recordFixed    = 8 + 8 + 8 + 12 + 1 + 4
	flagPrefix     = 1
	flagHard       = 2
	journalCompact = 16 << 10 // a shorter journal is not rewritten
)

type journal struct {
	fs   FS
	path string
	dir  string

	writing sync.Mutex // held while the file is written
	file    File       // nil before the first rewrite and after an error: then nothing can be durable
	size    int64
	base    int64 // size after the last rewrite
	number  uint64

	mu   sync.Mutex
	next *batch // marks that the next frame will hold
}

type batch struct {
	records []byte
	done    chan struct{}
	err     error
}

func appendMark(b []byte, m *Mark) []byte {
	b = order.AppendUint64(b, uint64(m.Space))
	b = order.AppendUint64(b, uint64(m.Epoch))
	b = order.AppendUint64(b, m.Generation)
	b = appendTime(b, m.At)
	var flags byte
	if m.Prefix {
		flags |= flagPrefix
	}
	if m.Hard {
		flags |= flagHard
	}
	b = append(b, flags)
	b = order.AppendUint32(b, uint32(len(m.Object)))
	return append(b, m.Object...)
}

func parseMark(b []byte) (m *Mark, rest []byte, ok bool) {
	if len(b) < recordFixed {
		return nil, nil, false
	}
	n := int64(order.Uint32(b[recordFixed-4:]))
	flags := b[recordFixed-5]
	if flags > flagPrefix|flagHard || n > int64(len(b)-recordFixed) {
		return nil, nil, false
	}
	return &Mark{
		Space: int64(order.Uint64(b)), Epoch: int64(order.Uint64(b[8:])), Generation: order.Uint64(b[16:]),
		At: parseTime(b[24:]), Prefix: flags&flagPrefix != 0, Hard: flags&flagHard != 0,
		Object: string(b[recordFixed : recordFixed+n]),
	}, b[recordFixed+n:], true
}

func appendFrame(b []byte, number uint64, records []byte) []byte {
	at := len(b)
	b = order.AppendUint32(b, frameMagic)
	b = order.AppendUint32(b, uint32(len(records)))
	b = order.AppendUint64(b, number)
	b = append(b, records...)
	return order.AppendUint64(b, crc64nvme.Checksum(b[at:]))
}

// parseFrame returns the records of the frame at the beginning of b, and its length.
func parseFrame(b []byte) (number uint64, records []byte, size int, ok bool) {
	if len(b) < frameFixed+8 || order.Uint32(b) != frameMagic {
		return 0, nil, 0, false
	}
	n := int64(order.Uint32(b[4:]))
	if n > frameMax || n > int64(len(b)-frameFixed-8) {
		return 0, nil, 0, false
	}
	end := frameFixed + int(n)
	if crc64nvme.Checksum(b[:end]) != order.Uint64(b[end:]) {
		return 0, nil, 0, false
	}
	return order.Uint64(b[8:]), b[frameFixed:end], end + 8, true
}

// decodeJournal returns all marks of a journal. A torn end is left out.
func decodeJournal(b []byte) ([]*Mark, error) {
	if len(b) < journalHeader || string(b[:8]) != journalMagic || order.Uint64(b[8:]) != formatVersion {
		return nil, fmt.Errorf("%w journal: it does not begin like one", errMalformed)
	}
	b = b[journalHeader:]
	var all []*Mark
	for next := uint64(1); len(b) > 0; next++ {
		number, records, size, ok := parseFrame(b)
		switch {
		case !ok && hasFrame(b[1:]):
			return nil, fmt.Errorf("%w journal: frame %d is damaged", errMalformed, next)
		case !ok:
			return all, nil
		case number != next:
			return nil, fmt.Errorf("%w journal: frame %d where %d should be", errMalformed, number, next)
		}
		marks, ok := parseMarks(records)
		if !ok {
			return nil, fmt.Errorf("%w journal: frame %d holds no marks", errMalformed, next)
		}
		all, b = append(all, marks...), b[size:]
	}
	return all, nil
}

// hasFrame reports whether a good frame begins anywhere in b.
func hasFrame(b []byte) bool {
	for ; len(b) > 0; b = b[1:] {
		if _, _, _, ok := parseFrame(b); ok {
			return true
		}
	}
	return false
}

func parseMarks(b []byte) (all []*Mark, ok bool) {
	for len(b) > 0 {
		var m *Mark
		if m, b, ok = parseMark(b); !ok {
			return nil, false
		}
		all = append(all, m)
	}
	return all, true
}

// append makes a mark durable. Of the purges that come while the disk is busy, the first
// writes the marks of all.
func (j *journal) append(m *Mark) error {
	j.mu.Lock()
	b := j.next
	first := b == nil
	if first {
		b = &batch{done: make(chan struct{})}
		j.next = b
	}
	b.records = appendMark(b.records, m)
	j.mu.Unlock()
	if !first {
		<-b.done
		return b.err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	j.next = nil
	j.mu.Unlock()
	b.err = j.write(b.records)
	close(b.done)
	return b.err
}

// write adds a frame. After an error the kernel may have dropped what it was told to
// write, so that a second sync would lie: only rewrite helps.
func (j *journal) write(records []byte) error {
	if j.file == nil {
		return ErrOff
	}
	frame := appendFrame(nil, j.number+1, records)
	err := writeFull(j.file, frame, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.closeLocked()
		return err
	}
	j.number++
	j.size += int64(len(frame))
	return nil
}

// rewrite replaces the journal by one with the marks that snapshot returns. It is called
// while no frame can be written, so that a mark is in the snapshot or comes afterwards.
func (j *journal) rewrite(snapshot func() []*Mark) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	b := append(make([]byte, 0, journalHeader), journalMagic...)
	b = order.AppendUint64(b, formatVersion)
	number := uint64(0)
	var records []byte
	for _, m := range snapshot() {
		records = appendMark(records, m)
		if len(records) > 1<<20 {
			number++
			b, records = appendFrame(b, number, records), records[:0]
		}
	}
	if len(records) > 0 {
		number++
		b = appendFrame(b, number, records)
	}
	f, err := replaceFile(j.fs, j.path, b)
	if err == nil {
		err = j.fs.SyncDir(j.dir)
		if err != nil {
			f.Close()
		}
	}
	j.closeLocked()
	if err != nil {
		return err
	}
	j.file, j.size, j.base, j.number = f, int64(len(b)), int64(len(b)), number
	return nil
}

// long reports whether a rewrite would shorten the journal well.
func (j *journal) long() bool {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.file != nil && j.size > journalCompact+4*j.base
}

func (j *journal) close() {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.closeLocked()
}

func (j *journal) closeLocked() {
	if j.file != nil {
		j.file.Close() // an error of an earlier write has been reported by Sync
		j.file = nil
	}
}

// replaceFile writes a file whole or not at all and leaves it open. SyncDir makes it durable.
//
//nolint:ireturn // the interface exists for tests
func replaceFile(fsys FS, path string, b []byte) (File, error) {
	f, err := fsys.Open(path+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	err = writeFull(f, b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename(path+".tmp", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
