package child

import (
	"strings"
	"sync"
)

// tailBytes is how much of a program's output a Tail keeps.
const tailBytes = 4096

// Tail is an io.Writer for a program's output that keeps the last 4 KiB, to say why the program ended. It may
// be read while it is written.
type Tail struct {
	mu   sync.Mutex
	data []byte
}

// Write keeps p and forgets the oldest bytes.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if len(t.data) > tailBytes {
		t.data = append(t.data[:0], t.data[len(t.data)-tailBytes:]...)
	}
	return len(p), nil
}

// String is what is kept.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}

// LastLine is the last line that is not empty.
func (t *Tail) LastLine() string {
	s := strings.TrimSpace(t.String())
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
