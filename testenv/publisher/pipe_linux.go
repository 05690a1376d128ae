package publisher

import (
	"os"

	"golang.org/x/sys/unix"
)

// widenPipe lets a pipe hold whole frames, which saves a wake-up per 64 KiB. Failing is harmless: the
// limit for users without privileges is 1 MiB.
func widenPipe(f *os.File, bytes int) {
	const most = 1 << 20
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, min(bytes, most))
	})
}
