// Package columnar turns slices of a Go struct into Arrow record batches and
// back, by a table of column descriptors that also names units and meaning, so
// that the Go type, the bus format and the ClickHouse columns cannot drift apart.
//
// One message holds one Arrow IPC stream with one record batch, uncompressed:
// any Arrow library reads it. Decoding is limited and survives hostile bytes.
package columnar

import (
	"bytes"
	"fmt"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// MaxRows is the most rows one batch may have; both directions refuse more.
const MaxRows = 200_000

// Opt is a value that may be absent. The zero value is absent, which is not the same as zero.
type Opt[V any] struct {
	V  V
	OK bool
}

// Some makes a present value.
func Some[V any](v V) Opt[V] { return Opt[V]{V: v, OK: true} }

// Kind is the type of a column.
type Kind uint8

// Kinds. Str is dictionary-encoded; its empty string stands for absent.
const (
	KindStr Kind = iota
	KindI64
	KindOptI64
	KindOptI32
	KindOptF64
	KindOptBool
	KindI64List
)

// Column describes one column of T: exactly one accessor, that of its kind, is set.
type Column[T any] struct {
	Name string
	// Doc is meaning and unit; it is the comment of the ClickHouse column too.
	Doc  string
	Kind Kind

	str  func(*T) *string
	i64  func(*T) *int64
	oi64 func(*T) *Opt[int64]
	oi32 func(*T) *Opt[int32]
	of64 func(*T) *Opt[float64]
	ob   func(*T) *Opt[bool]
	list func(*T) *[]int64
}

// Str describes a string column.
func Str[T any](name, doc string, f func(*T) *string) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindStr, str: f}
}

// I64 describes an integer column that is always present.
func I64[T any](name, doc string, f func(*T) *int64) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindI64, i64: f}
}

// OptI64 describes an optional 64-bit integer column.
func OptI64[T any](name, doc string, f func(*T) *Opt[int64]) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindOptI64, oi64: f}
}

// OptI32 describes an optional 32-bit integer column.
func OptI32[T any](name, doc string, f func(*T) *Opt[int32]) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindOptI32, oi32: f}
}

// OptF64 describes an optional floating point column.
func OptF64[T any](name, doc string, f func(*T) *Opt[float64]) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindOptF64, of64: f}
}

// OptBool describes an optional truth value column.
func OptBool[T any](name, doc string, f func(*T) *Opt[bool]) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindOptBool, ob: f}
}

// I64List describes a column of integer lists.
func I64List[T any](name, doc string, f func(*T) *[]int64) Column[T] {
	return Column[T]{Name: name, Doc: doc, Kind: KindI64List, list: f}
}

// Value reads the column of row as any: string, int64, int32, float64, bool,
// []int64, or nil where absent. For rows at leisure, not for hot paths.
func (c *Column[T]) Value(row *T) any {
	switch c.Kind {
	case KindStr:
		return *c.str(row)
	case KindI64:
		return *c.i64(row)
	case KindOptI64:
		return optAny(*c.oi64(row))
	case KindOptI32:
		return optAny(*c.oi32(row))
	case KindOptF64:
		return optAny(*c.of64(row))
	case KindOptBool:
		return optAny(*c.ob(row))
	default:
		return *c.list(row)
	}
}

func optAny[V any](o Opt[V]) any {
	if !o.OK {
		return nil
	}
	return o.V
}

// Table is the set of columns of T, in order. Build it with NewTable.
type Table[T any] struct {
	Columns []Column[T]
	schema  *arrow.Schema
}

var dictType = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}

func arrowType(k Kind) (arrow.DataType, bool) {
	switch k {
	case KindStr:
		return dictType, true
	case KindI64:
		return arrow.PrimitiveTypes.Int64, false
	case KindOptI64:
		return arrow.PrimitiveTypes.Int64, true
	case KindOptI32:
		return arrow.PrimitiveTypes.Int32, true
	case KindOptF64:
		return arrow.PrimitiveTypes.Float64, true
	case KindOptBool:
		return arrow.FixedWidthTypes.Boolean, true
	default:
		return arrow.ListOf(arrow.PrimitiveTypes.Int64), true
	}
}

