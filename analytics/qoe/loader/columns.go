package loader

import (
	"slices"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/spillway-live/spillway/schemas/columnar"
)

// builder collects the rows of a block.
type builder interface {
	// add takes the rows of one message; at is when the bus got it, Unix ms. It gives the rows taken and
	// how many of them were mended; an error means that the message cannot be read, and takes nothing.
	add(data []byte, partition int, seq uint64, atMs int64) (rows, mended int, err error)
	input() proto.Input
	rows() int
	reset()
}

// plainStrings are the columns of many distinct values; the others are dictionaries.
func isPlain(name string) bool {
	switch name {
	case "session_id", "viewer_id", "url_path", "detail":
		return true
	}
	return false
}

// tableColumns are the ClickHouse columns of a columnar table. A block goes from
// the bus's columns to ClickHouse's without becoming rows in between, which would
// cost ten times as much (rows of sixty fields do not stay in the cache).
type tableColumns struct {
	cols  []column
	names []string

	partition proto.ColUInt16
	seq       proto.ColUInt64
	row       proto.ColUInt32
}

// column takes the values of one column, batch after batch.
type column interface {
	proto.ColInput
	Reset()
	// take adds a batch's values; those of a column that is not Present are defaults.
	take(v *columnar.Values, rows int)
	// used is false while no row had a value: such a column need not be sent.
	used() bool
}

func newTableColumns[T any](t *columnar.Table[T]) *tableColumns {
	c := &tableColumns{}
	for i := range t.Columns {
		d := &t.Columns[i]
		c.names = append(c.names, d.Name)
		c.cols = append(c.cols, newColumn(d.Kind, isPlain(d.Name)))
	}
	return c
}

func newColumn(k columnar.Kind, plain bool) column {
	switch k {
	case columnar.KindStr:
		if plain {
			return &textColumn{}
		}
		return newWords()
	case columnar.KindI64:
		return &i64Column{}
	case columnar.KindOptI64:
		v := new(proto.ColInt64)
		return &optColumn[int64]{ColNullable: proto.NewColNullable[int64](v), grow: func(b *columnar.Values, n int) { *v = appendOr(*v, b.I64, n) }}
	case columnar.KindOptI32:
		v := new(proto.ColInt32)
		return &optColumn[int32]{ColNullable: proto.NewColNullable[int32](v), grow: func(b *columnar.Values, n int) { *v = appendOr(*v, b.I32, n) }}
	case columnar.KindOptF64:
		v := new(proto.ColFloat64)
		return &optColumn[float64]{ColNullable: proto.NewColNullable[float64](v), grow: func(b *columnar.Values, n int) { *v = appendOr(*v, b.F64, n) }}
	case columnar.KindOptBool:
		v := new(proto.ColBool)
		return &optColumn[bool]{ColNullable: proto.NewColNullable[bool](v), grow: func(b *columnar.Values, n int) {
			for i := range n {
				*v = append(*v, b.Present && b.Bit[i>>3]&(1<<(i&7)) != 0)
			}
		}}
	}
	return newList()
}

// appendOr appends values, or n zeroes where there are none.
func appendOr[V any](to, values []V, n int) []V {
	if values != nil {
		return append(to, values...)
	}
	return append(to, make([]V, n)...)
}

type i64Column struct{ proto.ColInt64 }

func (c *i64Column) take(v *columnar.Values, rows int) {
	c.ColInt64 = appendOr(c.ColInt64, v.I64, rows)
}
func (c *i64Column) used() bool { return true }

// optColumn is a nullable one.
type optColumn[V any] struct {
	*proto.ColNullable[V]
	grow func(v *columnar.Values, rows int)
	some bool
}

func (c *optColumn[V]) take(v *columnar.Values, rows int) {
	c.grow(v, rows)
	switch {
	case v.Present && v.Valid == nil:
		c.some = true
		c.Nulls = append(c.Nulls, make([]uint8, rows)...)
	case v.Present:
		c.some = true
		for i := range rows {
			c.Nulls = append(c.Nulls, ^v.Valid[i>>3]>>(i&7)&1)
		}
	default:
		for range rows {
			c.Nulls = append(c.Nulls, 1)
		}
	}
}
func (c *optColumn[V]) used() bool { return c.some }
func (c *optColumn[V]) Reset()     { c.ColNullable.Reset(); c.some = false }

// textColumn is a String.
type textColumn struct {
	proto.ColStr
	some bool
}

func (c *textColumn) take(v *columnar.Values, rows int) {
	if v.Present {
		c.some = true
		for i := range rows {
			var w []byte
			if v.Has(i) {
				w = v.Word(int(v.Index[i]))
			}
			c.AppendBytes(w)
		}
		return
	}
	for range rows {
		c.AppendBytes(nil)
	}
}
func (c *textColumn) used() bool { return c.some }
func (c *textColumn) Reset()     { c.ColStr.Reset(); c.some = false }

// words is a LowCardinality(String): each batch's dictionary is looked up once,
// its rows only as numbers.
type words struct {
	proto.ColLowCardinalityRaw
	text  *proto.ColStr
	index map[string]uint32
	place []uint32 // in our dictionary, of the batch's words
	some  bool
}

func newWords() *words {
	w := &words{text: new(proto.ColStr), index: map[string]uint32{}}
	w.Index, w.Key = w.text, proto.KeyUInt32
	w.lookup(nil)
	return w
}

