package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spillway-live/spillway/schemas"
)

// batch is one message of TELEMETRY.
type batch struct {
	partition int
	producer  string
	seq       uint64
	rows      int
	data      []byte // Arrow IPC stream
}

// A spool is a directory of segment files, each a sequence of records:
// length u32, CRC-32C u32 of what follows, then version u8, partition u8,
// producer length u8, producer, seq u64, rows u32, data; all little-endian.
const (
	recordVersion   = 1
	recordHeader    = 8
	segmentBytes    = 16 << 20
	segmentSuffix   = ".spool"
	damagedSuffix   = ".damaged"
	maxRecordBytes  = schemas.MaxPayloadBytes + 512
	maxProducerSize = 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type segment struct {
	path    string
	size    int64                            // synced bytes
	pending [schemas.TelemetryPartitions]int // records of this process not handed on yet
}

// spool keeps batches on disk in the order of append. One goroutine reads.
type spool struct {
	dir      string
	max      int64
	producer string // whose records count as pending
	onSize   func(bytes int64)

	mu       sync.Mutex
	segments []*segment // oldest first
	active   *os.File   // of the last segment, or nil when that is sealed
	next     uint64     // number of the next segment
	bytes    int64
	pending  [schemas.TelemetryPartitions]int
	closed   bool
	more     chan struct{}
}

// openSpool takes over what an earlier process left.
func openSpool(dir string, maxBytes int64, producer string, onSize func(int64)) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &spool{dir: dir, max: maxBytes, producer: producer, onSize: onSize, next: 1, more: make(chan struct{}, 1)}
	entries, err := os.ReadDir(dir) // sorted by name, which is by age
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	for _, e := range entries {
		num, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		var n uint64
		if _, err := fmt.Sscanf(num, "%d", &n); !ok || err != nil {
			continue
		}
		s.next = max(s.next, n+1)
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
		s.segments = append(s.segments, &segment{path: filepath.Join(dir, e.Name()), size: info.Size()})
		s.bytes += info.Size()
	}
	s.onSize(s.bytes)
	if len(s.segments) > 0 {
		s.more <- struct{}{}
	}
	return s, nil
}

var errSpoolFull = errors.New("spool is full")

// append writes the batch and syncs it.
func (s *spool) append(b *batch) error {
	rec := encodeRecord(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("write to spool: it is closed")
	}
	if s.bytes+int64(len(rec)) > s.max {
		return errSpoolFull
	}
	if err := s.write(rec); err != nil {
		return fmt.Errorf("write to spool: %w", err)
	}
	s.bytes += int64(len(rec))
	s.onSize(s.bytes)
	if b.producer == s.producer {
		s.pending[b.partition]++
		s.segments[len(s.segments)-1].pending[b.partition]++
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

func (s *spool) write(rec []byte) error {
	if s.active != nil && s.segments[len(s.segments)-1].size >= segmentBytes {
		s.seal()
	}
	if s.active == nil {
		path := filepath.Join(s.dir, fmt.Sprintf("%020d%s", s.next, segmentSuffix))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := syncDir(s.dir); err != nil {
			return errors.Join(err, f.Close(), os.Remove(path))
		}
		s.next++
		s.active = f
		s.segments = append(s.segments, &segment{path: path})
	}
	seg := s.segments[len(s.segments)-1]
	_, err := s.active.WriteAt(rec, seg.size)
	if err == nil {
		err = s.active.Sync()
	}
	if err != nil {
		// What was written in part lies beyond size and is never read by this
		// process; a later one sees a torn end. Nothing may follow it.
		err = errors.Join(err, s.active.Truncate(seg.size))
		s.seal()
		return err
	}
	seg.size += int64(len(rec))
	return nil
}

func (s *spool) seal() {
	if s.active != nil {
		s.active.Close() // synced after each write
		s.active = nil
	}
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seal()
	s.closed = true
}

// waiting reports whether batches of this process for the partition are in the spool.
func (s *spool) waiting(partition int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[partition] > 0
}

// drain hands every record to send, in order, for as long as ctx lives. send
// returns an error only when ctx has ended. bad is told of what cannot be read.
func (s *spool) drain(ctx context.Context, send func(*batch) error, bad func(path string, bytes int64, why error)) error {
	for {
		seg := s.head()
		if seg == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.more:
			}
			continue
		}
		if err := s.drainSegment(ctx, seg, send, bad); err != nil {
			return err
		}
	}
}

func (s *spool) head() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[0]
}

