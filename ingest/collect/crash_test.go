package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
)

const (
	childBus   = "SPILLWAY_TEST_COLLECTOR_BUS"
	childSpool = "SPILLWAY_TEST_COLLECTOR_SPOOL"
)

// TestCollectorChild is the collector process of TestKilledCollector; alone it does nothing.
func TestCollectorChild(t *testing.T) {
	url := os.Getenv(childBus)
	if url == "" {
		t.Skip("only as a child process")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	nc, err := bus.Connect(url, "child", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Settings{JS: js, Listener: l, SpoolDir: os.Getenv(childSpool), FlushAfter: 2 * time.Millisecond, SpoolAfter: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("listening %s\n", l.Addr())
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

type child struct {
	cmd *exec.Cmd
	url string
}

func startChild(t *testing.T, busURL, spool string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCollectorChild$")
	cmd.Env = append(os.Environ(), childBus+"="+busURL, childSpool+"="+spool)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	buf := make([]byte, 1)
	for !strings.Contains(b.String(), "\n") {
		if _, err := out.Read(buf); err != nil {
			t.Fatalf("the child says %q and ends: %v", b.String(), err)
		}
		b.Write(buf)
	}
	addr, ok := strings.CutPrefix(strings.TrimSpace(b.String()), "listening ")
	if !ok {
		t.Fatalf("the child says %q", b.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return &child{cmd, "http://" + addr}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()         // killed
}

// Every report answered 204 is on the bus in the end, whatever was killed: the
// collector at any moment (five times), the bus in between.
func TestKilledCollector(t *testing.T) {
	dir := t.TempDir()
	srv, err := bus.Start(bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { srv.Stop() }()
	busURL := srv.URL()
	port, err := strconv.Atoi(busURL[strings.LastIndexByte(busURL, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(busURL, t.Name(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	spool := t.TempDir()
	var (
		mu       sync.Mutex
		current  *child
		accepted = map[string]bool{}
	)
	set := func(c *child) { mu.Lock(); current = c; mu.Unlock() }
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(accepted) }
	set(startChild(t, busURL, spool))
	defer func() { current.kill() }()

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 20 * time.Second}
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				mu.Lock()
				url := current.url
				mu.Unlock()
				sid := fmt.Sprint("w", w)
				res, err := client.Post(url+"/v1/cmcd", "application/cmcd", strings.NewReader(fmt.Sprintf("e=t,sid=%q,sn=%d,v=2\n", sid, i)))
				if err != nil {
					continue // killed before it answered: no promise was made
				}
				res.Body.Close()
				if res.StatusCode != http.StatusNoContent {
					t.Errorf("answered %d", res.StatusCode)
				} else {
					mu.Lock()
					accepted[sid+"/"+strconv.Itoa(i)] = true
					mu.Unlock()
				}
			}
		})
	}
	more := func(n int) { // waits until n reports more are accepted
		t.Helper()
		start := count()
		await.True(t, "more reports are accepted", func() bool { return count() >= start+n })
	}
	for round := range 5 {
		more(40)
		if round%2 == 1 { // the child is killed while it writes to the spool, and started when the bus is back
			srv.Stop()
			more(40)
		}
		current.kill()
		if round%2 == 1 {
			if srv, err = bus.Start(bus.Options{DataDir: dir, Port: port}); err != nil {
				t.Fatal(err)
			}
		}
		set(startChild(t, busURL, spool))
	}
	more(40)
	stop()
	wg.Wait()
	if err := current.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := current.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	} else if exit != nil {
		t.Errorf("the collector ended with %v when asked to stop", exit)
	}
	set(startChild(t, busURL, spool)) // whatever is still in the spool

	cons, err := js.OrderedConsumer(t.Context(), schemas.StreamTelemetry, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		t.Fatal(err)
	}
	rows, highest := map[string]int{}, map[string]uint64{}
	missing := func() (n int) {
		for k := range accepted {
			if rows[k] == 0 {
				n++
			}
		}
		return n
	}
	deadline := time.Now().Add(await.Limit)
	for missing() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d accepted reports are not on the bus", missing(), len(accepted))
		}
		msg, err := cons.Next(jetstream.FetchMaxWait(300 * time.Millisecond))
		if err != nil {
			continue
		}
		key := msg.Headers().Get(schemas.HeaderProducer) + msg.Subject()
		seq, err := strconv.ParseUint(msg.Headers().Get(schemas.HeaderProducerSeq), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if seq <= highest[key] {
			continue // as docs/contracts.md asks
		}
		highest[key] = seq
		batch, err := schemas.DecodeTelemetry(msg.Data())
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			rows[batch[i].SessionID+"/"+strconv.FormatInt(batch[i].Seq.V, 10)]++
		}
	}
	for k, n := range rows {
		if n != 1 {
			t.Errorf("report %s is there %d times", k, n)
		}
	}
	t.Logf("%d reports accepted, %d rows on the bus, %d producers", len(accepted), len(rows), len(highest))
}
