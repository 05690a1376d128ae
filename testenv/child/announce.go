package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// maxAnnouncement bounds the line that a program says first, bytes.
const maxAnnouncement = 1 << 20

// stopGrace is what a program that did not get ready has to end.
const stopGrace = 8 * time.Second

// StartJSON starts a program that prints one line of JSON on standard output
// when it is ready, decodes the line into v, and gives the running program. What
// it prints afterwards is read and dropped. A program that is not ready within
// limit, ends before, or says something else is stopped; where standard error
// goes to a [Tail], the error tells what it said there.
func StartJSON(ctx context.Context, cmd *exec.Cmd, v any, limit time.Duration) (*Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	p, err := Start(cmd)
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	line := make(chan error, 1)
	go func() {
		defer r.Close()
		line <- readLine(r, v)
		_, _ = io.Copy(io.Discard, r) // a full pipe would stop it
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err = <-line:
	case <-timer.C:
		err = fmt.Errorf("not ready after %s", limit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return p, nil
	}
	p.Stop(stopGrace)
	if said, ok := cmd.Stderr.(*Tail); ok {
		err = fmt.Errorf("%w: it said: %s", err, strings.TrimSpace(said.String()))
	}
	return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
}

func readLine(r io.Reader, v any) error {
	text, err := bufio.NewReader(io.LimitReader(r, maxAnnouncement)).ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it ended before it was ready")
	case err != nil:
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("its first line %.200q: %w", text, err)
	}
	return nil
}

// Environ is this process's environment without the variables whose names begin
// with one of these prefixes: settings of the caller that must not reach a child.
func Environ(without ...string) []string {
	var env []string
next:
	for _, v := range os.Environ() {
		for _, p := range without {
			if strings.HasPrefix(v, p) {
				continue next
			}
		}
		env = append(env, v)
	}
	return env
}
