package clickhouse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/spillway-live/spillway/testenv/clickhouse/internal/launcher"
)

// child is a launcher process.
type child struct {
	cmd    *exec.Cmd
	stdin  *os.File // our end; its closing, by us or by our death, tells the child to stop
	status *os.File
	exited chan struct{} // closed when the process is reaped
	done   chan struct{} // closed after exited, when the server's bookkeeping is complete

	mu     sync.Mutex // guards signals against a pid that is already reaped
	reaped bool
}

// startChild runs command in a process group of its own, so that a terminal's Ctrl-C reaches it only through us,
// with a short environment, since SQL can read a process's own. lock becomes the child's.
func startChild(command []string, console string, lock *os.File) (*child, error) {
	stdinRead, stdinWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer stdinRead.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		_ = stdinWrite.Close()
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer statusWrite.Close()
	// A file, not a pipe to us: writing it must not fail when we are dead. Only the launcher's own words and a
	// crash's go there; ClickHouse's log is elsewhere, and bounded.
	out, err := os.OpenFile(console, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		_ = stdinWrite.Close()
		_ = statusRead.Close()
		return nil, fmt.Errorf("open the console log: %w", err)
	}
	defer out.Close()

	cmd := exec.Command(command[0], command[1:]...)
	if command[0] == selfExecutable {
		cmd.Args[0] = os.Args[0] // for whoever lists processes
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdinRead, out, out
	cmd.ExtraFiles = []*os.File{statusWrite, lock} // launcher.StatusFD, launcher.LockFD
	cmd.Env = []string{"TZ=UTC", "LANG=C.UTF-8", "PATH=/usr/bin:/bin", inLauncher + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c := &child{cmd: cmd, stdin: stdinWrite, status: statusRead, exited: make(chan struct{}), done: make(chan struct{})}

	started := make(chan error, 1)
	go func() {
		// Pdeathsig fires when the thread that forked ends, so that thread must last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.wait()
		}
	}()
	if err := <-started; err != nil {
		_ = stdinWrite.Close()
		_ = statusRead.Close()
		return nil, fmt.Errorf("run the launcher: %w", err)
	}
	return c, nil
}

// wait reaps the process.
func (c *child) wait() {
	_ = c.cmd.Wait() // what it says is in ProcessState
	c.mu.Lock()
	c.reaped = true
	c.mu.Unlock()
	_ = c.stdin.Close()
	close(c.exited)
}

// awaitStatus reads the launcher's report.
func (c *child) awaitStatus(ctx context.Context) (launcher.Status, error) {
	type result struct {
		st  launcher.Status
		err error
	}
	got := make(chan result, 1)
	go func() {
		st, err := readStatus(c.status)
		got <- result{st, err}
	}()
	defer c.status.Close()
	select {
	case r := <-got:
		return r.st, r.err
	case <-ctx.Done():
		return launcher.Status{}, context.Cause(ctx)
	}
}

func (c *child) terminate() { c.signal(syscall.SIGTERM) }

// kill ends the whole process group at once.
func (c *child) kill() { c.signal(syscall.SIGKILL) }

func (c *child) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(-c.cmd.Process.Pid, sig)
	}
}

// state describes how the process ended. Only for after exited.
func (c *child) state() string { return c.cmd.ProcessState.String() }

// logPositions remember where the logs ended before a start, to quote only what came after.
type logPositions []logPosition

type logPosition struct {
	path   string
	offset int64
}

// logMarks: the console is emptied at each start, ClickHouse's log goes on.
func logMarks(l layout) logPositions {
	marks := logPositions{{path: l.console()}, {path: l.log()}}
	if st, err := os.Stat(l.log()); err == nil {
		marks[1].offset = st.Size()
	}
	return marks
}

// excerpt quotes what the logs say about a failure: lines with an exception if there are any, else the last ones.
func (p logPositions) excerpt() string {
	const most = 256 << 10 // bytes read from the end of each log
	var all bytes.Buffer
	for _, m := range p {
		f, err := os.Open(m.path)
		if err != nil {
			continue
		}
		offset := m.offset
		if st, err := f.Stat(); err == nil {
			if st.Size() < offset {
				offset = 0 // rotated meanwhile
			}
			offset = max(offset, st.Size()-most)
		}
		if _, err := f.Seek(offset, io.SeekStart); err == nil {
			_, _ = io.Copy(&all, io.LimitReader(f, most))
			all.WriteByte('\n')
		}
		_ = f.Close()
	}
	return "its log says: " + telling(all.String())
}

// telling picks the lines of a log that tell what went wrong.
func telling(log string) string {
	const most, width = 4, 500
	var lines, exceptions []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(line) > width {
			line = line[:width] + "..."
		}
		lines = append(lines, line)
		if strings.Contains(line, "Exception:") || strings.Contains(line, "clickhouse-server:") {
			exceptions = append(exceptions, line)
		}
	}
	if len(exceptions) > 0 {
		lines = exceptions
		if len(lines) > most {
			lines = lines[:most] // the first is the cause
		}
	} else if len(lines) > 2*most {
		lines = lines[len(lines)-2*most:]
	}
	if len(lines) == 0 {
		return "nothing"
	}
	return strings.Join(lines, " | ")
}
