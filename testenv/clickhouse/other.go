//go:build !linux

package clickhouse

import (
	"context"
	"fmt"
	"os"
	"runtime"
)

// Server is a running ClickHouse server. On this platform there is none.
type Server struct {
	opts              Options
	creds             credentials
	pid               int
	version           string
	tcpPort, httpPort int
}

// Start always returns ErrUnsupported on this platform.
func Start(context.Context, Options) (*Server, error) {
	return nil, checkPlatform(runtime.GOOS, runtime.GOARCH, false)
}

// Stop does nothing on this platform.
func (s *Server) Stop(context.Context) error { return nil }

// Kill does nothing on this platform.
func (s *Server) Kill() error { return nil }

// Done is closed from the beginning on this platform.
func (s *Server) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// Err always returns ErrUnsupported on this platform.
func (s *Server) Err() error { return ErrUnsupported }

// Restart always returns ErrUnsupported on this platform.
func (s *Server) Restart(ctx context.Context) (*Server, error) { return Start(ctx, s.opts) }

// RunLauncher cannot do anything on this platform; it returns 2.
func RunLauncher([]string) int {
	fmt.Fprintln(os.Stderr, checkPlatform(runtime.GOOS, runtime.GOARCH, false))
	return 2
}
