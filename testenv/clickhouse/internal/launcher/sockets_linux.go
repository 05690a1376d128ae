package launcher

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// halfCloseAccepted shuts the reading side of every connection accepted on one of the ports, so that handlers
// waiting for a client's next request see the end and return, while answers under way still go out.
//
// Why: ClickHouse's shutdown waits about five seconds for idle connections and then exits without flushing.
func halfCloseAccepted(ports ...int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		local, err := unix.Getsockname(fd)
		if err != nil {
			continue // not a socket
		}
		port := 0
		switch a := local.(type) {
		case *unix.SockaddrInet4:
			port = a.Port
		case *unix.SockaddrInet6:
			port = a.Port
		}
		if !isOneOf(port, ports) {
			continue
		}
		if _, err := unix.Getpeername(fd); err != nil {
			continue // the listener itself has no peer
		}
		_ = unix.Shutdown(fd, unix.SHUT_RD)
	}
}

func isOneOf(port int, ports []int) bool {
	for _, p := range ports {
		if p != 0 && p == port {
			return true
		}
	}
	return false
}
