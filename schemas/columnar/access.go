package columnar

// Typed access to a row's column, for code that fills other column formats
// without boxing each value. Each panics unless Kind is the one it names.

// StrOf reads a KindStr column.
func (c *Column[T]) StrOf(row *T) string { return *c.str(row) }

// I64Of reads a KindI64 column.
func (c *Column[T]) I64Of(row *T) int64 { return *c.i64(row) }

// OptI64Of reads a KindOptI64 column.
func (c *Column[T]) OptI64Of(row *T) Opt[int64] { return *c.oi64(row) }

// OptI32Of reads a KindOptI32 column.
func (c *Column[T]) OptI32Of(row *T) Opt[int32] { return *c.oi32(row) }

// OptF64Of reads a KindOptF64 column.
func (c *Column[T]) OptF64Of(row *T) Opt[float64] { return *c.of64(row) }

// OptBoolOf reads a KindOptBool column.
func (c *Column[T]) OptBoolOf(row *T) Opt[bool] { return *c.ob(row) }

// ListOf reads a KindI64List column.
func (c *Column[T]) ListOf(row *T) []int64 { return *c.list(row) }
