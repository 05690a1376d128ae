package origin

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
)

// writes records what reaches the connection.
type writes struct {
	net.Conn
	all [][]byte
}

func (w *writes) Write(b []byte) (int, error) {
	w.all = append(w.all, bytes.Clone(b))
	return len(b), nil
}

// TestCorkSplits writes answers in two pieces, split at every place: each goes
// out at once, whole and alone.
func TestCorkSplits(t *testing.T) {
	w := &writes{}
	c := &corked{Conn: w}
	r, err := http.NewRequestWithContext(withConn(context.Background(), c), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "x", "body\r\n\r\nbody"} {
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		for i := range answer {
			w.all = nil
			cork(r, len(body))
			for _, b := range []string{answer[:i], answer[i:]} {
				if n, err := c.Write([]byte(b)); n != len(b) || err != nil {
					t.Fatalf("%d bytes written: %v", n, err)
				}
			}
			if len(w.all) != 1 || string(w.all[0]) != answer {
				t.Fatalf("split at %d: %q", i, w.all)
			}
			// Without a further announcement nothing is kept.
			if _, err := c.Write([]byte("next")); err != nil || len(w.all) != 2 {
				t.Fatalf("what follows was kept: %q, %v", w.all, err)
			}
		}
	}
}

// TestCorkLetsLargeAnswersPass: what is larger than maxCorked is not kept.
func TestCorkLetsLargeAnswersPass(t *testing.T) {
	w := &writes{}
	c := &corked{Conn: w}
	r, err := http.NewRequestWithContext(withConn(context.Background(), c), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	cork(r, maxCorked+1)
	if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\n")); err != nil || len(w.all) != 1 {
		t.Errorf("it was kept: %v", err)
	}
}
