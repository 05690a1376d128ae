package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/spillway-live/spillway/testenv/clickhouse/internal/launcher"
)

const (
	// predecessorWait is how long Start waits for an earlier server on the same DataDir to end: longer than an
	// orderly stop takes, so that a quick restart works after the parent was killed.
	predecessorWait = 10 * time.Second
	// bootLimit is how long ClickHouse may take until its listeners are up. Tables are loaded before.
	bootLimit = 2 * time.Minute
	// exitWait is how long a launcher that could not start gets to end by itself.
	exitWait = 3 * time.Second
	// stopGrace is the time that running queries get to finish at a stop.
	stopGrace = 500 * time.Millisecond
	// selfExecutable is this program, found even if its file was replaced or removed meanwhile.
	selfExecutable = "/proc/self/exe"
	// inLauncher, in the environment of a launcher process, stops a program that does not call RunLauncher from
	// starting itself over and over.
	inLauncher = "SPILLWAY_CLICKHOUSE_LAUNCHER"
)

// Server is a running ClickHouse server, a child of this process. Its methods may be called from any goroutine.
type Server struct {
	opts              Options
	creds             credentials
	child             *child
	pid               int
	version           string
	tcpPort, httpPort int
	asked             atomic.Bool // Stop or Kill was called
	fatal             string      // why it ended unasked; set before child.done is closed to others
}

// Start runs a ClickHouse server on opts.DataDir and returns when it answers on both ports. The first start on a
// machine fetches the library (178 MB) through npm. A directory that a killed server left behind is repaired
// first, so that an insert repeated with its deduplication token is neither lost nor doubled. ctx bounds the
// start alone; the server then runs until Stop, Kill, or the end of this process, even by kill -9.
//
// The error wraps ErrUnsupported when this machine can never run it, and says in every case what to do.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if err := checkPlatform(runtime.GOOS, runtime.GOARCH, cpu.X86.HasAVX2); err != nil {
		return nil, err
	}
	if os.Getenv(inLauncher) != "" {
		return nil, fmt.Errorf("start ClickHouse: %s was started as the ClickHouse launcher but does not call "+
			"clickhouse.RunLauncher; set Options.LauncherCommand to a program that does", os.Args[0])
	}
	opts, err := withDefaults(opts)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	library, err := findLibrary(ctx, opts)
	if err != nil {
		return nil, err
	}
	command, err := launcherCommand(ctx, opts)
	if err != nil {
		return nil, err
	}
	lock, err := lockDataDir(ctx, opts.DataDir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // the child holds it on
	s := &Server{opts: opts}
	l := layout{opts.DataDir}
	if err := s.prepare(l); err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	cfg := launcher.Config{
		Library: library, DataPath: l.db(), ConfigFile: l.config(), LogLevel: opts.LogLevel,
		ListenHost: opts.ListenHost, TCPPort: opts.TCPPort, HTTPPort: opts.HTTPPort, Grace: stopGrace,
	}
	if err := s.launch(ctx, command, cfg, l, lock); err != nil {
		return nil, err
	}
	opts.Logger.Info("clickhouse is up", "version", s.version, "pid", s.pid, "native", s.NativeAddr(),
		"http", s.HTTPAddr(), "data", opts.DataDir)
	return s, nil
}

// Restart starts a server with the same settings, data and ports, after this one has ended.
func (s *Server) Restart(ctx context.Context) (*Server, error) {
	select {
	case <-s.Done():
	default:
		return nil, errors.New("restart ClickHouse: it is still running; stop it first")
	}
	opts := s.opts
	opts.TCPPort, opts.HTTPPort = s.tcpPort, s.httpPort
	return Start(ctx, opts)
}

