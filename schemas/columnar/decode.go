package columnar

// Decode reads what Encode wrote, as rows. See [Table.Read] for what it takes.
func (t *Table[T]) Decode(data []byte) ([]T, error) { return t.DecodeColumns(data, nil, nil) }

// DecodeColumns is Decode for some columns only: those for which want is true,
// by the column's place in the table; nil wants all. Rows are appended to rows,
// which may be memory of rows that are no longer used. Strings of a column share
// memory: copy one that is kept for long.
func (t *Table[T]) DecodeColumns(data []byte, want []bool, rows []T) ([]T, error) {
	batches, err := t.Read(data)
	if err != nil {
		return nil, err
	}
	for _, b := range batches {
		base := len(rows)
		rows = grow(rows, b.Rows)
		for i := range t.Columns {
			if (want == nil || want[i]) && b.cols[i].Present {
				t.Columns[i].fill(&b.cols[i], rows[base:])
			}
		}
	}
	return rows, nil
}

// grow appends n zero elements.
func grow[T any](s []T, n int) []T {
	k := len(s)
	if cap(s)-k < n {
		return append(s, make([]T, n)...)
	}
	s = s[:k+n]
	clear(s[k:])
	return s
}

// Want gives the argument of DecodeColumns for these columns; it panics on a name that is not one.
func (t *Table[T]) Want(names ...string) []bool {
	want := make([]bool, len(t.Columns))
	for _, n := range names {
		i, ok := t.byName[n]
		if !ok {
			panic("columnar: no column " + n)
		}
		want[i] = true
	}
	return want
}

func (c *Column[T]) fill(v *Values, rows []T) {
	switch c.Kind {
	case KindStr:
		// One copy of the column's text, shared by its rows.
		text := string(v.Text)
		for i := range rows {
			if v.Has(i) {
				k := v.Index[i]
				*c.str(&rows[i]) = text[v.Offsets[k]:v.Offsets[k+1]]
			}
		}
	case KindI64:
		for i, x := range v.I64 {
			*c.i64(&rows[i]) = x
		}
	case KindOptI64:
		for i, x := range v.I64 {
			if v.Has(i) {
				*c.oi64(&rows[i]) = Some(x)
			}
		}
	case KindOptI32:
		for i, x := range v.I32 {
			if v.Has(i) {
				*c.oi32(&rows[i]) = Some(x)
			}
		}
	case KindOptF64:
		for i, x := range v.F64 {
			if v.Has(i) {
				*c.of64(&rows[i]) = Some(x)
			}
		}
	case KindOptBool:
		for i := range rows {
			if v.Has(i) {
				*c.ob(&rows[i]) = Some(v.Bit[i>>3]&(1<<(i&7)) != 0)
			}
		}
	default:
		for i := range rows {
			if from, to := v.Offsets[i], v.Offsets[i+1]; to > from {
				*c.list(&rows[i]) = append([]int64(nil), v.I64[from:to]...)
			}
		}
	}
}
