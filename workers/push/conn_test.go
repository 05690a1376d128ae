package push

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/message"
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