func withDefaults(o Options) (Options, error) {
	if o.DataDir == "" {
		return o, errors.New("no data directory given (Options.DataDir)")
	}
	var err error
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return o, fmt.Errorf("data directory: %w", err)
	}
	if o.ListenHost == "" || o.ListenHost == "localhost" {
		o.ListenHost = "127.0.0.1"
	}
	if net.ParseIP(o.ListenHost) == nil {
		return o, fmt.Errorf("listen host %q is not an IP address", o.ListenHost)
	}
	for _, port := range []int{o.TCPPort, o.HTTPPort} {
		if port < 0 || port > 65535 {
			return o, fmt.Errorf("port %d is outside 0 to 65535", port)
		}
	}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("find the user's cache folder: %w; set HOME or XDG_CACHE_HOME", err)
		}
		o.CacheDir = filepath.Join(dir, "spillway")
	}
	const leastMemory = 512 << 20 // below it ClickHouse cannot even merge
	if o.MemoryLimitBytes == 0 {
		o.MemoryLimitBytes = 4 << 30
	} else if o.MemoryLimitBytes < leastMemory {
		return o, fmt.Errorf("memory limit of %d bytes is too small; at least %d are needed", o.MemoryLimitBytes, int64(leastMemory))
	}
	if o.LogLevel == "" {
		o.LogLevel = "warning"
	}
	levels := []string{"none", "fatal", "critical", "error", "warning", "notice", "information", "debug", "trace", "test"}
	if !slices.Contains(levels, o.LogLevel) {
		return o, fmt.Errorf("log level %q is none of %s", o.LogLevel, strings.Join(levels, ", "))
	}
	if o.Cluster != nil {
		if err := o.Cluster.check(); err != nil {
			return o, fmt.Errorf("cluster: %w", err)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o, nil
}

func findLibrary(ctx context.Context, o Options) (string, error) {
	if o.Library == "" {
		f := &fetcher{dir: filepath.Join(o.CacheDir, "clickhouse"), want: pinnedLibrary(), npm: "npm", logger: o.Logger, progress: o.Progress}
		return f.library(ctx)
	}
	path, err := filepath.Abs(o.Library)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("start ClickHouse: library: %w", err)
	}
	return path, nil
}

func launcherCommand(ctx context.Context, o Options) ([]string, error) {
	switch {
	case len(o.LauncherCommand) > 0:
		return o.LauncherCommand, nil
	case testing.Testing():
		path, err := buildLauncher(ctx, o.CacheDir)
		return []string{path}, err
	default:
		return []string{selfExecutable, LauncherSubcommand}, nil
	}
}

// lockDataDir makes the directory and takes its lock.
func lockDataDir(ctx context.Context, dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start ClickHouse: make the data directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, predecessorWait)
	defer cancel()
	path := layout{dir}.lock()
	lock, err := lockFile(ctx, path, nil)
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("start ClickHouse: %s is in use by another ClickHouse server (process %s); stop that "+
			"one, or choose another data directory: %w", dir, lockHolder(path), err)
	}
	return lock, err
}

// prepare makes the data directory ready for a server. The caller holds its lock, so nothing else touches it.
func (s *Server) prepare(l layout) error {
	var err error
	if s.creds, err = loadCredentials(l.credentials()); err != nil {
		return err
	}
	if c := s.opts.Cluster; c != nil && (c.AdminPassword != s.creds.Admin || c.WriterPassword != s.creds.Writer) {
		s.creds = credentials{Admin: c.AdminPassword, Writer: c.WriterPassword}
		if err := s.creds.keep(l.credentials()); err != nil {
			return err
		}
	}
	if err := writeConfig(s.opts, l, s.creds); err != nil {
		return err
	}
	repaired, err := repairDedup(l.db())
	if err != nil {
		return fmt.Errorf("repair after a crash: %w", err)
	}
	if repaired > 0 {
		s.opts.Logger.Warn("clickhouse was killed in mid-insert; removed deduplication records of inserts that were "+
			"never finished, their senders will repeat them", "records", repaired)
	}
	return nil
}

