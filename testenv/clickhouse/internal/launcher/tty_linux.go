package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// terminalOnStdin puts a pseudo-terminal on descriptor 0 and returns its controlling side; closing that is the
// end of file ClickHouse's interactive mode waits for.
//
// Why: without a terminal "clickhouse local" is in batch mode, and in batch mode an exception in any connection
// handler (a wrong password, a reset, garbage on a port) ends the whole process.
func terminalOnStdin() (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	if err := attachSlave(master); err != nil {
		_ = master.Close()
		return nil, err
	}
	return master, nil
}

func attachSlave(master *os.File) error {
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock the pseudo-terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("number of the pseudo-terminal: %w", err)
	}
	slave, err := unix.Open(filepath.Join("/dev/pts", strconv.Itoa(n)), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the pseudo-terminal's other side: %w", err)
	}
	defer unix.Close(slave)
	if err := unix.Dup3(slave, 0, 0); err != nil {
		return fmt.Errorf("put the pseudo-terminal on standard input: %w", err)
	}
	return nil
}
