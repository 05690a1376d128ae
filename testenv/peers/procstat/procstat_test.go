package procstat

import (
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
)

func needProc(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc")
	}
}

// ownCPU is what the kernel says of this process by another way.
func ownCPU(t *testing.T) float64 {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}

func TestOwnUsage(t *testing.T) {
	needProc(t)
	for ownCPU(t) < 0.3 { // burn some
		slices.Sort(make([]int, 1<<16))
	}
	before := ownCPU(t)
	u, err := Read(os.Getpid())
	after := ownCPU(t)
	if err != nil {
		t.Fatal(err)
	}
	if u.CPUSeconds < before-0.03 || u.CPUSeconds > after+0.03 {
		t.Errorf("%.3f CPU seconds, getrusage says %.3f to %.3f", u.CPUSeconds, before, after)
	}
	if u.RSSBytes < 1<<20 || u.RSSBytes > 1<<36 {
		t.Errorf("%d bytes resident", u.RSSBytes)
	}
}

// TestTreeCountsChildren burns CPU in a child of a child, running and then ended.
func TestTreeCountsChildren(t *testing.T) {
	needProc(t)
	const burn = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	cmd := exec.Command("sh", "-c", "sh -c '"+burn+"; read x; true'; read y; true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	tree := func() Usage {
		u, err := Tree(pid)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	await.True(t, "the child of the child has burnt CPU", func() bool { return tree().CPUSeconds >= 0.1 })
	await.True(t, "only the inner shell runs", func() bool { d, err := Descendants(pid); return err == nil && len(d) == 1 })
	mine, err := CPUSeconds(pid)
	if err != nil || mine > 0.09 {
		t.Errorf("the parent alone used %.2f s, %v", mine, err)
	}
	running := tree()
	if _, err := io.WriteString(in, "x\n"); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the child has ended", func() bool { d, err := Descendants(pid); return err == nil && len(d) == 0 })
	if ended := tree(); ended.CPUSeconds < running.CPUSeconds-0.03 {
		t.Errorf("%.2f s when the child had ended, %.2f before", ended.CPUSeconds, running.CPUSeconds)
	}
}

func TestEndedProcess(t *testing.T) {
	needProc(t)
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Tree(cmd.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 7 1 1 0 -1 4194304 100 0 0 0 250 50 1000 500 20 0 9 0 12345 1000000 25 18446744073709551615 1 1 0"
	for _, name := range []string{"(nginx)", "(a b)", "(:) 1 2 (x) )", "()"} {
		u, parent, err := parseStat("42 "+name+rest, 4096)
		if err != nil || parent != 7 || math.Abs(u.CPUSeconds-3) > 1e-9 || math.Abs(u.EndedChildrenCPUSeconds-15) > 1e-9 || u.RSSBytes != 25*4096 {
			t.Errorf("%s: %+v, parent %d, %v", name, u, parent, err)
		}
	}
	for _, line := range []string{"", "42", "42 (x)", "42 (x) S 1 2", "42 (x) S a b c d e f g h i j k l m n o p q r s t u v w"} {
		if u, _, err := parseStat(line, 4096); err == nil {
			t.Errorf("%q read as %+v", line, u)
		}
	}
}
