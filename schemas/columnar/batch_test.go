package columnar_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/spillway-live/spillway/schemas/columnar"
)

type thing struct {
	Name  string
	At    int64
	Count columnar.Opt[int64]
	Small columnar.Opt[int32]
	Part  columnar.Opt[float64]
	Yes   columnar.Opt[bool]
	List  []int64
}

var things = columnar.NewTable(
	columnar.Str("name", "", func(x *thing) *string { return &x.Name }),
	columnar.I64("at", "", func(x *thing) *int64 { return &x.At }),
	columnar.OptI64("count", "", func(x *thing) *columnar.Opt[int64] { return &x.Count }),
	columnar.OptI32("small", "", func(x *thing) *columnar.Opt[int32] { return &x.Small }),
	columnar.OptF64("part", "", func(x *thing) *columnar.Opt[float64] { return &x.Part }),
	columnar.OptBool("yes", "", func(x *thing) *columnar.Opt[bool] { return &x.Yes }),
	columnar.I64List("list", "", func(x *thing) *[]int64 { return &x.List }),
)

func sample(n int) []thing {
	rows := make([]thing, n)
	for i := range rows {
		r := &rows[i]
		r.At = int64(i)
		r.Name = []string{"", "one", "two"}[i%3]
		if i%2 == 0 {
			r.Count, r.Part = columnar.Some(int64(-i)), columnar.Some(float64(i)/2)
		}
		if i%5 > 0 {
			r.Small, r.Yes = columnar.Some(int32(i)), columnar.Some(i%10 == 1)
		}
		if i%4 == 1 {
			r.List = []int64{int64(i), 0, -1}
		}
	}
	return rows
}

func TestColumnsSayWhatRowsSay(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, 1000} {
		rows := sample(n)
		data, err := things.Encode(rows)
		if err != nil {
			t.Fatal(err)
		}
		got, err := things.Decode(data)
		if err != nil || !reflect.DeepEqual(got, rows) {
			t.Fatalf("%d rows: decoded differently (%v)", n, err)
		}
		batches, err := things.Read(data)
		if err != nil || len(batches) != 1 || batches[0].Rows != n {
			t.Fatalf("%d rows: %d batches, %v", n, len(batches), err)
		}
		b := batches[0]
		counts := make([]int, 7)
		for i, r := range rows {
			name, list := b.Column(0), b.Column(6)
			if name.Has(i) != (r.Name != "") || name.Has(i) && string(name.Word(int(name.Index[i]))) != r.Name {
				t.Fatalf("row %d: name", i)
			}
			if b.Column(1).I64[i] != r.At {
				t.Fatalf("row %d: at", i)
			}
			if v := b.Column(2); v.Has(i) != r.Count.OK || v.Present && v.I64[i] != r.Count.V {
				t.Fatalf("row %d: count", i)
			}
			if v := b.Column(5); v.Has(i) != r.Yes.OK {
				t.Fatalf("row %d: yes", i)
			}
			if l := list.I64[list.Offsets[i]:list.Offsets[i+1]]; len(l) != len(r.List) {
				t.Fatalf("row %d: list", i)
			}
			for c := range counts {
				if b.Column(c).Has(i) {
					counts[c]++
				}
			}
		}
		for c, want := range counts {
			if got := b.Column(c).Count(n); got != want {
				t.Errorf("%d rows: column %d has %d values, counted %d", n, c, got, want)
			}
		}
	}
}

func TestSomeColumnsIntoOldMemory(t *testing.T) {
	rows := sample(50)
	data, err := things.Encode(rows)
	if err != nil {
		t.Fatal(err)
	}
	old := sample(100)[:0]
	got, err := things.DecodeColumns(data, things.Want("name", "list"), old)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if want := (thing{Name: rows[i].Name, List: rows[i].List}); !reflect.DeepEqual(got[i], want) {
			t.Fatalf("row %d: %+v, expected %+v", i, got[i], want)
		}
	}
}

// FuzzRead changes bytes of a batch: it is read, or refused with an error; what is read can be looked at.
func FuzzRead(f *testing.F) {
	data, err := things.Encode(sample(20))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, uint64(0))
	f.Add(len(data)/2, uint64(1<<40))
	f.Fuzz(func(t *testing.T, at int, x uint64) {
		d := bytes.Clone(data)
		if at >= 0 && at+8 <= len(d) {
			binary.LittleEndian.PutUint64(d[at:], binary.LittleEndian.Uint64(d[at:])^x)
		}
		batches, err := things.Read(d)
		if err != nil {
			return
		}
		for _, b := range batches {
			for i := range b.Rows {
				if v := b.Column(0); v.Has(i) {
					_ = v.Word(int(v.Index[i]))
				}
			}
		}
		if _, err := things.Decode(d); err != nil {
			t.Fatalf("read, but not decoded: %v", err)
		}
	})
}