func (w *words) lookup(b []byte) uint32 {
	k, ok := w.index[string(b)]
	if !ok {
		k = uint32(w.text.Rows())
		w.index[string(b)] = k
		w.text.AppendBytes(b)
	}
	return k
}

func (w *words) take(v *columnar.Values, rows int) {
	if !v.Present {
		w.Keys32 = append(w.Keys32, make([]uint32, rows)...)
		return
	}
	w.some = true
	w.place = w.place[:0]
	for k := range v.Words() {
		w.place = append(w.place, w.lookup(v.Word(k)))
	}
	if v.Valid == nil {
		for _, k := range v.Index {
			w.Keys32 = append(w.Keys32, w.place[k])
		}
		return
	}
	for i, k := range v.Index {
		if v.Has(i) {
			w.Keys32 = append(w.Keys32, w.place[k])
		} else {
			w.Keys32 = append(w.Keys32, 0) // the empty word
		}
	}
}

// add is for columns that are filled value by value.
func (w *words) add(s string) {
	k, ok := w.index[s]
	if !ok {
		k = uint32(w.text.Rows())
		w.index[s] = k
		w.text.Append(s)
	}
	w.Keys32 = append(w.Keys32, k)
	w.some = true
}

func (w *words) used() bool { return w.some }
func (w *words) Reset() {
	w.ColLowCardinalityRaw.Reset()
	clear(w.index)
	w.some = false
	w.lookup(nil)
}

// list is an Array(Int64).
type list struct {
	*proto.ColArr[int64]
	values *proto.ColInt64
	some   bool
}

func newList() *list {
	v := new(proto.ColInt64)
	return &list{ColArr: proto.NewArray[int64](v), values: v}
}

func (l *list) take(v *columnar.Values, rows int) {
	base := uint64(len(*l.values))
	if !v.Present || rows == 0 {
		for range rows {
			l.Offsets = append(l.Offsets, base)
		}
		return
	}
	from, to := v.Offsets[0], v.Offsets[rows]
	*l.values = append(*l.values, v.I64[from:to]...)
	for _, o := range v.Offsets[1 : rows+1] {
		l.Offsets = append(l.Offsets, base+uint64(o-from))
	}
	l.some = l.some || to > from
}
func (l *list) used() bool { return l.some }
func (l *list) Reset()     { l.ColArr.Reset(); l.some = false }

// append takes a batch.
func (c *tableColumns) append(b *columnar.Batch, partition int, seq uint64, firstRow int) {
	for i, col := range c.cols {
		col.take(b.Column(i), b.Rows)
	}
	for i := range b.Rows {
		c.partition = append(c.partition, uint16(partition))
		c.seq = append(c.seq, seq)
		c.row = append(c.row, uint32(firstRow+i))
	}
}

// input leaves out columns in which no row has a value; ClickHouse fills in
// their default, which is the same. A repeated block leaves out the same ones.
func (c *tableColumns) input() proto.Input {
	in := make(proto.Input, 0, len(c.cols)+3)
	for i, col := range c.cols {
		if col.used() {
			in = append(in, proto.InputColumn{Name: c.names[i], Data: col})
		}
	}
	return append(in,
		proto.InputColumn{Name: "bus_partition", Data: &c.partition},
		proto.InputColumn{Name: "bus_seq", Data: &c.seq},
		proto.InputColumn{Name: "bus_row", Data: &c.row})
}

func (c *tableColumns) rows() int { return len(c.seq) }

func (c *tableColumns) reset() {
	for _, col := range c.cols {
		col.Reset()
	}
	c.partition.Reset()
	c.seq.Reset()
	c.row.Reset()
}

func (c *tableColumns) i64(name string) *i64Column { return c.named(name).(*i64Column) }
func (c *tableColumns) list(name string) *list     { return c.named(name).(*list) }

func (c *tableColumns) named(name string) column {
	return c.cols[slices.Index(c.names, name)]
}

// sameLengths cuts the lists of a and b to the shorter of both, from row from on, and gives how many it cut.
func sameLengths(a, b *list, from int) (cut int) {
	differ := false
	for i := from; i < len(a.Offsets) && !differ; i++ {
		differ = a.len(i) != b.len(i)
	}
	if !differ {
		return 0
	}
	n := len(a.Offsets)
	as, bs := a.rowsFrom(from), b.rowsFrom(from)
	for i := from; i < n; i++ {
		x, y := as[i-from], bs[i-from]
		k := min(len(x), len(y))
		if len(x) != len(y) {
			cut++
		}
		a.put(x[:k])
		b.put(y[:k])
	}
	return cut
}

func (l *list) start(i int) uint64 {
	if i == 0 {
		return 0
	}
	return l.Offsets[i-1]
}

func (l *list) len(i int) uint64 { return l.Offsets[i] - l.start(i) }

// rowsFrom takes the lists from row from on out of the column.
func (l *list) rowsFrom(from int) [][]int64 {
	base := l.start(from)
	rest := slices.Clone((*l.values)[base:])
	var out [][]int64
	for i := from; i < len(l.Offsets); i++ {
		out = append(out, rest[l.start(i)-base:l.Offsets[i]-base])
	}
	*l.values, l.Offsets = (*l.values)[:base], l.Offsets[:from]
	return out
}

func (l *list) put(x []int64) {
	*l.values = append(*l.values, x...)
	l.Offsets = append(l.Offsets, uint64(len(*l.values)))
}