// NewTable makes a table. Column names must differ; they are what decoding goes by.
func NewTable[T any](cols ...Column[T]) *Table[T] {
	fields := make([]arrow.Field, len(cols))
	for i, c := range cols {
		typ, nullable := arrowType(c.Kind)
		fields[i] = arrow.Field{Name: c.Name, Type: typ, Nullable: nullable}
	}
	return &Table[T]{Columns: cols, schema: arrow.NewSchema(fields, nil)}
}

// Schema is the Arrow schema of a batch.
func (t *Table[T]) Schema() *arrow.Schema { return t.schema }

// Encode gives one Arrow IPC stream that holds rows. Equal rows give equal bytes.
func (t *Table[T]) Encode(rows []T) ([]byte, error) {
	if len(rows) == 0 || len(rows) > MaxRows {
		return nil, fmt.Errorf("encode batch: %d rows: 1 to %d are allowed", len(rows), MaxRows)
	}
	mem := memory.DefaultAllocator
	arrs := make([]arrow.Array, len(t.Columns))
	defer func() {
		for _, a := range arrs {
			if a != nil {
				a.Release()
			}
		}
	}()
	for i := range t.Columns {
		a, err := t.Columns[i].build(mem, rows)
		if err != nil {
			return nil, fmt.Errorf("encode batch: column %s: %w", t.Columns[i].Name, err)
		}
		arrs[i] = a
	}
	rec := array.NewRecord(t.schema, arrs, int64(len(rows)))
	defer rec.Release()
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, ipc.WithSchema(t.schema), ipc.WithAllocator(mem))
	if err := w.Write(rec); err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	return buf.Bytes(), nil
}

func (c *Column[T]) build(mem memory.Allocator, rows []T) (arrow.Array, error) {
	switch c.Kind {
	case KindStr:
		b := array.NewDictionaryBuilder(mem, dictType).(*array.BinaryDictionaryBuilder)
		defer b.Release()
		b.Reserve(len(rows))
		for i := range rows {
			if s := *c.str(&rows[i]); s == "" {
				b.AppendNull()
			} else if err := b.AppendString(s); err != nil {
				return nil, err
			}
		}
		return b.NewArray(), nil
	case KindI64:
		b := array.NewInt64Builder(mem)
		defer b.Release()
		b.Reserve(len(rows))
		for i := range rows {
			b.UnsafeAppend(*c.i64(&rows[i]))
		}
		return b.NewArray(), nil
	case KindOptI64:
		b := array.NewInt64Builder(mem)
		defer b.Release()
		b.Reserve(len(rows))
		for i := range rows {
			if o := c.oi64(&rows[i]); o.OK {
				b.UnsafeAppend(o.V)
			} else {
				b.UnsafeAppendBoolToBitmap(false)
			}
		}
		return b.NewArray(), nil
	case KindOptI32:
		b := array.NewInt32Builder(mem)
		defer b.Release()
		b.Reserve(len(rows))
		for i := range rows {
			if o := c.oi32(&rows[i]); o.OK {
				b.UnsafeAppend(o.V)
			} else {
				b.UnsafeAppendBoolToBitmap(false)
			}
		}
		return b.NewArray(), nil
	case KindOptF64:
		b := array.NewFloat64Builder(mem)
		defer b.Release()
		b.Reserve(len(rows))
		for i := range rows {
			if o := c.of64(&rows[i]); o.OK {
				b.UnsafeAppend(o.V)
			} else {
				b.UnsafeAppendBoolToBitmap(false)
			}
		}
		return b.NewArray(), nil
	case KindOptBool:
		b := array.NewBooleanBuilder(mem)
		defer b.Release()
		b.Reserve(len(rows))
		for i := range rows {
			if o := c.ob(&rows[i]); o.OK {
				b.UnsafeAppend(o.V)
			} else {
				b.UnsafeAppendBoolToBitmap(false)
			}
		}
		return b.NewArray(), nil
	default:
		b := array.NewListBuilder(mem, arrow.PrimitiveTypes.Int64)
		defer b.Release()
		v := b.ValueBuilder().(*array.Int64Builder)
		for i := range rows {
			b.Append(true)
			v.AppendValues(*c.list(&rows[i]), nil)
		}
		return b.NewArray(), nil
	}
}
