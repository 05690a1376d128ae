// Package columnar turns slices of a Go struct into Arrow record batches and
// back, by a table of column descriptors that also names units and meaning, so
// that the Go type, the bus format and the ClickHouse columns cannot drift apart.
//
// One message holds one Arrow IPC stream with one record batch, uncompressed:
// any Arrow library reads it. Columns that are absent in every row are left out
// of the batch; readers go by name. Decoding is limited and survives hostile bytes.
package columnar

import (
	"sync"

	"github.com/apache/arrow/go/v15/arrow"
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
	Columns  []Column[T]
	schema   *arrow.Schema
	byName   map[string]int
	encoders sync.Pool // *encoder[T]
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
	t := &Table[T]{Columns: cols, schema: arrow.NewSchema(fields, nil), byName: map[string]int{}}
	for i := range cols {
		t.byName[cols[i].Name] = i
	}
	return t
}
