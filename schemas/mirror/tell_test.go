package mirror

import (
	"sync"
	"testing"
)

// Whoever sees that a table is ready finds its first content, and is not woken by
// it when he asks for the next change.
func TestFirstContentIsNoChangeAfterReady(t *testing.T) {
	for range 5000 {
		table := New("b", func(_ string, v []byte) (string, error) { return string(v), nil }, nil)
		table.Changed() // somebody waits already
		var telling sync.WaitGroup
		telling.Go(func() {
			next := &sync.Map{}
			table.take(next, "a", []byte("1"), true)
			table.now.Store(next)
			table.tell()
		})
		<-table.Ready()
		if v, _ := table.Get("a"); v != "1" {
			t.Fatalf("ready with %q", v)
		}
		changed := table.Changed()
		telling.Wait()
		select {
		case <-changed:
			t.Fatal("the first content is told as a change after it")
		default:
		}
		table.take(table.now.Load(), "a", []byte("2"), true)
		<-changed
	}
}
