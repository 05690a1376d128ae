package console

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/running"
	"github.com/spillway-live/spillway/workers/router"
)

const (
	// askedPerSecond are requests to both routers together while the registry changes.
	askedPerSecond = 2000
	// askers are connections that they come over.
	askers = 16
	// settled is how many answers in a row, from each router, must have the new state before the old one counts as gone.
	settled = askedPerSecond / 2
	// switched is the CDN that is taken out of service and back.
	switched = "switched"
)

// BenchmarkRegistryChange takes a CDN out of service over the console's HTTP, and puts it back, while two routers are
// asked for dispatch, manifests and steering 2,000 times a second. Each has a connection of its own to the bus, over
// loopback. last-old-ms is how long after the console had answered the change the last answer of either router arrived
// that was still of the state before, in the median of all changes; max-old-ms is the worst of them, and accepted-ms how
// long the console took to answer, at worst. bus=restarted stops the bus and starts it again before each change, which
// is sent at once, and again while the console answers 503.
//
//	go test ./dashboards/console -run xxx -bench RegistryChange -benchtime 20x
func BenchmarkRegistryChange(b *testing.B) {
	for _, restarted := range []bool{false, true} {
		name := "bus=steady"
		if restarted {
			name = "bus=restarted"
		}
		b.Run(name, func(b *testing.B) {
			s := newSwitching(b)
			in := true
			var last, accepted []float64
			for b.Loop() {
				if restarted {
					s.server.Stop()
					s.startBus()
				}
				in = !in
				s.answers.expect(in)
				sent := time.Now()
				done := s.set(in)
				accepted = append(accepted, ms(done.Sub(sent)))
				last = append(last, ms(s.answers.wait(b, done)))
			}
			slices.Sort(last)
			b.ReportMetric(last[len(last)/2], "last-old-ms")
			b.ReportMetric(last[len(last)-1], "max-old-ms")
			b.ReportMetric(slices.Max(accepted), "accepted-ms")
			b.ReportMetric(s.answers.rate(), "answers/s")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// switching is a bus with a console and two routers that are asked all the time.
type switching struct {
	b       *testing.B
	options bus.Options
	server  *bus.Server
	console *Console
	answers *switchedAnswers
}

func newSwitching(b *testing.B) *switching {
	s := &switching{b: b, options: bus.Options{DataDir: b.TempDir()}}
	s.startBus()
	b.Cleanup(func() { s.server.Stop() })
	js := s.connect("console")
	for i, name := range []string{"a", "b", switched} {
		put(b, bucket(b, js, schemas.BucketCDNs), name, schemas.CDN{Name: name, BaseURL: "http://" + name + ".example", State: schemas.CDNActive, Order: i})
	}
	put(b, bucket(b, js, schemas.BucketStreams), demo.KVKey(), schemas.StreamState{
		App: demo.App, Stream: demo.Stream, Live: true, UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(),
		Epoch: schemas.EpochOpen{Epoch: 1, Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.64001f"}}},
	})
	s.console = start(b, Settings{JetStream: js, ClickHouse: nowhere, AdminToken: "sesame"})
	signer, err := token.NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		b.Fatal(err)
	}
	var routers []string
	for i := range 2 {
		r, err := router.New(router.Settings{JS: s.connect(fmt.Sprint("router ", i)), Signer: signer, ViewerSalt: make([]byte, 16)})
		if err != nil {
			b.Fatal(err)
		}
		running.Start(b, r.Run).Ready(r.Ready())
		routers = append(routers, r.URL())
	}
	s.answers = ask(b, routers)
	return s
}

func (s *switching) startBus() {
	var err error
	if s.server, err = bus.Start(s.options); err != nil {
		s.b.Fatal(err)
	}
}

// connect gives one of the processes a connection of its own to the bus.
func (s *switching) connect(name string) jetstream.JetStream {
	nc, err := bus.Connect(s.server.URL(), name, nil)
	if err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(nc.Close)
	if s.options.Port == 0 { // that of the first start
		if _, err := fmt.Sscan(nc.ConnectedAddr()[strings.LastIndex(nc.ConnectedAddr(), ":")+1:], &s.options.Port); err != nil {
			s.b.Fatal(err)
		}
	}
	js, err := bus.JetStream(s.b.Context(), nc, schemas.BusSettings{})
	if err != nil {
		s.b.Fatal(err)
	}
	return js
}

// set puts the CDN into service or out of it, as often as it takes, and gives when the console said that it is.
func (s *switching) set(in bool) time.Time {
	body := `{"state":"off"}`
	if in {
		body = `{"state":"active"}`
	}
	for deadline := time.Now().Add(time.Minute); ; {
		r, err := http.NewRequestWithContext(s.b.Context(), http.MethodPatch, s.console.URL()+"/v1/settings/cdns/"+switched, strings.NewReader(body))
		if err != nil {
			s.b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer sesame")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			s.b.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode < 300 {
			return time.Now()
		}
		if resp.StatusCode != http.StatusServiceUnavailable || time.Now().After(deadline) {
			s.b.Fatalf("%s: %s", resp.Status, text)
		}
		if err := nap.For(s.b.Context(), 10*time.Millisecond); err != nil { // as a script that tries again
			s.b.Fatal(err)
		}
	}
}

// switchedAnswers are what routers say of the switched CDN.
type switchedAnswers struct {
	began time.Time

	mu      sync.Mutex
	want    bool
	lastOld time.Time
	inARow  []int // answers with the new state since the last with the old one, by router
	all     int
	err     error
	changed chan struct{} // has something when all are settled, or an answer was none
}

// ask begins to ask the routers, by turns, for each kind of answer by turns, until the benchmark ends.
func ask(b *testing.B, routers []string) *switchedAnswers {
	a := &switchedAnswers{began: time.Now(), want: true, inARow: make([]int, len(routers)), changed: make(chan struct{}, 1)}
	var addresses [][]string // by router and kind
	for _, r := range routers {
		var d schemas.Dispatch
		getJSON(b, r+"/v1/dispatch?app="+demo.App+"&stream="+demo.Stream, &d)
		addresses = append(addresses, []string{r + "/v1/dispatch?app=" + demo.App + "&stream=" + demo.Stream, d.URL, r + "/v1/steering?s=" + d.Token + "&_HLS_pathway=a"})
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: askers}}
	due := make(chan int, askedPerSecond)
	stop, done := make(chan struct{}), sync.WaitGroup{}
	done.Go(func() {
		defer close(due)
		const every = time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				for ; n < int(now.Sub(a.began).Seconds()*askedPerSecond) && len(due) < cap(due); n++ {
					due <- n
				}
			}
		}
	})
	for range askers {
		done.Go(func() {
			for n := range due {
				of := addresses[n%len(routers)]
				a.take(n%len(routers), client, of[n/len(routers)%len(of)])
			}
		})
	}
	b.Cleanup(func() {
		close(stop)
		done.Wait()
		client.CloseIdleConnections()
	})
	return a
}

// take asks once and notes which state the answer has.
func (a *switchedAnswers) take(router int, client *http.Client, address string) {
	resp, err := client.Get(address)
	var text []byte
	if err == nil {
		if text, err = io.ReadAll(resp.Body); err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s: %s", address, resp.Status, text)
		}
		resp.Body.Close()
	}
	at := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all++
	switch {
	case err != nil:
		a.err = err
	case strings.Contains(string(text), `"`+switched+`"`) == a.want:
		if a.inARow[router]++; slices.Min(a.inARow) < settled {
			return
		}
	default:
		a.lastOld, a.inARow[router] = at, 0
		return
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// expect says what is new from now on.
func (a *switchedAnswers) expect(in bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.want, a.lastOld = in, time.Time{}
	clear(a.inARow)
	select {
	case <-a.changed:
	default:
	}
}

// wait gives how long after a moment the last answer of the old state came, once no more of them come.
func (a *switchedAnswers) wait(b *testing.B, from time.Time) time.Duration {
	select {
	case <-a.changed:
	case <-time.After(time.Minute):
		b.Fatal("routers answer with the old state a minute after the change")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		b.Fatal(a.err)
	}
	return max(a.lastOld.Sub(from), 0)
}

// rate is how many answers a second there were.
func (a *switchedAnswers) rate() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return float64(a.all) / time.Since(a.began).Seconds()
}
