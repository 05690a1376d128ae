package columnar_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

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

// TestReadersAreNotLedOutOfAColumn: what another writer put wrong is refused with the column's name, and a
// length that a damaged message claims is not allocated.
func TestReadersAreNotLedOutOfAColumn(t *testing.T) {
	stream := func(name string, a arrow.Array) []byte {
		t.Helper()
		schema := arrow.NewSchema([]arrow.Field{{Name: name, Type: a.DataType(), Nullable: true}}, nil)
		rec := array.NewRecord(schema, []arrow.Array{a}, int64(a.Len()))
		defer rec.Release()
		var out bytes.Buffer
		w := ipc.NewWriter(&out, ipc.WithSchema(schema))
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	dict := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	words := func(index ...int32) arrow.Array {
		ib := array.NewInt32Builder(memory.DefaultAllocator)
		ib.AppendValues(index, nil)
		sb := array.NewStringBuilder(memory.DefaultAllocator)
		sb.AppendValues([]string{"a", "b"}, nil)
		return array.NewDictionaryArray(dict, ib.NewArray(), sb.NewArray())
	}
	floats := array.NewFloat64Builder(memory.DefaultAllocator)
	floats.AppendValues([]float64{1, 2}, nil)
	plain := array.NewStringBuilder(memory.DefaultAllocator)
	plain.AppendValues([]string{"x", "", "y"}, []bool{true, false, true})
	for _, c := range []struct {
		name string
		data []byte
		want string // in the error; empty: it is read
	}{
		{"good words", stream("name", words(0, 1, 1)), ""},
		{"good words at an odd address", append([]byte{0}, stream("name", words(0, 1, 1))...)[1:], ""},
		{"plain strings", stream("name", plain.NewArray()), ""},
		{"word beyond the dictionary", stream("name", words(0, 2)), "name: row 1: place 2 in a dictionary of 2"},
		{"word before it", stream("name", words(-1)), "name: row 0: place -1"},
		{"another type", stream("at", floats.NewArray()), "at: type float64"},
		{"unknown column", stream("later", words(0)), ""},
		{"nothing", nil, "decode batch"},
		{"cut short", stream("name", words(0, 1))[:200], "decode batch"},
	} {
		_, err := things.Read(c.data)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v lacks %q", c.name, err, c.want)
		}
	}
	// A body's length stands in its message's metadata; make each number that could be it a terabyte.
	data, refused := stream("name", words(0, 1, 1)), false
	for n := uint64(8); n <= 256; n += 8 {
		big := bytes.ReplaceAll(data, binary.LittleEndian.AppendUint64(nil, n), binary.LittleEndian.AppendUint64(nil, 1<<40))
		if bytes.Equal(big, data) {
			continue
		}
		_, err := things.Read(big)
		refused = refused || err != nil && strings.Contains(err.Error(), "holds 1099511627")
	}
	if !refused {
		t.Error("no batch that claims a terabyte was refused for that")
	}
}
