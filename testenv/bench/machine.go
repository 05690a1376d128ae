package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// Machine says where it was measured.
type Machine struct {
	CPUs     int    `json:"cpus"`
	CPUModel string `json:"cpu_model"`
	RAMBytes int64  `json:"ram_bytes"`
	OS       string `json:"os"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
}

// ThisMachine is the one this program runs on.
func ThisMachine() Machine { return machine() }

// BusyCPUSeconds is what all processes of the machine together have used since boot.
func BusyCPUSeconds() (float64, error) {
	m, err := readMachineCPU()
	return m.busy, err
}

func machine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), CPUModel: "unknown"}
	if v, err := field("/proc/cpuinfo", "model name"); err == nil {
		m.CPUModel = v
	}
	if v, err := kilobytes("/proc/meminfo", "MemTotal"); err == nil {
		m.RAMBytes = v
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	return m
}

// machineCPU is what all processes together have used since boot, seconds.
type machineCPU struct{ busy, stolen float64 }

// readMachineCPU reads the first line of /proc/stat (proc(5)): user, nice, system, idle, iowait, irq, softirq,
// steal, in hundredths of a second.
func readMachineCPU() (machineCPU, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineCPU{}, fmt.Errorf("read the machine's CPU time (only Linux is measured): %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return machineCPU{}, fmt.Errorf("/proc/stat begins with %.80q", line)
	}
	var v [9]float64
	for i := 1; i < len(v); i++ {
		if v[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			return machineCPU{}, fmt.Errorf("/proc/stat: %w", err)
		}
	}
	return machineCPU{busy: (v[1] + v[2] + v[3] + v[6] + v[7]) / 100, stolen: v[8] / 100}, nil
}

func kilobytes(path, name string) (int64, error) {
	v, err := field(path, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(v, " kB"), 10, 64)
	return n << 10, err
}

// field finds "name: value" in a file of /proc.
func field(path, name string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v), nil
		}
	}
	return "", errors.Join(fmt.Errorf("%s has no %s", path, name), lines.Err())
}
