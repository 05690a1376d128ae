package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
)

// batchRows is how many rows of a Parquet file are in memory at once.
const batchRows = 16 << 10

// table is an exported view in a folder: <view>.parquet, or <view>.arrow (an Arrow IPC stream).
type table struct{ path string }

// find gives a view's file; false: the folder has none.
func find(dir, view string) (table, bool) {
	for _, ext := range []string{".parquet", ".arrow"} {
		path := filepath.Join(dir, view+ext)
		if _, err := os.Stat(path); err == nil {
			return table{path}, true
		}
	}
	return table{}, false
}

// row is one row of the columns that were asked for, in their order.
type row []arrow.Array

// each calls f for every row. A column that is missing is an error that names it.
func (t table) each(columns []string, f func(r row, i int) error) (err error) {
	defer func() {
		if x := recover(); x != nil { // the reader of a damaged file
			err = fmt.Errorf("%s: damaged: %v", t.path, x)
		}
	}()
	in, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer in.Close()
	records, at, err := t.open(in, columns)
	if err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	defer records.Release()
	r := make(row, len(columns))
	for records.Next() {
		rec := records.Record()
		for k, c := range at {
			r[k] = rec.Column(c)
		}
		for i := range int(rec.NumRows()) {
			if err := f(r, i); err != nil {
				return fmt.Errorf("%s: %w", t.path, err)
			}
		}
	}
	if err := records.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	return nil
}

// open gives the file's rows, and where in them the columns are.
func (t table) open(in *os.File, columns []string) (array.RecordReader, []int, error) {
	if filepath.Ext(t.path) == ".arrow" {
		r, err := ipc.NewReader(in)
		if err != nil {
			return nil, nil, fmt.Errorf("not an Arrow IPC stream: %w", err)
		}
		at, err := indices(r.Schema(), columns)
		if err != nil {
			r.Release()
			return nil, nil, err
		}
		return r, at, nil
	}
	p, err := file.NewParquetReader(in)
	if err != nil {
		return nil, nil, fmt.Errorf("not a Parquet file: %w", err)
	}
	fr, err := pqarrow.NewFileReader(p, pqarrow.ArrowReadProperties{BatchSize: batchRows}, memory.DefaultAllocator)
	if err != nil {
		return nil, nil, err
	}
	schema, err := fr.Schema()
	if err != nil {
		return nil, nil, err
	}
	if _, err := indices(schema, columns); err != nil {
		return nil, nil, err
	}
	var leaves []int
	for _, c := range columns {
		leaves = append(leaves, p.MetaData().Schema.ColumnIndexByName(c))
	}
	if i := slices.Index(leaves, -1); i >= 0 {
		return nil, nil, fmt.Errorf("column %s is no plain one", columns[i])
	}
	r, err := fr.GetRecordReader(context.Background(), leaves, nil)
	if err != nil {
		return nil, nil, err
	}
	at, err := indices(r.Schema(), columns)
	return r, at, err
}

func indices(s *arrow.Schema, columns []string) ([]int, error) {
	out := make([]int, len(columns))
	for i, c := range columns {
		at := s.FieldIndices(c)
		if len(at) != 1 {
			return nil, fmt.Errorf("column %s is missing: export the view of that name as it is", c)
		}
		out[i] = at[0]
	}
	return out, nil
}

// text of a column; empty where it is null.
func (r row) text(k, i int) string {
	a := r[k]
	if a.IsNull(i) {
		return ""
	}
	switch x := a.(type) {
	case *array.String:
		return x.Value(i)
	case *array.Binary:
		return string(x.Value(i))
	case *array.Dictionary:
		return row{x.Dictionary()}.text(0, x.GetValueIndex(i))
	}
	return a.ValueStr(i)
}

// number of a column, times in seconds; 0 where it is null.
func (r row) number(k, i int) (float64, error) {
	a := r[k]
	if a.IsNull(i) {
		return 0, nil
	}
	switch x := a.(type) {
	case *array.Float64:
		return x.Value(i), nil
	case *array.Float32:
		return float64(x.Value(i)), nil
	case *array.Int64:
		return float64(x.Value(i)), nil
	case *array.Uint64:
		return float64(x.Value(i)), nil
	case *array.Int32:
		return float64(x.Value(i)), nil
	case *array.Uint32:
		return float64(x.Value(i)), nil
	case *array.Int16:
		return float64(x.Value(i)), nil
	case *array.Uint16:
		return float64(x.Value(i)), nil
	case *array.Int8:
		return float64(x.Value(i)), nil
	case *array.Uint8:
		return float64(x.Value(i)), nil
	case *array.Boolean:
		if x.Value(i) {
			return 1, nil
		}
		return 0, nil
	case *array.Timestamp:
		unit := x.DataType().(*arrow.TimestampType).Unit
		return float64(x.Value(i)) * unit.Multiplier().Seconds(), nil
	}
	return 0, fmt.Errorf("a column of type %v is no number", a.DataType())
}
