package publisher

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway-live/spillway/testenv/await"
)

// The environment of a test binary that plays the program to be killed.
const (
	helperURL   = "PUBLISHER_TEST_URL"
	helperInput = "PUBLISHER_TEST_INPUT"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(helperURL); url != "" {
		p := &Publisher{URL: url, Input: os.Getenv(helperInput), Width: 320, Height: 180}
		fmt.Println(p.Run(context.Background()))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestNoFFmpegIsLeftBehind kills the publishing program with kill -9, and ends another by its context.
func TestNoFFmpegIsLeftBehind(t *testing.T) {
	t.Parallel()
	needFFmpeg(t)
	file := makeClip(t, Clip{Seconds: 1, BitrateKbps: 300})
	for name, input := range map[string]string{"card": "", "file": file} {
		t.Run("killed/"+name, func(t *testing.T) {
			s := newSink(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), helperURL+"="+s.url("orphan"), helperInput+"="+input)
			cmd.Stdout = t.Output()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			s.first(t, 5)
			pids := ffmpegsPushingTo(t, s.url("orphan"))
			if len(pids) != 1 {
				t.Fatalf("running before: %v", pids)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			awaitNone(t, s.url("orphan"))
		})
		t.Run("ended/"+name, func(t *testing.T) {
			s := newSink(t)
			stop := publish(t, &Publisher{URL: s.url("ended"), Input: input, Width: 320, Height: 180})
			s.first(t, 5)
			stop()
			if left := ffmpegsPushingTo(t, s.url("ended")); len(left) != 0 {
				t.Errorf("Run has returned, still running: %v", left)
			}
		})
	}
	t.Run("ended while halted", func(t *testing.T) {
		s := newSink(t)
		stop := publish(t, &Publisher{URL: s.url("halted"), Width: 320, Height: 180})
		s.first(t, 5)
		pid := childPID(t, s.url("halted"))
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		stop()
		if left := ffmpegsPushingTo(t, s.url("halted")); len(left) != 0 {
			t.Errorf("still there: %v", left)
		}
	})
}

func awaitNone(t *testing.T, url string) {
	t.Helper()
	await.Text(t, "no ffmpeg is left behind", func() string {
		if left := ffmpegsPushingTo(t, url); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
}

// ffmpegsPushingTo lists the processes that have a URL among their arguments. Ended ones have none.
func ffmpegsPushingTo(t *testing.T, url string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Skip("this system does not list processes")
	}
	var found []string
	for _, file := range all {
		if line, _ := os.ReadFile(file); strings.Contains(string(line), url) {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	return found
}
