package child

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
)

const helperEnv = "CHILD_TEST_HELPER"

// TestMain lets the test binary play the parent that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		p, err := Start(exec.Command("sleep", "600"))
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		<-p.Done()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestKilledParentTakesItsChildAlong(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperEnv+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(line)
	}
	if gone(pid) {
		t.Fatal("the child was not running")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	await.True(t, "the child of a killed parent to end", func() bool { return gone(pid) })
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	// The shell ignores SIGTERM, and so does the sleep it starts.
	cmd := exec.Command("sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if p.Err() != nil {
		t.Error("ended before it was stopped:", p.Err())
	}
	p.Stop(50 * time.Millisecond)
	p.Stop(time.Second)
	if p.Err() == nil {
		t.Error("a killed program reported success")
	}
	await.True(t, "the grandchild to end", func() bool { return gone(grandchild) })
}

func TestEndingAloneIsReported(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Err() == nil || !strings.Contains(p.Err().Error(), "3") {
		t.Errorf("exit status 3 reported as %v", p.Err())
	}
	p.Stop(time.Second)
}

func TestMissingProgram(t *testing.T) {
	_, err := Start(exec.Command("no-such-program-here"))
	if err == nil || !NotFound(err) {
		t.Errorf("missing program reported as %v", err)
	}
}

// gone says whether a process has ended; a zombie has.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tail Tail
	if tail.LastLine() != "" {
		t.Error("an empty tail has a last line")
	}
	for i := range 1000 {
		fmt.Fprintf(&tail, "line %d\n\n", i)
	}
	if len(tail.String()) > tailBytes || tail.LastLine() != "line 999" {
		t.Errorf("%d bytes that end in %q", len(tail.String()), tail.LastLine())
	}
}
