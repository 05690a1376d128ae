package columnar

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// Batch is one decoded record batch, column by column, for readers that do not
// need rows. Its columns are the memory of the data it was read from: copy what is kept for long.
type Batch struct {
	// Rows is the number of rows.
	Rows int
	cols []Values
}

// Column gives the values of the table's i-th column.
func (b *Batch) Column(i int) *Values { return &b.cols[i] }

// Values are the values of one column. Only the field of the column's kind is
// set; slices have one element a row, and zero where a row has no value.
type Values struct {
	// Present is false where the batch does not have the column: no row has a value.
	Present bool
	// Valid has bit i set where row i has a value (least significant bit first); nil: every row has.
	Valid []byte

	I64 []int64   // KindI64, KindOptI64; KindI64List: the elements of all lists
	I32 []int32   // KindOptI32
	F64 []float64 // KindOptF64
	Bit []byte    // KindOptBool, a bitmap

	// KindStr: Index is each row's place in the dictionary, which is Text cut at Offsets.
	Index   []int32
	Text    []byte
	Offsets []int32 // also KindI64List: list i is I64[Offsets[i]:Offsets[i+1]]
}

// Has reports whether row i has a value.
func (v *Values) Has(i int) bool {
	return v.Present && (v.Valid == nil || v.Valid[i>>3]&(1<<(i&7)) != 0)
}

// Words is the number of entries of the dictionary, Word the k-th.
func (v *Values) Words() int        { return max(len(v.Offsets)-1, 0) }
func (v *Values) Word(k int) []byte { return v.Text[v.Offsets[k]:v.Offsets[k+1]] }

// Read gives the record batches of what Encode wrote: one, but other writers may
// send several. Columns are matched by name: unknown ones are skipped and missing
// ones have no values, so older and newer programs read each other's batches.
// Damaged bytes are an error that names the column.
func (t *Table[T]) Read(data []byte) ([]*Batch, error) {
	r, err := openStream(data)
	if err != nil {
		return nil, err
	}
	defer r.Release() // the memory is Go's: what batches point to stays
	var out []*Batch
	total := 0
	for {
		b, err := t.next(r)
		if err != nil {
			return nil, err
		}
		if b == nil {
			break
		}
		if total += b.Rows; total > MaxRows {
			return nil, fmt.Errorf("decode batch: more than %d rows", MaxRows)
		}
		out = append(out, b)
	}
	if total == 0 {
		return nil, errors.New("decode batch: no rows")
	}
	return out, nil
}

// The Arrow reader trusts offsets inside the message; damaged bytes can make it panic.
func damaged(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("decode batch: damaged Arrow data: %v", p)
	}
}

// bounded refuses memory that a batch of its message's size has no use for: damaged lengths must not take the process down.
type bounded struct {
	memory.GoAllocator
	limit int
}

func (b *bounded) Allocate(n int) []byte {
	b.check(n)
	return b.GoAllocator.Allocate(n)
}

func (b *bounded) Reallocate(n int, old []byte) []byte {
	b.check(n)
	return b.GoAllocator.Reallocate(n, old)
}

func (b *bounded) check(n int) {
	if n < 0 || n > b.limit {
		panic(fmt.Sprintf("it says that it holds %d bytes", n))
	}
}

func openStream(data []byte) (r *ipc.Reader, err error) {
	defer damaged(&err)
	if r, err = ipc.NewReaderFromMessageReader(&messages{b: data}, ipc.WithAllocator(&bounded{limit: 4*len(data) + 1<<20})); err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	return r, nil
}

// next gives the next batch, or nil at the end.
func (t *Table[T]) next(r *ipc.Reader) (b *Batch, err error) {
	defer damaged(&err)
	if !r.Next() {
		if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("decode batch: %w", err)
		}
		return nil, nil
	}
	rec := r.Record()
	n := rec.NumRows()
	if n < 0 || n > MaxRows {
		return nil, fmt.Errorf("decode batch: more than %d rows", MaxRows)
	}
	b = &Batch{Rows: int(n), cols: make([]Values, len(t.Columns))}
	for j, f := range rec.Schema().Fields() {
		i, ok := t.byName[f.Name]
		if !ok {
			continue
		}
		if err := b.cols[i].from(rec.Column(j), t.Columns[i].Kind, b.Rows); err != nil {
			return nil, fmt.Errorf("decode batch: column %s: %w", f.Name, err)
		}
	}
	return b, nil
}