func (s *spool) drainSegment(ctx context.Context, seg *segment, send func(*batch) error, bad func(string, int64, error)) error {
	f, err := os.Open(seg.path)
	if err != nil {
		bad(seg.path, s.drop(seg, 0, false), err)
		return ctx.Err()
	}
	defer f.Close()
	off := int64(0)
	for {
		s.mu.Lock()
		size := seg.size
		if off == size {
			// Everything is on the bus: no more is added to this segment.
			if len(s.segments) == 1 {
				s.seal()
			}
			s.mu.Unlock()
			s.drop(seg, 0, true)
			return nil
		}
		s.mu.Unlock()
		b, n, err := readRecord(f, off, size)
		if err != nil {
			torn := errors.Is(err, io.ErrUnexpectedEOF)
			bad(seg.path, s.drop(seg, off, torn), err)
			return ctx.Err()
		}
		if err := send(b); err != nil {
			return err
		}
		off += n
		if b.producer == s.producer {
			s.mu.Lock()
			s.pending[b.partition]--
			seg.pending[b.partition]--
			s.mu.Unlock()
		}
	}
}

// drop takes the segment out of the spool, removing its file or, when it is
// damaged, putting it aside, and gives the bytes beyond off.
func (s *spool) drop(seg *segment, off int64, remove bool) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segments[len(s.segments)-1] == seg {
		s.seal()
	}
	s.segments = slices.DeleteFunc(s.segments, func(x *segment) bool { return x == seg })
	s.bytes -= seg.size
	s.onSize(s.bytes)
	for p, n := range seg.pending {
		s.pending[p] -= n
	}
	if remove {
		os.Remove(seg.path) // if it stays, a later process replays it and readers drop it
	} else {
		os.Rename(seg.path, seg.path+damagedSuffix) // likewise
	}
	return seg.size - off
}

func encodeRecord(b *batch) []byte {
	rec := make([]byte, recordHeader, recordHeader+3+len(b.producer)+12+len(b.data))
	rec = append(rec, recordVersion, byte(b.partition), byte(len(b.producer)))
	rec = append(rec, b.producer...)
	rec = binary.LittleEndian.AppendUint64(rec, b.seq)
	rec = binary.LittleEndian.AppendUint32(rec, uint32(b.rows))
	rec = append(rec, b.data...)
	binary.LittleEndian.PutUint32(rec, uint32(len(rec)-recordHeader))
	binary.LittleEndian.PutUint32(rec[4:], crc32.Checksum(rec[recordHeader:], castagnoli))
	return rec
}

// readRecord reads the record at off of a file with size valid bytes. The error
// is io.ErrUnexpectedEOF when the file ends inside it.
func readRecord(r io.ReaderAt, off, size int64) (*batch, int64, error) {
	var h [recordHeader]byte
	if size-off < recordHeader {
		return nil, 0, fmt.Errorf("record header at byte %d: %w", off, io.ErrUnexpectedEOF)
	}
	if _, err := r.ReadAt(h[:], off); err != nil {
		return nil, 0, fmt.Errorf("read record at byte %d: %w", off, err)
	}
	n := int64(binary.LittleEndian.Uint32(h[:]))
	if n > maxRecordBytes {
		return nil, 0, fmt.Errorf("record at byte %d claims %d bytes: at most %d are written", off, n, maxRecordBytes)
	}
	if n > size-off-recordHeader {
		return nil, 0, fmt.Errorf("record of %d bytes at byte %d: %w", n, off, io.ErrUnexpectedEOF)
	}
	p := make([]byte, n)
	if _, err := r.ReadAt(p, off+recordHeader); err != nil {
		return nil, 0, fmt.Errorf("read record at byte %d: %w", off, err)
	}
	if crc32.Checksum(p, castagnoli) != binary.LittleEndian.Uint32(h[4:]) {
		return nil, 0, fmt.Errorf("record at byte %d: %w", off, schemas.ErrCorrupt)
	}
	b, err := decodeRecord(p)
	if err != nil {
		return nil, 0, fmt.Errorf("record at byte %d: %w", off, err)
	}
	return b, n + recordHeader, nil
}

func decodeRecord(p []byte) (*batch, error) {
	if len(p) < 3 || len(p) < 3+int(p[2])+12 {
		return nil, fmt.Errorf("%d bytes are too few", len(p))
	}
	if p[0] != recordVersion || int(p[1]) >= schemas.TelemetryPartitions || p[2] == 0 || p[2] > maxProducerSize {
		return nil, fmt.Errorf("version %d, partition %d, producer of %d bytes", p[0], p[1], p[2])
	}
	b := &batch{partition: int(p[1]), producer: string(p[3 : 3+p[2]])}
	p = p[3+len(b.producer):]
	b.seq = binary.LittleEndian.Uint64(p)
	b.rows = int(binary.LittleEndian.Uint32(p[8:]))
	b.data = p[12:]
	return b, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
