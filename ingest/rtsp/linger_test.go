package rtsp

import (
	"io"
	"net"
	"testing"

	"github.com/spillway-live/spillway/testenv/await"
)

func TestWhatWasSaidLastArrivesThoughTheCameraStillSends(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		n, err := l.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer n.Close()
		if _, err := n.Write(make([]byte, 8<<20)); err != nil { // more than sockets hold
			heard <- err.Error()
			return
		}
		b, err := io.ReadAll(n)
		if err != nil {
			heard <- err.Error()
			return
		}
		heard <- string(b)
	}()
	n, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := lingering{n.(*net.TCPConn), await.Limit}
	if _, err := c.Write([]byte("TEARDOWN")); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "TEARDOWN" {
		t.Errorf("the camera heard: %s", got)
	}
}
