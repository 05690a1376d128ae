package rtsp

import (
	"io"
	"net"
	"time"
)

// lingerFor bounds how long a camera that goes on sending is listened to after we have left.
const lingerFor = time.Second

// lingering is a connection whose Close lets what was written last arrive. A
// socket that is closed while data still comes is reset (RFC 1122, 4.2.2.13), and
// whom its own writing tells so, or whose TCP discards what it has not read yet,
// never reads what came before: with media on the same connection, TEARDOWN.
type lingering struct {
	*net.TCPConn
	atMost time.Duration
}

// Close says that no more comes, reads on until the camera closes too, and closes.
func (l lingering) Close() error {
	if err := l.CloseWrite(); err == nil && l.SetReadDeadline(time.Now().Add(l.atMost)) == nil {
		_, _ = io.Copy(io.Discard, l.TCPConn) // what ends it does not matter
	}
	return l.TCPConn.Close()
}
