package procstat

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PeakRSS sums up the high-water marks of resident memory (proc(5): VmHWM) of a
// process and its running descendants, bytes.
func PeakRSS(pid int) (int64, error) {
	pids, err := Descendants(pid)
	if err != nil {
		return 0, err
	}
	sum, err := peak(pid)
	if err != nil {
		return 0, fmt.Errorf("read peak memory: %w", err)
	}
	for _, p := range pids {
		if v, err := peak(p); err == nil { // else it has just ended
			sum += v
		}
	}
	return sum, nil
}

func peak(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", pid)
}
