package child

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
)

func TestStartJSON(t *testing.T) {
	// More than a pipe holds comes behind the line; it must not stop the program.
	cmd := exec.Command("sh", "-c", `echo '{"port": 7}'; head -c 300000 /dev/zero; exit 3`)
	var ready struct{ Port int }
	p, err := StartJSON(t.Context(), cmd, &ready, await.Limit)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(time.Second)
	if ready.Port != 7 {
		t.Errorf("decoded %+v", ready)
	}
	select {
	case <-p.Done():
	case <-time.After(await.Limit):
		t.Fatal("it is stuck in writing")
	}
	if cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("ended with %v", p.Err())
	}
}

func TestStartJSONSaysWhyNot(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	for name, c := range map[string]struct {
		ctx    context.Context
		script string
		limit  time.Duration
		want   string
	}{
		"ends":      {t.Context(), "echo no port free >&2; exit 1", await.Limit, "no port free"},
		"no JSON":   {t.Context(), "echo hello; sleep 600", await.Limit, "hello"},
		"never":     {t.Context(), "sleep 600", time.Millisecond, "not ready after 1ms"},
		"cancelled": {ended, "sleep 600", await.Limit, context.Canceled.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", c.script)
			cmd.Stderr = &Tail{}
			var ready struct{}
			_, err := StartJSON(c.ctx, cmd, &ready, c.limit)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if cmd.ProcessState == nil {
				t.Error("it was left running")
			}
		})
	}
	if _, err := StartJSON(t.Context(), exec.Command("no-such-program-here"), nil, await.Limit); !NotFound(err) {
		t.Errorf("a missing program reported as %v", err)
	}
	if _, err := StartJSON(ended, exec.Command("sh", "-c", "sleep 600"), nil, await.Limit); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled start reported as %v", err)
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("CHILD_TEST_KEPT", "1")
	t.Setenv("CHILD_TEST_SETTING_A", "1")
	got := Environ("CHILD_TEST_SETTING_", "NONE_")
	if !slices.Contains(got, "CHILD_TEST_KEPT=1") || slices.Contains(got, "CHILD_TEST_SETTING_A=1") {
		t.Errorf("gave %v", got)
	}
}
