package launcher

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopLimit is how long an ordered stop may take before the process ends itself. A kill is safe for the data
	// (the parent repairs the deduplication log at the next start), an orphan that hangs for ever is not.
	stopLimit = 15 * time.Second
	// halfCloseEvery is how often connections accepted meanwhile are looked for during a stop.
	halfCloseEvery = 50 * time.Millisecond
)

// Run hosts the server and returns the process's exit code: 0 after a requested stop, 2 when it could not start or
// ended by itself. Call it on the main goroutine, first thing in main, and pass its result to os.Exit.
func Run(args []string) int {
	runtime.LockOSThread() // ClickHouse's main runs, and ends, on the thread that called it
	status := os.NewFile(StatusFD, "status")
	unix.CloseOnExec(StatusFD)
	unix.CloseOnExec(LockFD)
	l := &launch{status: status, up: make(chan Status, 1)}
	err := l.run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "clickhouse-server:", err)
		l.report(Status{Error: err.Error()})
		return 2
	}
	return 0
}

// launch is one server's life inside this process.
type launch struct {
	cfg    Config
	status *os.File
	once   sync.Once

	up         chan Status // the listeners' ports; buffered, at most one
	ports      atomic.Pointer[Status]
	stopOnce   sync.Once
	stopping   atomic.Bool
	bootFailed atomic.Bool
	stopScript *os.File // write end of the pipe ClickHouse reads its last statements from
	terminal   *os.File // nil until the pseudo-terminal is in place
}

func (l *launch) run(args []string) error {
	cfg, err := parseArgs(args)
	if err != nil {
		return err
	}
	l.cfg = cfg
	if _, err := os.Stat(cfg.ConfigFile); err != nil {
		return fmt.Errorf("read the ClickHouse configuration: %w", err)
	}
	lib, err := loadLibrary(cfg.Library)
	if err != nil {
		return err
	}
	lib.setSignalHandler(0) // Go keeps its own; a crash then ends the process at once instead of after 4 s

	// Descriptor 0 is the parent's pipe: its end of file means that the parent is gone. It must be saved before
	// the terminal takes its place.
	parentFD, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 5)
	if err != nil {
		return fmt.Errorf("keep the pipe to the parent: %w", err)
	}
	parent := os.NewFile(uintptr(parentFD), "parent")

	scripts, reports, err := l.scripts()
	if err != nil {
		return err
	}
	if l.terminal, err = terminalOnStdin(); err != nil {
		return err
	}

	own := []string{cfg.DataPath, filepath.Dir(cfg.ConfigFile)}
	if err := confine(own); errors.Is(err, errNoLandlock) {
		fmt.Fprintln(os.Stderr, "clickhouse-server: warning: file reads are limited by SQL checks alone:", err)
	} else if err != nil {
		return fmt.Errorf("confine ClickHouse to its own files: %w", err)
	}

	l.watchSignals()
	go func() {
		_, _ = io.Copy(io.Discard, parent)
		l.stop("the parent process is gone")
	}()
	go l.watchBoot(reports)

	msg := lib.run(l.commandLine(scripts))
	runtime.KeepAlive(scripts) // ClickHouse opens them by number; a finaliser must not close them
	switch {
	case msg != "":
		return errors.New(msg)
	case l.bootFailed.Load():
		return errors.New("ClickHouse's listeners did not come up")
	case !l.stopping.Load():
		return errors.New("ClickHouse ended without being asked to")
	}
	return nil
}

