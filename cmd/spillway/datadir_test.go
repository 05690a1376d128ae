package main

import (
	"log/slog"
	"net"
	"strings"
	"testing"
)

func TestDataDirHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	release, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("the second owner gets %v, which gives no remedy", err)
	}
	release()
	release, err = lockDataDir(dir)
	if err != nil {
		t.Errorf("after the first one ended: %v", err)
	} else {
		release()
	}
}

func TestBusyPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, busy, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	preferred := port{prefer: busy}
	if addr, err := preferred.choose("x", logger); err != nil || addr != "127.0.0.1:0" {
		t.Errorf("a preferred port that is busy gives %q, %v; want any free one", addr, err)
	}
	var asked port
	if err := asked.Set(busy); err != nil {
		t.Fatal(err)
	}
	if _, err := asked.choose("x", logger); err == nil || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("a port that was asked for and is busy gives %v", err)
	}
	for _, bad := range []string{"x", "70000", "1:2:3"} {
		if err := asked.Set(bad); err == nil {
			t.Errorf("--port %s was taken", bad)
		}
	}
	for _, good := range []string{"0", ":0", "127.0.0.1:0", "[::1]:0"} {
		if err := asked.Set(good); err != nil {
			t.Errorf("--port %s: %v", good, err)
		}
	}
}
