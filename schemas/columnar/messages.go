package columnar

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// messages takes an Arrow IPC stream in memory apart. Its messages point into that memory; the library's own reader
// copies each of them, which is all of the data once more for every reader of a batch.
type messages struct{ b []byte }

func (m *messages) Retain()  {}
func (m *messages) Release() {}

// take cuts n bytes off.
func (m *messages) take(n int64, what string) ([]byte, error) {
	if n < 0 || n > int64(len(m.b)) {
		return nil, fmt.Errorf("the message's %s holds %d bytes, of which %d are there: %w", what, n, len(m.b), io.ErrUnexpectedEOF)
	}
	b := m.b[:n:n]
	m.b = m.b[n:]
	return b, nil
}

// Message gives the next message, io.EOF at the end. Both of the stream's endings are taken: none, and a length of 0.
func (m *messages) Message() (*ipc.Message, error) {
	const continuation = 0xFFFFFFFF // before the length, in what was written by Arrow 0.15 or later
	if len(m.b) == 0 {
		return nil, io.EOF
	}
	n, err := m.length()
	if err == nil && n == continuation {
		n, err = m.length()
	}
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	head, err := m.take(int64(int32(n)), "head")
	if err != nil {
		return nil, err
	}
	meta := memory.NewBufferBytes(head)
	size := ipc.NewMessage(meta, memory.NewBufferBytes(nil)).BodyLen()
	body, err := m.take(size, "body")
	if err != nil {
		return nil, err
	}
	return ipc.NewMessage(meta, memory.NewBufferBytes(body)), nil
}

func (m *messages) length() (uint32, error) {
	b, err := m.take(4, "length")
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}