// from takes an array's memory after it has looked at all that readers rely on.
func (v *Values) from(a arrow.Array, k Kind, rows int) error {
	if a.Len() != rows {
		return fmt.Errorf("%d values for %d rows", a.Len(), rows)
	}
	if a.Data().Offset() != 0 {
		return errors.New("it begins inside its buffer")
	}
	if a.NullN() > 0 {
		if v.Valid = a.NullBitmapBytes(); len(v.Valid) < (rows+7)/8 {
			return errors.New("its validity bitmap is cut short")
		}
	}
	mismatch := func() error { return fmt.Errorf("type %s does not fit", a.DataType()) }
	var n int
	switch k {
	case KindStr:
		if err := v.fromText(a, rows); err != nil {
			return err
		}
		n = len(v.Index)
	case KindI64, KindOptI64:
		x, ok := a.(*array.Int64)
		if !ok {
			return mismatch()
		}
		v.I64 = x.Int64Values()
		n = len(v.I64)
	case KindOptI32:
		x, ok := a.(*array.Int32)
		if !ok {
			return mismatch()
		}
		v.I32 = x.Int32Values()
		n = len(v.I32)
	case KindOptF64:
		x, ok := a.(*array.Float64)
		if !ok {
			return mismatch()
		}
		v.F64 = x.Float64Values()
		n = len(v.F64)
	case KindOptBool:
		if _, ok := a.(*array.Boolean); !ok {
			return mismatch()
		}
		if v.Bit = a.Data().Buffers()[1].Bytes(); len(v.Bit) >= (rows+7)/8 {
			n = rows
		}
	default:
		l, ok := a.(*array.List)
		if !ok {
			return mismatch()
		}
		x, ok := l.ListValues().(*array.Int64)
		if !ok || l.NullN() > 0 {
			return mismatch()
		}
		v.I64, v.Offsets = x.Int64Values(), l.Offsets()
		if err := ascending(v.Offsets, rows, len(v.I64)); err != nil {
			return err
		}
		n = rows
	}
	if n != rows {
		return errors.New("its buffer is cut short")
	}
	v.Present = true
	return nil
}

// fromText takes a dictionary of strings, or plain strings as a dictionary of their own.
func (v *Values) fromText(a arrow.Array, rows int) error {
	var words *array.String
	switch a := a.(type) {
	case *array.Dictionary:
		index, ok := a.Indices().(*array.Int32)
		if words, _ = a.Dictionary().(*array.String); words == nil || !ok {
			return fmt.Errorf("type %s does not fit", a.DataType())
		}
		v.Index = index.Int32Values()
	case *array.String:
		words = a
		v.Index = make([]int32, rows)
		for i := range v.Index {
			v.Index[i] = int32(i)
		}
	default:
		return fmt.Errorf("type %s does not fit", a.DataType())
	}
	if words.Data().Offset() != 0 {
		return errors.New("its dictionary begins inside its buffer")
	}
	if words.Len() > 0 {
		v.Offsets = words.ValueOffsets()
		if b := words.Data().Buffers()[2]; b != nil {
			v.Text = b.Bytes()
		}
	}
	if err := ascending(v.Offsets, words.Len(), len(v.Text)); err != nil {
		return err
	}
	for i, k := range v.Index {
		if uint(k) >= uint(words.Len()) && (v.Valid == nil || v.Valid[i>>3]&(1<<(i&7)) != 0) {
			return fmt.Errorf("row %d: place %d in a dictionary of %d", i, k, words.Len())
		}
	}
	return nil
}

// ascending checks offsets of n things within most elements.
func ascending(off []int32, n, most int) error {
	if n == 0 && len(off) <= 1 {
		return nil
	}
	if len(off) != n+1 || off[0] < 0 || int(off[n]) > most {
		return errors.New("its offsets are out of range")
	}
	for i := range n {
		if off[i+1] < off[i] {
			return errors.New("its offsets go back")
		}
	}
	return nil
}
