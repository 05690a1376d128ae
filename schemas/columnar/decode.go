package columnar

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
)

// Decode reads what Encode wrote. Columns are matched by name: unknown ones are
// skipped and missing ones stay absent, so older and newer programs read each
// other's batches. Errors name the column.
func (t *Table[T]) Decode(data []byte) (rows []T, err error) {
	// The Arrow reader trusts offsets inside the message; damaged bytes can make it panic.
	defer func() {
		if p := recover(); p != nil {
			rows, err = nil, fmt.Errorf("decode batch: damaged Arrow data: %v", p)
		}
	}()
	r, err := ipc.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	defer r.Release()
	byName := make(map[string]int, len(t.Columns))
	for i := range t.Columns {
		byName[t.Columns[i].Name] = i
	}
	for r.Next() {
		rec := r.Record()
		n := int(rec.NumRows())
		if n < 0 || len(rows)+n > MaxRows {
			return nil, fmt.Errorf("decode batch: more than %d rows", MaxRows)
		}
		base := len(rows)
		rows = append(rows, make([]T, n)...)
		for j, f := range rec.Schema().Fields() {
			i, ok := byName[f.Name]
			if !ok {
				continue
			}
			if err := t.Columns[i].fill(rec.Column(j), rows[base:]); err != nil {
				return nil, fmt.Errorf("decode batch: column %s: %w", f.Name, err)
			}
		}
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("decode batch: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("decode batch: no rows")
	}
	return rows, nil
}

func (c *Column[T]) fill(a arrow.Array, rows []T) error {
	if a.Len() != len(rows) {
		return fmt.Errorf("%d values for %d rows", a.Len(), len(rows))
	}
	mismatch := func() error { return fmt.Errorf("type %s does not fit", a.DataType()) }
	switch c.Kind {
	case KindStr:
		switch a := a.(type) {
		case *array.Dictionary:
			values, ok := a.Dictionary().(*array.String)
			if !ok {
				return mismatch()
			}
			// One copy of each distinct value, shared by its rows.
			strs := make([]string, values.Len())
			for i := range strs {
				strs[i] = string(append([]byte(nil), values.Value(i)...))
			}
			for i := range rows {
				if a.IsValid(i) {
					*c.str(&rows[i]) = strs[a.GetValueIndex(i)]
				}
			}
		case *array.String:
			for i := range rows {
				if a.IsValid(i) {
					*c.str(&rows[i]) = string(append([]byte(nil), a.Value(i)...))
				}
			}
		default:
			return mismatch()
		}
	case KindI64:
		v, ok := a.(*array.Int64)
		if !ok {
			return mismatch()
		}
		for i, x := range v.Int64Values() {
			*c.i64(&rows[i]) = x
		}
	case KindOptI64:
		v, ok := a.(*array.Int64)
		if !ok {
			return mismatch()
		}
		for i, x := range v.Int64Values() {
			if v.IsValid(i) {
				*c.oi64(&rows[i]) = Some(x)
			}
		}
	case KindOptI32:
		v, ok := a.(*array.Int32)
		if !ok {
			return mismatch()
		}
		for i, x := range v.Int32Values() {
			if v.IsValid(i) {
				*c.oi32(&rows[i]) = Some(x)
			}
		}
	case KindOptF64:
		v, ok := a.(*array.Float64)
		if !ok {
			return mismatch()
		}
		for i, x := range v.Float64Values() {
			if v.IsValid(i) {
				*c.of64(&rows[i]) = Some(x)
			}
		}
	case KindOptBool:
		v, ok := a.(*array.Boolean)
		if !ok {
			return mismatch()
		}
		for i := range rows {
			if v.IsValid(i) {
				*c.ob(&rows[i]) = Some(v.Value(i))
			}
		}
	default:
		l, ok := a.(*array.List)
		if !ok {
			return mismatch()
		}
		v, ok := l.ListValues().(*array.Int64)
		if !ok {
			return mismatch()
		}
		for i := range rows {
			if !l.IsValid(i) {
				continue
			}
			from, to := l.ValueOffsets(i)
			if to > from {
				*c.list(&rows[i]) = append([]int64(nil), v.Int64Values()[from:to]...)
			}
		}
	}
	return nil
}