// scripts prepares what ClickHouse executes, in this order: boot (open the listeners, report their ports), done
// (executed even when boot failed half-way, because interactive mode goes on after an error), stop (blocks in
// read until stop writes to it and closes it, which makes the server's life as long as we want). All three and
// the report are pipes, so nothing is left in the data directory whatever happens.
func (l *launch) scripts() (read []*os.File, reports *os.File, err error) {
	var write [3]*os.File
	read = make([]*os.File, 3)
	for i := range read {
		if read[i], write[i], err = os.Pipe(); err != nil {
			return nil, nil, fmt.Errorf("make a pipe: %w", err)
		}
	}
	reports, reportTo, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	// The write end stays open for the process's life: ClickHouse opens its own through /proc for each statement.
	out := procFD(reportTo)
	boot := "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP;\n" +
		"SELECT getServerPort('tcp_port') AS tcp, getServerPort('http_port') AS http, version() AS version" +
		" INTO OUTFILE '" + out + "' APPEND FORMAT JSONEachRow;\n"
	done := "SELECT 'booted' AS error INTO OUTFILE '" + out + "' APPEND FORMAT JSONEachRow;\n"
	for i, sql := range []string{boot, done} {
		if _, err := io.WriteString(write[i], sql); err != nil {
			return nil, nil, fmt.Errorf("write the boot script: %w", err)
		}
		if err := write[i].Close(); err != nil {
			return nil, nil, fmt.Errorf("write the boot script: %w", err)
		}
	}
	l.stopScript = write[2]
	return read, reports, nil
}

func procFD(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

func (l *launch) commandLine(scripts []*os.File) []string {
	args := []string{
		"clickhouse",
		"--path=" + l.cfg.DataPath,
		"--config-file=" + l.cfg.ConfigFile,
		"--log-level=" + l.cfg.LogLevel,
		"--listen_host=" + l.cfg.ListenHost,
		"--tcp_port=" + strconv.Itoa(l.cfg.TCPPort),
		"--http_port=" + strconv.Itoa(l.cfg.HTTPPort),
		// Interactive, because batch mode ends the process on any connection's error; the rest makes it quiet.
		"--interactive", "--disable_suggestion", "--history_file=/dev/null", "--highlight=0",
		"--progress=off", "--progress-table=off", "--chime=0", "--echo=0",
		"--queries-file",
	}
	for _, f := range scripts {
		args = append(args, procFD(f))
	}
	return args
}

// watchBoot reads what the boot scripts report and passes the ports on to the parent.
func (l *launch) watchBoot(reports *os.File) {
	lines := bufio.NewScanner(reports)
	for lines.Scan() {
		var st Status
		if err := json.Unmarshal(lines.Bytes(), &st); err != nil {
			fmt.Fprintf(os.Stderr, "clickhouse-server: unreadable boot report %q: %v\n", lines.Text(), err)
			continue
		}
		if st.Error == "" {
			l.ports.Store(&st)
			l.report(st)
			continue
		}
		if l.ports.Load() == nil { // the end of the boot scripts without any ports
			l.bootFailed.Store(true)
			l.stop("the listeners did not come up")
		}
		return
	}
}

// report sends the parent its one message; later calls do nothing.
func (l *launch) report(st Status) {
	l.once.Do(func() {
		if err := json.NewEncoder(l.status).Encode(st); err != nil {
			fmt.Fprintln(os.Stderr, "clickhouse-server: report to the parent:", err)
		}
		_ = l.status.Close()
	})
}

func (l *launch) watchSignals() {
	signal.Ignore(syscall.SIGPIPE) // clients go away in mid-answer all the time
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		for s := range sig {
			go l.stop(s.String())
		}
	}()
}

// stop ends the server in order: no new connections, a grace period for running queries, then they are killed,
// and connections that are merely open are half-closed until ClickHouse's main returns. It does not return.
func (l *launch) stop(why string) {
	l.stopOnce.Do(func() {
		l.stopping.Store(true)
		fmt.Fprintln(os.Stderr, "clickhouse-server: stopping:", why)
		time.AfterFunc(stopLimit, func() {
			fmt.Fprintln(os.Stderr, "clickhouse-server: the stop took longer than", stopLimit, "- ending the process")
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		})
		fmt.Fprintf(l.stopScript, "SYSTEM STOP LISTEN TCP; SYSTEM STOP LISTEN HTTP;\n"+
			"SELECT sleep(%g) FORMAT Null;\n"+
			"KILL QUERY WHERE query_id != queryID() ASYNC FORMAT Null;\n", l.cfg.Grace.Seconds())
		_ = l.terminal.Close()
		_ = l.stopScript.Close()
		time.Sleep(l.cfg.Grace)
		for {
			if p := l.ports.Load(); p != nil {
				halfCloseAccepted(p.TCPPort, p.HTTPPort)
			}
			time.Sleep(halfCloseEvery)
		}
	})
}
