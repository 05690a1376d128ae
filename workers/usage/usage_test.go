package usage

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

type rig struct {
	t      *testing.T
	b      *bustest.Bus
	kv     jetstream.KeyValue
	signer *token.Signer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	b := bustest.Start(t)
	r := &rig{t: t, b: b}
	var err error
	if r.signer, err = token.NewSigner([]byte("0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	if r.kv, err = b.JS.KeyValue(t.Context(), schemas.BucketUsage); err != nil {
		t.Fatal(err)
	}
	cdns, err := b.JS.KeyValue(t.Context(), schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "sampled"} {
		v, err := json.Marshal(schemas.CDN{Name: name, BaseURL: "http://" + name, State: schemas.CDNActive, LogSample: map[string]float64{"sampled": 0.01}[name]})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cdns.Put(t.Context(), name, v); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// run starts a counter; kill ends it as it stands.
func (r *rig) run() (kill func()) {
	return running.Start(r.t, (&Counter{JetStream: r.b.JS, Signer: r.signer}).Run).Stop
}

func (r *rig) send(partition int, s ...schemas.Slice) uint64 {
	r.t.Helper()
	data, err := schemas.EncodeSlices(s)
	if err != nil {
		r.t.Fatal(err)
	}
	a, err := r.b.JS.Publish(r.t.Context(), schemas.SlicesSubject(partition), data)
	if err != nil {
		r.t.Fatal(err)
	}
	return a.Sequence
}

func (r *rig) stored() *schemas.Usage {
	u, _, err := load(r.t.Context(), r.kv)
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func (r *rig) await(seq uint64) *schemas.Usage {
	r.t.Helper()
	await.Text(r.t, "all is counted", func() string {
		if u := r.stored(); u.Seq < seq {
			return fmt.Sprintf("counted to %d of %d", u.Seq, seq)
		}
		return ""
	})
	return r.stored()
}

func TestWhatCounts(t *testing.T) {
	r := newRig(t)
	kill := r.run()
	defer kill()
	nov, dec := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	own := r.signer.NewSessionID()
	played := func(id, cdn string, at time.Time, kbps, ms, edge int64) schemas.Slice {
		return schemas.Slice{Kind: schemas.SliceDelta, SessionID: id, CDN: cdn, TimeUnixMs: at.UnixMilli(), BitrateKbpsMsSum: kbps * ms, BitrateWeightMs: ms, RequestBytes: edge}
	}
	r.send(0, played(own, "a", nov, 8000, 1000, 0), played(own, "a", dec, 8000, 2000, 0), played(own, "a", dec, 8000, -1000, 0))
	r.send(1, played("made-up", "a", nov, 8000, 1000, 0), played(own, "nowhere", nov, 8000, 1000, 5000), played(own, "", nov, 8000, 1000, 5000))
	if _, err := r.b.JS.Publish(t.Context(), schemas.SlicesSubject(2), []byte("not slices")); err != nil {
		t.Fatal(err)
	}
	u := r.await(r.send(1, played("foreign", "b", nov, 8000, 1000, 700), played(own, "b", nov, 8000, 1, 500), played("foreign", "sampled", nov, 0, 1, 7)))
	want := map[string]map[string]schemas.Volume{
		"2026-11": {"a": {PlayedBytes: 1_000_000}, "b": {EdgeBytes: 1200, PlayedBytes: 1000}, "sampled": {EdgeBytes: 700}},
		"2026-12": {"a": {PlayedBytes: 1_000_000}},
	}
	if fmt.Sprint(u.Months) != fmt.Sprint(want) || u.MissedMessages != 0 {
		t.Errorf("counted %+v, want %v", u, want)
	}
	if got := u.GB("b", nov); got != 1200/1e9 {
		t.Errorf("b delivered %v GB", got)
	}
	for v, want := range map[schemas.Volume]int64{
		{EdgeBytes: 5, PlayedBytes: 900}: 5, {EdgeBytes: 9, PlayedBytes: 5}: 9, {PlayedBytes: 7}: 7, {PlayedBytes: -7}: 0,
	} {
		if got := v.Bytes(); got != want {
			t.Errorf("%+v: %d bytes, want %d", v, got, want)
		}
	}
}

// TestKilledAndBesideEachOther: counters are killed and started while slices
// come, two at a time, and every slice counts once.
func TestKilledAndBesideEachOther(t *testing.T) {
	r := newRig(t)
	id := r.signer.NewSessionID()
	const messages = 400
	want, last := int64(0), uint64(0)
	kills := []func(){r.run(), r.run()}
	for i := range messages {
		n := rand.Int64N(1000) + 1
		want += n
		last = r.send(i%4, schemas.Slice{Kind: schemas.SliceDelta, SessionID: id, CDN: "a", TimeUnixMs: 1_795_000_000_000, RequestBytes: n})
		if i%40 == 39 {
			kills[i/40%2]()
			kills[i/40%2] = r.run()
		}
	}
	u := r.await(last)
	for _, kill := range kills {
		kill()
	}
	if got := u.Months["2026-11"]["a"].EdgeBytes; got != want || u.MissedMessages != 0 {
		t.Errorf("counted %d bytes, want %d; %d messages missed", got, want, u.MissedMessages)
	}
	// What is purged unread is told, and what comes then counts.
	st, err := r.b.JS.Stream(t.Context(), schemas.StreamSlices)
	if err != nil {
		t.Fatal(err)
	}
	r.send(0, schemas.Slice{Kind: schemas.SliceDelta, SessionID: id, CDN: "a", TimeUnixMs: 1_795_000_000_000, RequestBytes: 7})
	if err := st.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	last = r.send(0, schemas.Slice{Kind: schemas.SliceDelta, SessionID: id, CDN: "a", TimeUnixMs: 1_795_000_000_000, RequestBytes: 5})
	kill := r.run()
	defer kill()
	if u := r.await(last); u.MissedMessages != 1 || u.Months["2026-11"]["a"].EdgeBytes != want+5 {
		t.Errorf("%+v, want %d bytes and one message missed", u, want+5)
	}
	// An entry that was removed is counted anew, from what the bus holds.
	if err := r.kv.Delete(t.Context(), schemas.UsageKey); err != nil {
		t.Fatal(err)
	}
	last = r.send(0, schemas.Slice{Kind: schemas.SliceDelta, SessionID: id, CDN: "a", TimeUnixMs: 1_795_000_000_000, RequestBytes: 3})
	if u := r.await(last); u.Months["2026-11"]["a"].EdgeBytes != 5+3 {
		t.Errorf("%+v, want 8 bytes", u)
	}
}

// TestBillsAreTold: while slices come, each CDN of the registry has a bill on the bus, also one that delivered nothing.
func TestBillsAreTold(t *testing.T) {
	r := newRig(t)
	kill := r.run()
	defer kill()
	st, err := r.b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err != nil {
		t.Fatal(err)
	}
	subject := schemas.EventSubject(&schemas.Event{Kind: schemas.EventCDNState})
	cdns := map[string]bool{}
	for seq := uint64(1); len(cdns) < 3; {
		var m *jetstream.RawStreamMsg
		await.True(t, "a bill is told", func() bool {
			m, err = st.GetMsg(t.Context(), seq, jetstream.WithGetMsgSubject(subject))
			return err == nil
		})
		var e schemas.Event
		if err := json.Unmarshal(m.Data, &e); err != nil || e.Check() != nil || e.Kind != schemas.EventCDNState {
			t.Fatalf("%s: %v", m.Data, err)
		}
		cdns[e.CDN], seq = true, m.Sequence+1
	}
	if !cdns["a"] || !cdns["b"] || !cdns["sampled"] {
		t.Errorf("bills of %v", cdns)
	}
}

// TestWhatABillSays: in the first day of a month the one before is told too, in its own last moment.
func TestWhatABillSays(t *testing.T) {
	cdns := func(yield func(string, *schemas.CDN) bool) {
		yield("a", &schemas.CDN{Name: "a", CapacityViewers: 9, PricePerGBMicroUSD: 20_000, CommitGB: 100})
	}
	u := &schemas.Usage{Months: map[string]map[string]schemas.Volume{"2026-11": {"a": {EdgeBytes: 150e9}}, "2026-12": {"a": {PlayedBytes: 2_500_000_000}}}}
	december := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	told := bills(u, cdns, december.Add(12*time.Hour))
	if len(told) != 2 {
		t.Fatalf("%d events", len(told))
	}
	for i, want := range []string{"map[capacity_bps:0 capacity_viewers:9 commit_gb:100 commit_share:0.025 gb:2.5 month:2026-12 month_share:", "map[commit_gb:100 commit_share:1.5 gb:150 month:2026-11 month_share:"} {
		if got := fmt.Sprint(told[i].Detail); !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if told[0].Detail["spend_usd"] != "2" || told[1].Detail["spend_usd"] != "3" || told[1].TimeUs >= december.UnixMicro() || told[0].ID == told[1].ID {
		t.Errorf("%+v and %+v", told[0], told[1])
	}
	if told := bills(u, cdns, december.AddDate(0, 0, 2)); len(told) != 1 {
		t.Errorf("%d events on the third day", len(told))
	}
}

// TestGaugeOfTheMonth: a CDN that delivers nothing in a new month is not shown with the last one's sum.
func TestGaugeOfTheMonth(t *testing.T) {
	c := Counter{bytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bytes"}, []string{"cdn"})}
	u := &schemas.Usage{Months: map[string]map[string]schemas.Volume{"2026-11": {"a": {EdgeBytes: 5}, "b": {EdgeBytes: 7}}, "2026-12": {"b": {EdgeBytes: 1}}}}
	reg := prometheus.NewRegistry()
	reg.MustRegister(c.bytes)
	november := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	for _, x := range []struct {
		at    time.Time
		want  int
		bytes float64
	}{{november, 2, 12}, {november.Add(time.Second), 1, 1}, {november.AddDate(0, 0, 40), 0, 0}} {
		c.showMonth(u, x.at)
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n, bytes := 0, 0.0
		for _, f := range all {
			for _, m := range f.Metric {
				n, bytes = n+1, bytes+m.Gauge.GetValue()
			}
		}
		if n != x.want || bytes != x.bytes {
			t.Errorf("%v: %d CDNs with %v bytes, want %d with %v", x.at, n, bytes, x.want, x.bytes)
		}
	}
}

func TestBills(t *testing.T) {
	c := schemas.CDN{PricePerGBMicroUSD: 30_000, PriceTiers: []schemas.PriceTier{{FromGB: 100, PerGBMicroUSD: 20_000}, {FromGB: 1000, PerGBMicroUSD: 5_000}}, CommitGB: 50}
	at := time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)
	for _, x := range []struct{ gb, usd, commit float64 }{{0, 1.5, 0}, {25, 1.5, 0.5}, {100, 3, 2}, {200, 5, 4}, {2000, 3 + 18 + 5, 40}} {
		if b := c.Bill(x.gb, at); b.SpendUSD != x.usd || b.CommitShare != x.commit || b.MonthShare != 0.5 || b.Month != "2026-11" {
			t.Errorf("%v GB: %+v, want %v USD", x.gb, b, x.usd)
		}
	}
}
