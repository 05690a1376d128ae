package mirror

import (
	"fmt"
	"testing"
)

// One entry of a bucket changes: what this costs must not grow with the bucket,
// since live streams rewrite theirs every second.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, keys := filled(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				t.take(t.now.Load(), keys[i%n], []byte("v"), true)
			}
		})
	}
}

// Readers while entries change.
func BenchmarkGet(b *testing.B) {
	t, keys := filled(1_000)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				t.take(t.now.Load(), keys[i%len(keys)], []byte("v"), true)
			}
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			t.Get(keys[i%len(keys)])
		}
	})
	close(stop)
	<-done
}

func filled(n int) (*Table[*string], []string) {
	t := New("bench", func(_ string, v []byte) (*string, error) { s := string(v); return &s, nil }, nil)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("live.s%d", i)
		t.take(t.now.Load(), keys[i], []byte("v"), true)
	}
	return t, keys
}
