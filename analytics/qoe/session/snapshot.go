package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// Marks of the two kinds of snapshot change whenever the meaning of the state does; a snapshot of
// another version is refused and the state is made anew from the bus.
const (
	wholeMagic = "SES7"
	partMagic  = "SEP7"
)

// ErrVersion says that a snapshot was written by another version of the state.
var ErrVersion = errors.New("session snapshot has another version")

// errShort says that a snapshot ends too early.
var errShort = errors.New("session snapshot is cut short")

const (
	maxSnapshotPiece = 1 << 20 // bounds one string or session in a snapshot
	slabBytes        = 64 << 10
)

var snapshotTable = crc32.MakeTable(crc32.Castagnoli)

// changes are what was done to a table since its last snapshot.
type changes struct {
	follow bool     // there was a snapshot
	words  int      // there were in it
	gone   []string // sessions forgotten since
}

// AppendSnapshot appends the state as of the last Tick to b. Rows added since are not in
// it: the caller replays them.
func (t *Table) AppendSnapshot(b []byte) []byte {
	size := slabBytes
	for _, e := range t.order {
		size += len(e.id) + len(e.packed) + 16
	}
	b = slices.Grow(b, size)
	from := len(b)
	b = append(b, wholeMagic...)
	b = t.appendHead(b, 0)
	b = binary.AppendUvarint(b, 0)
	b = binary.AppendUvarint(b, uint64(len(t.order)))
	for _, e := range t.order {
		b = e.appendTo(b)
	}
	t.followed()
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], snapshotTable))
}

// AppendPart appends what has changed since the last AppendSnapshot, AppendPart, Restore or Apply: see [Table.Apply].
// False, with b as it was, says that only a whole snapshot can tell.
func (t *Table) AppendPart(b []byte) ([]byte, bool) {
	if !t.since.follow {
		return b, false
	}
	from := len(b)
	b = append(b, partMagic...)
	b = t.appendHead(b, t.since.words)
	b = binary.AppendUvarint(b, uint64(len(t.since.gone)))
	for _, id := range t.since.gone {
		b = appendPiece(b, id)
	}
	n := 0
	for _, e := range t.order {
		if e.changed {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for _, e := range t.order {
		if e.changed {
			b = e.appendTo(b)
		}
	}
	t.followed()
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], snapshotTable)), true
}

// followed begins to note changes anew.
func (t *Table) followed() {
	for _, e := range t.order {
		e.changed = false
	}
	t.since = changes{follow: true, words: len(t.words)}
}

// appendHead writes what stands before the sessions: time, and words from a number on.
func (t *Table) appendHead(b []byte, words int) []byte {
	b = binary.AppendVarint(b, t.last)
	b = binary.AppendVarint(b, int64(words))
	b = binary.AppendUvarint(b, uint64(len(t.words)-words))
	for _, w := range t.words[words:] {
		b = appendPiece(b, w)
	}
	return b
}

func appendPiece[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (e *entry) appendTo(b []byte) []byte {
	b = appendPiece(b, e.id)
	b = appendPiece(b, e.packed)
	b = binary.AppendVarint(b, e.dueMs)
	if e.closed {
		return append(b, 1)
	}
	return append(b, 0)
}

// Restore makes a table of what AppendSnapshot wrote. It keeps nothing of data. Errors: ErrVersion; those of damaged data.
func Restore(data []byte, c Config) (*Table, error) {
	t := New(c)
	if err := t.load(data, wholeMagic); err != nil {
		return nil, fmt.Errorf("read session snapshot: %w", err)
	}
	return t, nil
}

// Apply makes the changes that AppendPart wrote. After an error the table cannot be used any more.
func (t *Table) Apply(part []byte) error {
	if err := t.load(part, partMagic); err != nil {
		return fmt.Errorf("read part of a session snapshot: %w", err)
	}
	return nil
}

func (t *Table) load(data []byte, magic string) error {
	if len(data) < len(magic)+4 {
		return errShort
	}
	if string(data[:len(magic)]) != magic {
		return ErrVersion
	}
	end := len(data) - 4
	// What no bit of has changed is what pack wrote: no session need be looked through.
	if binary.LittleEndian.Uint32(data[end:]) != crc32.Checksum(data[:end], snapshotTable) {
		return errors.New("its checksum differs")
	}
	s := snapshotReader{b: data[len(magic):end]}
	t.last = s.num()
	if first := s.num(); s.err == nil && magic == partMagic && first != int64(len(t.words)) {
		return fmt.Errorf("it goes on after %d words, of which %d are there", first, len(t.words))
	}
	// A new table has the first word of a whole one already, the empty one.
	base := len(t.words)
	if magic == wholeMagic {
		base = 0
	}
	for i := range s.size() {
		w := string(s.piece())
		if s.err != nil {
			return s.err
		}
		if t.word(w); len(t.words) != base+i+1 {
			return fmt.Errorf("word %d, %q, is there twice", base+i, w)
		}
	}
	if err := t.drop(&s); err != nil {
		return err
	}
	if err := t.sessions(&s); err != nil {
		return err
	}
	if s.err == nil && len(s.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(s.b))
	}
	t.followed()
	return s.err
}

