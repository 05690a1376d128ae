package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// snapshotMagic changes whenever the meaning of the state does; a snapshot of
// another version is refused and the state is made anew from the bus.
const snapshotMagic = "SES3"

// ErrVersion says that a snapshot was written by another version of the state.
var ErrVersion = errors.New("session snapshot has another version")

// maxSnapshotPiece bounds one string or session in a snapshot.
const maxSnapshotPiece = 1 << 20

// Snapshot writes the state as of the last Tick. Rows added since are not in
// it: the caller replays them.
func (t *Table) Snapshot(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	num := func(v int64) { b.Write(binary.AppendVarint(b.AvailableBuffer(), v)) }
	piece := func(p []byte) { num(int64(len(p))); b.Write(p) }
	b.WriteString(snapshotMagic)
	num(t.last)
	num(int64(len(t.words)))
	for _, w := range t.words {
		piece([]byte(w))
	}
	num(int64(len(t.order)))
	for _, e := range t.order {
		piece([]byte(e.id))
		piece(e.packed)
		num(e.dueMs)
	}
	if err := b.Flush(); err != nil { // bufio keeps the first error
		return fmt.Errorf("write session snapshot: %w", err)
	}
	return nil
}

// Restore reads what Snapshot wrote. Errors: ErrVersion; those of damaged data.
func Restore(r io.Reader, c Config) (*Table, error) {
	t, err := restore(bufio.NewReaderSize(r, 64<<10), c)
	if err != nil {
		return nil, fmt.Errorf("read session snapshot: %w", err)
	}
	return t, nil
}

func restore(r *bufio.Reader, c Config) (*Table, error) {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, err
	}
	if string(magic) != snapshotMagic {
		return nil, ErrVersion
	}
	t := New(c)
	s := snapshotReader{r: r}
	t.last = s.num()
	for i := range s.num() {
		w := s.text()
		if s.err != nil {
			return nil, s.err
		}
		if t.word(w); len(t.words) != int(i)+1 {
			return nil, fmt.Errorf("word %d, %q, is there twice", i, w)
		}
	}
	n := s.num()
	// Made as large as it will be, within what may be: growing a map costs more than all else here.
	if room := min(max(n, 0), int64(t.cfg.MaxSessions)); room > 0 {
		t.byID, t.order = make(map[string]*entry, room), make([]*entry, 0, room)
	}
	var some []entry // made many at a time: the garbage collector has less to follow
	for i := range n {
		if len(some) == 0 {
			some = make([]entry, min(n-i, restoredTogether))
		}
		e := &some[0]
		some = some[1:]
		e.id, e.packed = s.id(), s.piece()
		e.dueMs = s.num()
		if s.err != nil {
			return nil, fmt.Errorf("session %d of %d: %w", i+1, n, s.err)
		}
		if e.id == "" || t.byID[e.id] != nil {
			return nil, fmt.Errorf("session id %q is empty or there twice", e.id)
		}
		// Looked through now, so that no tick meets damaged bytes.
		if err := t.unpack(e.packed, &t.now); err != nil {
			return nil, fmt.Errorf("session %s: %w", e.id, err)
		}
		t.byID[e.id] = e
		t.order = append(t.order, e)
		if !t.now.Closed {
			t.open++
		}
	}
	return t, s.err
}

// restoredTogether is how many sessions of a snapshot share pieces of memory, which stay while one of them does.
const restoredTogether = 256

type snapshotReader struct {
	r    *bufio.Reader
	err  error
	room []byte          // of the last text
	ids  strings.Builder // of the last sessions, one behind the other
}

// id reads a session's.
func (s *snapshotReader) id() string {
	s.room = s.into(s.room[:0])
	if s.ids.Cap()-s.ids.Len() < len(s.room) {
		s.ids = strings.Builder{}
		s.ids.Grow(max(restoredTogether*40, len(s.room)))
	}
	from := s.ids.Len()
	s.ids.Write(s.room)
	return s.ids.String()[from:]
}

func (s *snapshotReader) num() int64 {
	if s.err != nil {
		return 0
	}
	v, err := binary.ReadVarint(s.r)
	if err != nil {
		s.err = noEOF(err)
		return 0
	}
	return v
}

func (s *snapshotReader) piece() []byte { return s.into(nil) }

func (s *snapshotReader) text() string {
	s.room = s.into(s.room[:0])
	return string(s.room)
}

// into reads a piece into b's memory, or into memory of just its size where b has too little.
func (s *snapshotReader) into(b []byte) []byte {
	n := s.num()
	if s.err == nil && (n < 0 || n > maxSnapshotPiece) {
		s.err = fmt.Errorf("a piece of %d bytes", n)
	}
	if s.err != nil {
		return nil
	}
	if int64(cap(b)) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	if _, err := io.ReadFull(s.r, b); err != nil {
		s.err = noEOF(err)
	}
	return b
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