// launch starts the child and waits until it listens.
func (s *Server) launch(ctx context.Context, command []string, cfg launcher.Config, l layout, lock *os.File) error {
	logs := logMarks(l)
	c, err := startChild(append(slices.Clone(command), cfg.Args()...), l.console(), lock)
	if err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	s.child, s.pid = c, c.cmd.Process.Pid
	_ = lock.Truncate(0) // for the message of whoever finds the directory locked; nothing depends on it
	_, _ = lock.WriteAt(fmt.Appendf(nil, "%d\n", s.pid), 0)

	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	st, err := c.awaitStatus(ctx)
	if err == nil && st.Error == "" && st.TCPPort > 0 && st.HTTPPort > 0 {
		s.tcpPort, s.httpPort, s.version = st.TCPPort, st.HTTPPort, st.Version
		go s.watch(logs)
		return nil
	}
	if ctx.Err() != nil {
		c.kill()
		<-c.exited
		return fmt.Errorf("start ClickHouse: not up in time: %w; %s", context.Cause(ctx), logs.excerpt())
	}
	select { // it is about to end by itself, and what it logs on the way is the explanation
	case <-c.exited:
	case <-time.After(exitWait):
		c.kill()
		<-c.exited
	}
	return fmt.Errorf("start ClickHouse: %s", bootProblem(st.Error, c.state(), logs.excerpt(), s.opts))
}

// bootProblem makes a message of what the launcher reported, how it ended, and what the log says.
func bootProblem(reported, ended, log string, o Options) string {
	switch {
	case strings.Contains(log, "Address already in use"):
		return fmt.Sprintf("port %d (native) or %d (HTTP) on %s is in use; choose other ports, or 0 for free ones", o.TCPPort, o.HTTPPort, o.ListenHost)
	case reported == "":
		return fmt.Sprintf("the launcher ended (%s) before it reported, does it call clickhouse.RunLauncher? %s", ended, log)
	case strings.Contains(log, reported):
		return log
	}
	return reported + "; " + log
}

// watch notes the end of a server that nobody asked to end.
func (s *Server) watch(logs logPositions) {
	<-s.child.exited
	if !s.asked.Load() {
		s.fatal = fmt.Sprintf("clickhouse ended by itself: %s; %s", s.child.state(), logs.excerpt())
		s.opts.Logger.Error("clickhouse ended by itself", "pid", s.pid, "state", s.child.state(), "data", s.opts.DataDir)
	} else {
		s.opts.Logger.Info("clickhouse has stopped", "pid", s.pid)
	}
	close(s.child.done)
}

// Done is closed when the server process has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.child.done }

// Err tells why the server ended, once Done is closed: nil after Stop or Kill, otherwise with the end of its log.
func (s *Server) Err() error {
	select {
	case <-s.child.done:
	default:
		return nil
	}
	if s.fatal == "" {
		return nil
	}
	return errors.New(s.fatal)
}

// Stop ends the server in order, which flushes everything and takes about 0.6 s: it stops listening, gives
// running queries half a second, then cancels them. When ctx ends first the server is killed and ctx's error
// returned; the data are safe then as well, see Start. Stopping a stopped server is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.asked.Store(true)
	s.child.terminate()
	select {
	case <-s.child.done:
		return nil
	case <-ctx.Done():
		s.child.kill()
		<-s.child.done
		return fmt.Errorf("stop ClickHouse: killed, since it did not end in time: %w", context.Cause(ctx))
	}
}

// Kill ends the server with SIGKILL, as a crash would, and returns when it is gone.
func (s *Server) Kill() error {
	s.asked.Store(true)
	s.child.kill()
	<-s.child.done
	return nil
}

// readStatus decodes the launcher's one message. Its end of file, when it died first, is an error.
func readStatus(r io.Reader) (launcher.Status, error) {
	var st launcher.Status
	if err := json.NewDecoder(io.LimitReader(r, 64<<10)).Decode(&st); err != nil {
		return st, fmt.Errorf("read the launcher's report: %w", err)
	}
	return st, nil
}
