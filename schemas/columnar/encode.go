package columnar

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// blockRows is how many rows are gone through column by column at a time, so
// that they are still in the cache when the next column reads them.
const blockRows = 64

// maxText bounds the text of a column, far below what its 32-bit offsets can hold.
const maxText = 1 << 29

// encoder holds the buffers of one encoding; they are used again.
type encoder[T any] struct {
	cols []values
	out  bytes.Buffer
}

// values are the values of one column so far. Slices have one element for each
// row, present or not, so that they are Arrow buffers as they are.
type values struct {
	present int
	valid   []byte // bitmap
	i32     []int32
	i64     []int64
	f64     []float64
	bits    []byte

	// Dictionary: index is by value, text and offsets hold the values in order of first use.
	index     map[string]int32
	last      string
	lastIndex int32
	text      []byte
	offsets   []int32
}

// Encode gives one Arrow IPC stream that holds rows. Equal rows give equal bytes.
func (t *Table[T]) Encode(rows []T) ([]byte, error) {
	if len(rows) == 0 || len(rows) > MaxRows {
		return nil, fmt.Errorf("encode batch: %d rows: 1 to %d are allowed", len(rows), MaxRows)
	}
	e, ok := t.encoders.Get().(*encoder[T])
	if !ok {
		e = &encoder[T]{cols: make([]values, len(t.Columns))}
	}
	defer t.encoders.Put(e)
	for i := range e.cols {
		e.cols[i].reset(len(rows), t.Columns[i].Kind)
	}
	for from := 0; from < len(rows); from += blockRows {
		block := rows[from:min(from+blockRows, len(rows))]
		for i := range t.Columns {
			t.Columns[i].collect(&e.cols[i], block, from)
		}
	}
	for i := range e.cols {
		if len(e.cols[i].text) > maxText {
			return nil, fmt.Errorf("encode batch: column %s has over %d bytes of text: give fewer rows", t.Columns[i].Name, maxText)
		}
	}
	var fields []arrow.Field
	var arrs []arrow.Array
	defer func() {
		for _, a := range arrs {
			a.Release()
		}
	}()
	for i := range e.cols {
		if v := &e.cols[i]; v.present > 0 || t.Columns[i].Kind == KindI64 || t.Columns[i].Kind == KindI64List {
			fields = append(fields, t.schema.Field(i))
			arrs = append(arrs, v.array(t.Columns[i].Kind, len(rows)))
		}
	}
	schema := arrow.NewSchema(fields, nil)
	rec := array.NewRecord(schema, arrs, int64(len(rows)))
	defer rec.Release()
	e.out.Reset()
	w := ipc.NewWriter(&e.out, ipc.WithSchema(schema))
	if err := w.Write(rec); err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return bytes.Clone(e.out.Bytes()), nil
}

// reset makes room for n rows.
func (v *values) reset(n int, k Kind) {
	v.present = 0
	v.valid = zeroed(v.valid, (n+7)/8)
	switch k {
	case KindStr:
		v.i32 = zeroed(v.i32, n)
		clear(v.index) // also lets go of the strings
		v.last, v.text, v.offsets = "", v.text[:0], append(v.offsets[:0], 0)
	case KindOptI32:
		v.i32 = zeroed(v.i32, n)
	case KindI64, KindOptI64:
		v.i64 = zeroed(v.i64, n)
	case KindOptF64:
		v.f64 = zeroed(v.f64, n)
	case KindOptBool:
		v.bits = zeroed(v.bits, (n+7)/8)
	case KindI64List:
		v.i64, v.offsets = v.i64[:0], append(v.offsets[:0], 0)
	}
}

// zeroed gives n zero elements, in the old memory where it suffices.
func zeroed[E any](s []E, n int) []E {
	if cap(s) < n {
		return make([]E, n)
	}
	s = s[:n]
	clear(s)
	return s
}

func (v *values) set(i int) {
	v.valid[i>>3] |= 1 << (i & 7)
	v.present++
}

