// Package peers runs other live-video servers beside ours, so that benchmarks compare both on the same machine
// and input.
//
// It promises: a peer listens on loopback only, on ports the system chose, with every protocol off that the
// comparison does not use; its files live in a directory that goes with it; it never outlives this process; its
// CPU time and memory come from the kernel. It leaves out obtaining the peers: the caller names a binary.
package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

const (
	// startTimeout is how long a peer may take to listen.
	startTimeout = 15 * time.Second
	// startAttempts: between choosing a free port and the peer's listening, another may take the port.
	startAttempts = 3
	stopGrace     = 3 * time.Second
	// application is the first path element of every stream.
	application = "live"
)

// Server is a running peer.
type Server struct {
	// Name and Version are what the binary says of itself.
	Name, Version string

	process    *child.Process
	output     *child.Tail
	dir        string
	rtmp, http string
	playPath   func(stream string) string
}

// PublishURL is where to push a stream by RTMP.
func (s *Server) PublishURL(stream string) string {
	return "rtmp://" + s.rtmp + "/" + application + "/" + stream
}

// PlayURL is the stream's HLS playlist: the multivariant one, where the peer writes one.
func (s *Server) PlayURL(stream string) string { return "http://" + s.http + s.playPath(stream) }

// HTTPBase is the address of the peer's HTTP server, without a slash at the end.
func (s *Server) HTTPBase() string { return "http://" + s.http }

// PID is the peer's process id. Peers run as one process.
func (s *Server) PID() int { return s.process.PID() }

// Usage is the CPU time and memory of the peer with everything it started.
func (s *Server) Usage() (procstat.Usage, error) { return procstat.Tree(s.process.PID()) }

// CPUSeconds is the user plus system time the peer has used since it started.
func (s *Server) CPUSeconds() (float64, error) {
	u, err := s.Usage()
	return u.CPUSeconds, err
}

// RSSBytes is the peer's resident memory.
func (s *Server) RSSBytes() (int64, error) {
	u, err := s.Usage()
	return u.RSSBytes, err
}

// Done is closed when the peer has ended, by itself or by Stop.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Output is the end of what the peer printed.
func (s *Server) Output() string { return s.output.String() }

// Stop ends the peer and removes its files. Stopping twice is harmless.
func (s *Server) Stop() {
	s.process.Stop(stopGrace)
	_ = os.RemoveAll(s.dir)
}

// WaitPlayable polls until a stream's playlist can be fetched, which in on-demand peers also starts packaging.
func (s *Server) WaitPlayable(ctx context.Context, stream string) error {
	client := &http.Client{Timeout: 10 * time.Second}
	var last error
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.PlayURL(stream), nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err != nil {
			last = err
		} else {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			last = errors.New(res.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: last answer: %w", s.PlayURL(stream), ctx.Err(), last)
		case <-s.Done():
			return fmt.Errorf("wait for %s: the server ended: %s", s.PlayURL(stream), s.output.LastLine())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// launch is how to start one kind of peer.
type launch struct {
	name, version string
	playPath      func(stream string) string
	// command writes what the peer needs into dir and says how to run it, to listen on the two addresses.
	command func(dir, rtmp, http string) (*exec.Cmd, error)
}

// start runs a peer and returns when it listens. It is stopped when ctx ends.
func start(ctx context.Context, l launch) (*Server, error) {
	var s *Server
	var err error
	for range startAttempts {
		if s, err = startOnce(ctx, l); err == nil || ctx.Err() != nil {
			break
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", l.name, err)
	}
	context.AfterFunc(ctx, s.Stop)
	return s, nil
}

func startOnce(ctx context.Context, l launch) (_ *Server, err error) {
	s := &Server{Name: l.name, Version: l.version, output: &child.Tail{}, playPath: l.playPath}
	if s.rtmp, s.http, err = freeAddresses(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "spillway-peer-"); err != nil {
		return nil, fmt.Errorf("create its directory: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.dir)
		}
	}()
	cmd, err := l.command(s.dir, s.rtmp, s.http)
	if err != nil {
		return nil, err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, s.output, s.output
	if s.process, err = child.Start(cmd); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, address := range []string{s.rtmp, s.http} {
		if err := s.awaitListening(ctx, address); err != nil {
			s.process.Stop(stopGrace)
			return nil, fmt.Errorf("%w: it said: %s", err, strings.TrimSpace(s.output.String()))
		}
	}
	return s, nil
}

func (s *Server) awaitListening(ctx context.Context, address string) error {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for it to listen on %s: %w", address, ctx.Err())
		case <-s.process.Done():
			return errors.Join(errors.New("it ended at once"), s.process.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freeAddresses finds two free loopback ports. Both are held while looking, so they differ.
func freeAddresses() (first, second string, err error) {
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer a.Close()
	b, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", fmt.Errorf("find a free port: %w", err)
	}
	defer b.Close()
	return a.Addr().String(), b.Addr().String(), nil
}

// resolve makes a binary's path absolute, because peers run in a directory of their own.
func resolve(binary string) (string, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// firstLine runs a program for what it says of its version; what it cannot say is "unknown".
func firstLine(ctx context.Context, binary string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return "unknown"
	}
	return line
}
