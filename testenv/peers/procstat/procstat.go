// Package procstat reads what a process has used: CPU time and memory, from Linux's /proc.
//
// It promises the kernel's own accounting (proc(5): utime, stime and the same of ended children), which counts
// all threads and is exact to a clock tick of 10 ms in total. It leaves out other systems, where every call
// returns an error.
package procstat

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, in which /proc counts: 100 on every Linux port Go supports.
const ticksPerSecond = 100

// Usage is what a process has used so far.
type Usage struct {
	// CPUSeconds is user plus system time of all its threads.
	CPUSeconds float64
	// EndedChildrenCPUSeconds is that of children that have ended and were waited for.
	EndedChildrenCPUSeconds float64
	// RSSBytes is the memory resident now.
	RSSBytes int64
}

// Read reads the usage of one process. A process that has ended is an error that wraps os.ErrNotExist.
func Read(pid int) (Usage, error) {
	u, _, err := read(strconv.Itoa(pid))
	return u, err
}

// CPUSeconds is the user plus system time of one process, its children left out.
func CPUSeconds(pid int) (float64, error) {
	u, err := Read(pid)
	return u.CPUSeconds, err
}

// Tree sums up a process and everything it started: running descendants, and ended ones as far as their
// parents waited for them. Processes that end while it looks are left out.
func Tree(pid int) (Usage, error) {
	sum, err := Read(pid)
	if err != nil {
		return Usage{}, err
	}
	sum.CPUSeconds += sum.EndedChildrenCPUSeconds
	descendants, err := Descendants(pid)
	if err != nil {
		return Usage{}, err
	}
	for _, child := range descendants {
		if u, err := Read(child); err == nil {
			sum.CPUSeconds += u.CPUSeconds + u.EndedChildrenCPUSeconds
			sum.EndedChildrenCPUSeconds += u.EndedChildrenCPUSeconds
			sum.RSSBytes += u.RSSBytes
		}
	}
	return sum, nil
}

// Descendants lists the running processes that pid started, directly or not.
func Descendants(pid int) ([]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(dirs) == 0 {
		return nil, fmt.Errorf("list processes in /proc: %w", os.ErrNotExist)
	}
	children := make(map[int][]int)
	for _, dir := range dirs {
		name := filepath.Base(dir)
		if _, parent, err := read(name); err == nil {
			if id, err := strconv.Atoi(name); err == nil {
				children[parent] = append(children[parent], id)
			}
		}
	}
	var found []int
	for todo := children[pid]; len(todo) > 0; todo = todo[1:] {
		found = append(found, todo[0])
		todo = append(todo, children[todo[0]]...)
	}
	return found, nil
}

func read(pid string) (u Usage, parent int, err error) {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return Usage{}, 0, fmt.Errorf("read usage of process %s: %w", pid, err)
	}
	u, parent, err = parseStat(string(data), os.Getpagesize())
	if err != nil {
		return Usage{}, 0, fmt.Errorf("read usage of process %s: %w", pid, err)
	}
	return u, parent, nil
}

// parseStat reads a line of /proc/PID/stat. The program's name, in parentheses, may hold anything, so fields
// are counted from the last closing one.
func parseStat(line string, pageBytes int) (Usage, int, error) {
	const (
		// Positions after the name; proc(5) counts from 1 and the name is its second field.
		fieldParent     = 4 - 3
		fieldUser       = 14 - 3
		fieldSystem     = 15 - 3
		fieldChildUser  = 16 - 3
		fieldChildSys   = 17 - 3
		fieldRSS        = 24 - 3
		fewestFields    = fieldRSS + 1
		nameEndsWith    = ')'
		decimal, bits64 = 10, 64
	)
	end := strings.LastIndexByte(line, nameEndsWith)
	fields := strings.Fields(line[end+1:])
	if end < 0 || len(fields) < fewestFields {
		return Usage{}, 0, fmt.Errorf("stat line %q is too short", line)
	}
	var values [fewestFields]int64
	for _, i := range []int{fieldParent, fieldUser, fieldSystem, fieldChildUser, fieldChildSys, fieldRSS} {
		v, err := strconv.ParseInt(fields[i], decimal, bits64)
		if err != nil {
			return Usage{}, 0, fmt.Errorf("stat field %d: %w", i+3, err)
		}
		values[i] = v
	}
	return Usage{
		CPUSeconds:              float64(values[fieldUser]+values[fieldSystem]) / ticksPerSecond,
		EndedChildrenCPUSeconds: float64(values[fieldChildUser]+values[fieldChildSys]) / ticksPerSecond,
		RSSBytes:                values[fieldRSS] * int64(pageBytes),
	}, int(values[fieldParent]), nil
}
