package loader

import (
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

// tableColumns are the ClickHouse columns of a columnar table.
type tableColumns[T any] struct {
	table  *columnar.Table[T]
	fill   []func(rows []T)
	cols   proto.Input
	resets []proto.Resettable

	partition proto.ColUInt16
	seq       proto.ColUInt64
	row       proto.ColUInt32
}

func newTableColumns[T any](t *columnar.Table[T]) *tableColumns[T] {
	c := &tableColumns[T]{table: t}
	put := func(name string, col proto.ColInput) {
		c.cols = append(c.cols, proto.InputColumn{Name: name, Data: col})
		c.resets = append(c.resets, col.(proto.Resettable))
	}
	for i := range t.Columns {
		d := &t.Columns[i]
		switch d.Kind {
		case columnar.KindStr:
			if isPlain(d.Name) {
				col := new(proto.ColStr)
				put(d.Name, col)
				c.fill = append(c.fill, func(rows []T) {
					for i := range rows {
						col.Append(d.StrOf(&rows[i]))
					}
				})
				break
			}
			col := newDict()
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					col.add(d.StrOf(&rows[i]))
				}
			})
		case columnar.KindI64:
			col := new(proto.ColInt64)
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					*col = append(*col, d.I64Of(&rows[i]))
				}
			})
		case columnar.KindOptI64:
			val := new(proto.ColInt64)
			col := proto.NewColNullable[int64](val)
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					v := d.OptI64Of(&rows[i])
					col.Nulls, *val = append(col.Nulls, null(v.OK)), append(*val, v.V)
				}
			})
		case columnar.KindOptI32:
			val := new(proto.ColInt32)
			col := proto.NewColNullable[int32](val)
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					v := d.OptI32Of(&rows[i])
					col.Nulls, *val = append(col.Nulls, null(v.OK)), append(*val, v.V)
				}
			})
		case columnar.KindOptF64:
			val := new(proto.ColFloat64)
			col := proto.NewColNullable[float64](val)
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					v := d.OptF64Of(&rows[i])
					col.Nulls, *val = append(col.Nulls, null(v.OK)), append(*val, v.V)
				}
			})
		case columnar.KindOptBool:
			val := new(proto.ColBool)
			col := proto.NewColNullable[bool](val)
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					v := d.OptBoolOf(&rows[i])
					col.Nulls, *val = append(col.Nulls, null(v.OK)), append(*val, v.V)
				}
			})
		default:
			val := new(proto.ColInt64)
			col := proto.NewArray[int64](val)
			put(d.Name, col)
			c.fill = append(c.fill, func(rows []T) {
				for i := range rows {
					*val = append(*val, d.ListOf(&rows[i])...)
					col.Offsets = append(col.Offsets, uint64(len(*val)))
				}
			})
		}
	}
	put("bus_partition", &c.partition)
	put("bus_seq", &c.seq)
	put("bus_row", &c.row)
	return c
}

func null(ok bool) uint8 {
	if ok {
		return 0
	}
	return 1
}

func (c *tableColumns[T]) append(rows []T, partition int, seq uint64) {
	for _, f := range c.fill {
		f(rows)
	}
	for i := range rows {
		c.partition = append(c.partition, uint16(partition))
		c.seq = append(c.seq, seq)
		c.row = append(c.row, uint32(i))
	}
}

func (c *tableColumns[T]) input() proto.Input { return c.cols }
func (c *tableColumns[T]) rows() int          { return len(c.seq) }
func (c *tableColumns[T]) reset() {
	for _, r := range c.resets {
		r.Reset()
	}
}

// dict is a LowCardinality(String) column that knows its last value, since
// neighbouring rows mostly agree.
type dict struct {
	*proto.ColLowCardinality[string]
}

func newDict() *dict { return &dict{proto.NewLowCardinality[string](new(proto.ColStr))} }

func (d *dict) add(s string) { d.Values = append(d.Values, s) }
