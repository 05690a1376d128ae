// Package child runs helper programs (ffmpeg, peer servers) that never outlive us.
//
// It promises: the program leads its own process group, which Stop ends with SIGTERM and then SIGKILL; on
// Linux the kernel kills the program when this process dies in any way, kill -9 included. It leaves out
// restarting (callers know what a restart means) and, for the kill -9 case, the program's own children: run
// programs that fork as one process.
package child

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"time"
)

// Process is one running program.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start starts cmd, in whose SysProcAttr it sets group and parent's death. The error wraps exec.ErrNotFound when there is no such program.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	if cmd.WaitDelay == 0 {
		// A grandchild that inherited a pipe must not keep Wait from returning.
		cmd.WaitDelay = 2 * time.Second
	}
	own(cmd)
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		// The parent death signal is sent when the thread that forked ends, not the process (prctl(2),
		// PR_SET_PDEATHSIG), so this goroutine keeps its thread until the program is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// PID is the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the program ended, as exec.Cmd.Wait does; nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop asks the program to end, kills it and its group after grace, and returns when it is gone. Stopping
// twice is harmless.
func (p *Process) Stop(grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	default:
	}
	terminate(p.cmd)
	select {
	case <-p.done:
	case <-timer.C:
		kill(p.cmd)
		<-p.done
	}
}

// NotFound says whether err from Start or exec.LookPath means that the program is not installed.
func NotFound(err error) bool { return errors.Is(err, exec.ErrNotFound) }
