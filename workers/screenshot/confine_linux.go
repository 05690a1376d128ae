package screenshot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// confine bounds what a decoder may take: its address space, no core files, no
// files written, and less of the processor than those who carry media.
func confine(pid int, memory uint64) error {
	set := func(resource int, v uint64) error {
		return unix.Prlimit(pid, resource, &unix.Rlimit{Cur: v, Max: v}, nil)
	}
	return errors.Join(
		set(unix.RLIMIT_AS, memory), set(unix.RLIMIT_CORE, 0), set(unix.RLIMIT_FSIZE, 0),
		unix.Setpriority(unix.PRIO_PROCESS, pid, 5),
	)
}
