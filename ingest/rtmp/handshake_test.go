package rtmp

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"testing"

	"github.com/bluenviron/gortmplib"
)

// opening gives what a publisher sends from its first byte to its publish command.
func opening(f *testing.F) []byte {
	f.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	u, err := url.Parse("rtmp://127.0.0.1/live/demo?key=k&cdn=a")
	if err != nil {
		f.Fatal(err)
	}
	go func() {
		c := &gortmplib.Client{URL: u, Publish: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return theirs, nil }}
		_ = c.Initialize(f.Context()) // it ends with the pipe
	}()
	var sent bytes.Buffer
	var x wire
	if _, _, _, err := x.accept(joined(io.TeeReader(ours, &sent), ours)); err != nil {
		f.Fatal(err)
	}
	return sent.Bytes()
}

func joined(r io.Reader, w io.Writer) io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{r, w}
}

// FuzzHandshake gives whatever comes before the publish command to the server: it is
// refused with a reason, or names an address.
func FuzzHandshake(f *testing.F) {
	whole := opening(f)
	f.Add(whole)
	f.Add(whole[:1+2*1536])
	f.Add(whole[:len(whole)-10])
	encrypted := bytes.Clone(whole)
	encrypted[0] = 6
	f.Add(encrypted)
	f.Add(append(bytes.Clone(whole[:1+2*1536]), 2, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0, 2))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var x wire
		at, name, _, err := x.accept(joined(bytes.NewReader(b), io.Discard))
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a reason")
			}
			return
		}
		if at == "" {
			t.Error("published without an address")
		}
		if to, err := parseTarget(at, name); err == nil && to.key.Check() != nil {
			t.Errorf("%q and %q are taken as %v", at, name, to.key)
		}
	})
}
