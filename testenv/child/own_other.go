//go:build !linux

package child

import (
	"os"
	"os/exec"
)

func own(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) {
	if cmd.Process.Signal(os.Interrupt) != nil {
		kill(cmd)
	}
}

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
