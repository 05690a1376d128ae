package sink

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

func sample(seq uint64, size int) *batch {
	return &batch{partition: int(seq % schemas.TelemetryPartitions), producer: "p", seq: seq, rows: 3, data: bytes.Repeat([]byte{byte(seq)}, size)}
}

// drainAll gives what a fresh process reads from the directory, and the bytes it could not read.
func drainAll(t *testing.T, dir string, n int) (seqs []uint64, lost int64) {
	t.Helper()
	s, err := openSpool(dir, 1<<30, "new", func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s.head() != nil && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	_ = s.drain(ctx, func(b *batch) error {
		if want := sample(b.seq, len(b.data)); b.partition != want.partition || b.producer != "p" || b.rows != 3 || !bytes.Equal(b.data, want.data) {
			t.Errorf("record %d differs", b.seq)
		}
		seqs = append(seqs, b.seq)
		return nil
	}, func(_ string, n int64, _ error) { lost += n })
	<-done
	s.close()
	if s.bytes != 0 {
		t.Errorf("an empty spool has %d bytes", s.bytes)
	}
	if len(seqs) != n {
		t.Errorf("%d records, want %d", len(seqs), n)
	}
	for i, q := range seqs {
		if i > 0 && q <= seqs[i-1] {
			t.Errorf("record %d follows %d", q, seqs[i-1])
		}
	}
	return seqs, lost
}

func fill(t *testing.T, dir string, from, to uint64, size int) {
	t.Helper()
	s, err := openSpool(dir, 1<<30, "p", func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	for q := from; q < to; q++ {
		if err := s.append(sample(q, size)); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
}

func TestSpoolSegments(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 1, 9, 5<<20) // rolls after every fourth
	fill(t, dir, 9, 11, 100)
	if files, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix)); len(files) != 3 {
		t.Errorf("files %v", files)
	}
	if _, lost := drainAll(t, dir, 10); lost != 0 {
		t.Errorf("%d bytes lost", lost)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
		t.Errorf("files are left: %v", files)
	}
}

// A file cut anywhere gives the records before the cut.
func TestSpoolTorn(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 1, 4, 50)
	name := filepath.Join(dir, "00000000000000000001"+segmentSuffix)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	one := len(whole) / 3
	for cut := range len(whole) {
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, lost := drainAll(t, dir, cut/one); lost != int64(cut%one) {
			t.Errorf("cut at %d: %d bytes lost", cut, lost)
		}
	}
}

// A damaged record stops its segment, which is put aside; later segments are read.
func TestSpoolDamaged(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 1, 4, 50)
	fill(t, dir, 4, 6, 50)
	name := filepath.Join(dir, "00000000000000000001"+segmentSuffix)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3+40] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	seqs, lost := drainAll(t, dir, 3)
	if len(seqs) != 3 || seqs[0] != 1 || seqs[1] != 4 || lost != int64(len(data)/3*2) {
		t.Errorf("got %v, lost %d", seqs, lost)
	}
	if _, err := os.Stat(name + damagedSuffix); err != nil {
		t.Error(err)
	}
	drainAll(t, dir, 0) // what was put aside is not read again
}

func TestSpoolPendingIsPerPartition(t *testing.T) {
	dir := t.TempDir()
	s, err := openSpool(dir, 400, "p", func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.append(sample(3, 50)); err != nil {
		t.Fatal(err)
	}
	if !s.waiting(3) || s.waiting(4) {
		t.Error("the wrong partition waits")
	}
	if err := s.append(sample(4, 400)); err != errSpoolFull {
		t.Errorf("beyond the bound: %v", err)
	}
	if s.waiting(4) {
		t.Error("a refused record waits")
	}
	s.close()
	if err := s.append(sample(5, 1)); err == nil {
		t.Error("a closed spool takes records")
	}
}

func FuzzReadRecord(f *testing.F) {
	rec := encodeRecord(sample(7, 20))
	f.Add(rec)
	f.Add(rec[:len(rec)-1])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, n, err := readRecord(bytes.NewReader(data), 0, int64(len(data)))
		if err != nil {
			return
		}
		if again := encodeRecord(b); !bytes.Equal(again, data[:n]) {
			t.Fatalf("%x became %x", data[:n], again)
		}
		_, _ = decodeRecord(data)
	})
}
