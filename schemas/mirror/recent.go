package mirror

import (
	"iter"
	"sync"
	"sync/atomic"
)

// Recent are the entries of a table without those that a reader has found to be of
// no use until they change; see [Recently]. Safe for concurrent use.
type Recent[T any] struct{ now atomic.Pointer[sync.Map] }

// Recently keeps the entries of t that are worth going through: for buckets that
// nothing is deleted from, such as that of every stream there ever was, so that a
// reader's rounds cost what is going on and not what has been. Call it before t runs.
func Recently[T comparable](t *Table[T]) *Recent[T] {
	r := &Recent[T]{}
	r.now.Store(&sync.Map{})
	t.recent = append(t.recent, r)
	return r
}

// All ranges over the entries by key, in no order and as [Table.All] does. Those that
// past is true of are not given, nor any more from then on, until they change or the
// bucket is read anew; what is past for one reader is so for all.
func (r *Recent[T]) All(past func(key string, v T) bool) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		m := r.now.Load()
		m.Range(func(key, v any) bool {
			if past(key.(string), v.(T)) {
				m.CompareAndDelete(key, v) // not what has come in its place meanwhile
				return true
			}
			return yield(key.(string), v.(T))
		})
	}
}

// fill begins anew with a whole table.
func (r *Recent[T]) fill(table *sync.Map) {
	next := &sync.Map{}
	table.Range(func(key, v any) bool { next.Store(key, v); return true })
	r.now.Store(next)
}

// set takes what has become of an entry.
func (r *Recent[T]) set(key string, table *sync.Map) {
	if v, ok := table.Load(key); ok {
		r.now.Load().Store(key, v)
		return
	}
	r.now.Load().Delete(key)
}