// drop forgets the sessions that a part says are gone.
func (t *Table) drop(s *snapshotReader) error {
	dropped := false
	for range s.size() {
		id := string(s.piece())
		if e := t.byID[id]; e != nil {
			if !e.closed {
				t.open--
			}
			delete(t.byID, id)
			*e = entry{}
			dropped = true
		}
	}
	if dropped {
		keep := t.order[:0]
		for _, e := range t.order {
			if e.id != "" {
				keep = append(keep, e)
			}
		}
		clear(t.order[len(keep):])
		t.order = keep
	}
	return s.err
}

// sessions reads those of a snapshot: known ones in the place of what is there, new ones behind.
func (t *Table) sessions(s *snapshotReader) error {
	n := s.size()
	// Made as large as it will be, within what may be: growing a map costs more than all else here.
	if len(t.order) == 0 && n > 0 {
		room := min(n, t.cfg.MaxSessions)
		t.byID, t.order = make(map[string]*entry, room), make([]*entry, 0, room)
	}
	var some []entry // made many at a time: the garbage collector has less to follow
	for i := range n {
		id, packed, dueMs, closed := s.piece(), s.piece(), s.num(), s.bit()
		if s.err != nil {
			return fmt.Errorf("session %d of %d: %w", i+1, n, s.err)
		}
		if len(id) == 0 {
			return fmt.Errorf("session %d of %d has no id", i+1, n)
		}
		e := t.byID[string(id)]
		if e == nil {
			if len(some) == 0 {
				some = make([]entry, min(n-i, 256))
			}
			e, some = &some[0], some[1:]
			e.id = s.keepText(id)
			t.byID[e.id] = e
			t.order = append(t.order, e)
			t.open++
		} else if e.closed {
			t.open++
		}
		if closed {
			t.open--
		}
		e.packed, e.dueMs, e.closed = s.keep(packed), dueMs, closed
	}
	return s.err
}

// snapshotReader takes a snapshot apart. What is kept of it is copied into slabs that many sessions share: each has
// its place until it is packed again and does not fit.
type snapshotReader struct {
	b    []byte
	err  error
	slab []byte
	text strings.Builder
}

func (s *snapshotReader) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.b = nil
}

func (s *snapshotReader) num() int64 {
	v, n := binary.Varint(s.b)
	if n <= 0 {
		s.fail(errShort)
		return 0
	}
	s.b = s.b[n:]
	return v
}

// size is a number of things that follow, each of which takes at least a byte.
func (s *snapshotReader) size() int {
	v, n := binary.Uvarint(s.b)
	if n <= 0 || v > uint64(len(s.b)) {
		s.fail(errShort)
		return 0
	}
	s.b = s.b[n:]
	return int(v)
}

func (s *snapshotReader) bit() bool {
	if len(s.b) == 0 {
		s.fail(errShort)
		return false
	}
	x := s.b[0]
	s.b = s.b[1:]
	return x == 1
}

// piece gives a piece of the snapshot itself.
func (s *snapshotReader) piece() []byte {
	n := s.size()
	if s.err == nil && (n > maxSnapshotPiece || n > len(s.b)) {
		s.fail(fmt.Errorf("a piece of %d bytes, of which %d are there", n, len(s.b)))
	}
	if s.err != nil {
		return nil
	}
	p := s.b[:n]
	s.b = s.b[n:]
	return p
}

func (s *snapshotReader) keep(p []byte) []byte {
	if cap(s.slab)-len(s.slab) < len(p) {
		s.slab = make([]byte, 0, max(slabBytes, len(p)))
	}
	from := len(s.slab)
	s.slab = append(s.slab, p...)
	return s.slab[from:len(s.slab):len(s.slab)]
}

func (s *snapshotReader) keepText(p []byte) string {
	if s.text.Cap()-s.text.Len() < len(p) {
		s.text = strings.Builder{}
		s.text.Grow(max(slabBytes/8, len(p)))
	}
	from := s.text.Len()
	s.text.Write(p)
	return s.text.String()[from:]
}
