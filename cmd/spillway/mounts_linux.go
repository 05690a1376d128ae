package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spillway-live/spillway/testenv/child"
)

// inMounts, in the environment, says that this process may mount: it has a mount namespace of its own.
const inMounts = "SPILLWAY_OWN_MOUNTS"

// inOwnMounts runs this command once more as a process that may mount file systems which nobody else sees and
// which are gone with it, in namespaces of its own (user_namespaces(7)). again is false where it is that process
// already, or where the kernel allows no such thing: then the caller goes on without.
func (c *commands) inOwnMounts(ctx ctx) (again bool, err error) {
	if os.Getenv(inMounts) != "" {
		return false, nil
	}
	binary, err := os.Executable()
	if err != nil {
		return false, err
	}
	own := func(arg ...string) *exec.Cmd {
		cmd := exec.Command(arg[0], arg[1:]...)
		cmd.Env = append(os.Environ(), inMounts+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		return cmd
	}
	if own("true").Run() != nil {
		return false, nil
	}
	cmd := own(append([]string{binary}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, c.stdout, c.stderr
	p, err := child.Start(cmd)
	if err != nil {
		return false, nil
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(30 * time.Second)
	}
	if err := p.Err(); err != nil {
		return true, fmt.Errorf("see above: %w", err)
	}
	return true, nil
}

// mountMemory mounts a file system of so many MiB, held in memory, on a new directory.
func mountMemory(dir string, mib int) (unmount func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", mib)); err != nil {
		return nil, fmt.Errorf("mount a file system in memory on %s: %w", dir, err)
	}
	return func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }, nil
}
