package bus

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// mendEvery is how often is looked whether the disk has room again.
	mendEvery = time.Second
	// mendRoom must be free: a server that starts with less would be hurt again at once.
	mendRoom = 8 << 20
)

// noteHurt hears what the server says of its store. After a failed write a
// stream of NATS 2.15 takes nothing more until the server is started again,
// also when the disk has room again (filestore.go: setWriteErr).
func (s *Server) noteHurt(text string) {
	if !strings.Contains(strings.ToLower(text), "critical write error") {
		return
	}
	select {
	case s.hurt <- struct{}{}:
	default:
	}
}

// mend starts the server again on the same port and data once its disk has room.
// What was acknowledged is on the disk; connections come back by themselves.
func (s *Server) mend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hurt:
		}
		s.o.Logger.Error("bus: the disk cannot be written; it takes messages again when there is room", "dir", s.o.DataDir)
		for ok := false; !ok; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(mendEvery):
			}
			if err := probeDisk(s.o.DataDir); err != nil {
				continue
			}
			ok = s.again()
		}
		select { // said by the server that is gone
		case <-s.hurt:
		default:
		}
	}
}

// again starts the server once more.
func (s *Server) again() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	ns, err := s.run()
	if err != nil {
		s.o.Logger.Error("bus: cannot start again, trying on", "err", err)
		return false
	}
	s.ns = ns
	s.o.Logger.Info("bus: the disk has room, messages are taken again")
	return true
}

// probeDisk writes as much as must be free, and takes it away again.
func probeDisk(dir string) error {
	f, err := os.CreateTemp(dir, "probe-")
	if err != nil {
		return fmt.Errorf("probe the disk: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	buf := make([]byte, 1<<20)
	for range mendRoom / len(buf) {
		if _, err := f.Write(buf); err != nil {
			return fmt.Errorf("probe the disk in %s: %w", filepath.Clean(dir), err)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("probe the disk: %w", err)
	}
	return nil
}