// collect reads the column of a block of rows, the first of which is row from.
func (c *Column[T]) collect(v *values, rows []T, from int) {
	switch c.Kind {
	case KindStr:
		for i := range rows {
			if s := *c.str(&rows[i]); s != "" {
				v.i32[from+i] = v.lookup(s)
				v.set(from + i)
			}
		}
	case KindI64:
		for i := range rows {
			v.i64[from+i] = *c.i64(&rows[i])
		}
	case KindOptI64:
		for i := range rows {
			if o := c.oi64(&rows[i]); o.OK {
				v.i64[from+i] = o.V
				v.set(from + i)
			}
		}
	case KindOptI32:
		for i := range rows {
			if o := c.oi32(&rows[i]); o.OK {
				v.i32[from+i] = o.V
				v.set(from + i)
			}
		}
	case KindOptF64:
		for i := range rows {
			if o := c.of64(&rows[i]); o.OK {
				v.f64[from+i] = o.V
				v.set(from + i)
			}
		}
	case KindOptBool:
		for i := range rows {
			if o := c.ob(&rows[i]); o.OK {
				if o.V {
					v.bits[(from+i)>>3] |= 1 << ((from + i) & 7)
				}
				v.set(from + i)
			}
		}
	default:
		for i := range rows {
			v.i64 = append(v.i64, *c.list(&rows[i])...)
			v.offsets = append(v.offsets, int32(len(v.i64)))
		}
	}
}

// lookup gives the dictionary index of s. Neighbouring rows often have the same value.
func (v *values) lookup(s string) int32 {
	if s == v.last {
		return v.lastIndex
	}
	i, ok := v.index[s]
	if !ok {
		if v.index == nil {
			v.index = map[string]int32{}
		}
		i = int32(len(v.offsets) - 1)
		v.index[s] = i
		v.text = append(v.text, s...)
		v.offsets = append(v.offsets, int32(len(v.text)))
	}
	v.last, v.lastIndex = s, i
	return i
}

// array makes an Arrow array over the values, without copying them.
func (v *values) array(k Kind, n int) arrow.Array {
	typ, nullable := arrowType(k)
	var valid *memory.Buffer
	nulls := 0
	if nullable && k != KindI64List && v.present < n {
		valid, nulls = memory.NewBufferBytes(v.valid), n-v.present
	}
	fixed := func(typ arrow.DataType, data []byte) arrow.Array {
		d := array.NewData(typ, n, []*memory.Buffer{valid, memory.NewBufferBytes(data)}, nil, nulls, 0)
		defer d.Release()
		return array.MakeFromData(d)
	}
	switch k {
	case KindStr:
		index := fixed(arrow.PrimitiveTypes.Int32, arrow.Int32Traits.CastToBytes(v.i32))
		defer index.Release()
		text := array.NewData(arrow.BinaryTypes.String, len(v.offsets)-1, []*memory.Buffer{
			nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(v.offsets)), memory.NewBufferBytes(v.text),
		}, nil, 0, 0)
		defer text.Release()
		dict := array.MakeFromData(text)
		defer dict.Release()
		return array.NewDictionaryArray(dictType, index, dict)
	case KindI64, KindOptI64:
		return fixed(typ, arrow.Int64Traits.CastToBytes(v.i64))
	case KindOptI32:
		return fixed(typ, arrow.Int32Traits.CastToBytes(v.i32))
	case KindOptF64:
		return fixed(typ, arrow.Float64Traits.CastToBytes(v.f64))
	case KindOptBool:
		return fixed(typ, v.bits)
	}
	items := array.NewData(arrow.PrimitiveTypes.Int64, len(v.i64), []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(v.i64))}, nil, 0, 0)
	defer items.Release()
	d := array.NewData(typ, n, []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(v.offsets))}, []arrow.ArrayData{items}, 0, 0)
	defer d.Release()
	return array.MakeFromData(d)
}
