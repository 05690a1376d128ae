package main

import (
	"errors"
	"os"
	"testing"
)

func TestRunFileIsFoundWhileItsProcessLives(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	if _, err := findRun(""); !errors.Is(err, errNotRunning) {
		t.Fatalf("nothing runs: %v", err)
	}
	dir := t.TempDir()
	remove, err := writeRun(dir, &runFile{NATS: "nats://x", PID: os.Getpid(), ClickHouseNative: "clickhouse://w"})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{dir, ""} {
		r, err := findRun(data)
		if err != nil || r.NATS != "nats://x" || r.ClickHouseNative != "clickhouse://w" {
			t.Errorf("findRun(%q) gives %+v, %v", data, r, err)
		}
	}
	remove()
	if _, err := findRun(dir); !errors.Is(err, errNotRunning) {
		t.Errorf("after it ended: %v", err)
	}
	if _, err := writeRun(dir, &runFile{PID: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if _, err := findRun(dir); !errors.Is(err, errNotRunning) {
		t.Errorf("left behind by a killed process: %v", err)
	}
}

func TestSecretsAreMadeOnceAndPrivate(t *testing.T) {
	dir := t.TempDir()
	a, err := loadSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadSecrets(dir)
	if err != nil || string(a.TokenKey) != string(b.TokenKey) || a.AdminToken != b.AdminToken {
		t.Errorf("the second start has other secrets (%v)", err)
	}
	st, err := os.Stat(dir + "/secrets.json")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("secrets are readable by others: %v %v", st.Mode(), err)
	}
	if err := os.WriteFile(dir+"/secrets.json", []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadSecrets(dir); err == nil {
		t.Error("a secrets file without keys was taken")
	}
}
