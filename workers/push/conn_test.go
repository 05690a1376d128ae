package push

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/message"

	"github.com/spillway-live/spillway/ingest/certs/certstest"
)

// takePublisher accepts one publisher.
func takePublisher(l net.Listener) (*gortmplib.ServerConn, net.Conn, error) {
	c, err := l.Accept()
	if err != nil {
		return nil, nil, err
	}
	s := &gortmplib.ServerConn{RW: c}
	return s, c, errors.Join(s.Initialize(), s.AcceptConn(), s.AcceptAction())
}

// A target that pings all the time is answered while media is sent, and each message
// arrives whole. It is the race detector, and the target's parser, that would object.
func TestPingsAreAnsweredBetweenMessages(t *testing.T) {
	const n = 300
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() {
		s, c, err := takePublisher(l)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		server.Go(func() {
			for i := range n {
				if err := s.Write(&message.UserControlPingRequest{ServerTime: uint32(i)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		for pongs, data := 0, 0; pongs < n || data < n; {
			m, err := s.Read()
			if err != nil {
				t.Errorf("after %d answers and %d messages: %v", pongs, data, err)
				return
			}
			switch m := m.(type) {
			case *message.UserControlPingResponse:
				if m.ServerTime != uint32(pongs) {
					t.Errorf("answer %d is to ping %d", pongs, m.ServerTime)
				}
				pongs++
			case *message.DataAMF0:
				if len(m.Payload) != 1 || m.Payload[0] != float64(data) {
					t.Errorf("message %d is %v", data, m.Payload)
				}
				data++
			}
		}
	})
	conn, err := connect(t.Context(), &url.URL{Scheme: "rtmp", Host: l.Addr().String(), Path: "/app/key"}, time.Minute, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, err := conn.Read(); err != nil {
				return
			}
		}
	})
	for i := range n {
		if err := conn.Write(&message.DataAMF0{ChunkStreamID: 4, MessageStreamID: 0x1000000, Payload: []any{float64(i)}}); err != nil {
			t.Error(err)
			break
		}
	}
	reading.Wait() // the target closes once it has all
	conn.Close()
}

// A target that takes a publisher and then no byte is left within the time for writing.
func TestTargetThatTakesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left := make(chan struct{})
	var server sync.WaitGroup
	defer server.Wait()
	server.Go(func() {
		if _, c, err := takePublisher(l); err != nil {
			t.Error(err)
		} else {
			defer c.Close()
			<-left
		}
	})
	defer close(left)
	conn, err := connect(t.Context(), &url.URL{Scheme: "rtmp", Host: l.Addr().String(), Path: "/app/key"}, time.Minute, 200*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := &message.Video{ChunkStreamID: 6, MessageStreamID: 0x1000000, Codec: message.CodecH264, Type: message.VideoTypeAU, AU: make([]byte, 1<<20)}
	for range 1000 { // more than any socket's buffers
		if err = conn.Write(m); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing ended with %v", err)
	}
}

// A target whose certificate nobody vouches for gets nothing.
func TestUnknownCertificateIsRefused(t *testing.T) {
	certFile, keyFile := certstest.Write(t, t.TempDir(), "unknown")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- 0
			return
		}
		defer c.Close()
		n, _ := io.Copy(io.Discard, c)
		heard <- n
	}()
	_, err = connect(t.Context(), &url.URL{Scheme: "rtmps", Host: l.Addr().String(), Path: "/app/key"}, time.Minute, time.Minute, nil)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("connecting ended with %v", err)
	}
	if n := <-heard; n > 0 {
		t.Errorf("the target got %d bytes", n)
	}
}
