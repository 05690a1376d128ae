package collect

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/geodb"
)

// rig is a collector that listens, on a bus of its own.
type rig struct {
	t    testing.TB
	bus  *bustest.Bus
	c    *Collector
	url  string
	sign *token.Signer
	reg  *prometheus.Registry
	stop func()
	cons jetstream.Consumer
	raw  [][]byte // payloads read so far
}

func newRig(t testing.TB, change func(*Settings)) *rig {
	t.Helper()
	return newRigOn(t, bustest.Start(t), change)
}

func newRigOn(t testing.TB, b *bustest.Bus, change func(*Settings)) *rig {
	t.Helper()
	sign, err := token.NewSigner([]byte("a key of more than sixteen bytes"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, bus: b, url: "http://" + l.Addr().String(), sign: sign, reg: prometheus.NewRegistry()}
	s := Settings{JS: b.JS, Listener: l, SpoolDir: t.TempDir(), Tokens: sign, FlushAfter: 5 * time.Millisecond, Registerer: r.reg}
	if change != nil {
		change(&s)
	}
	if r.c, err = New(s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.c.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	if r.cons, err = b.JS.OrderedConsumer(t.Context(), schemas.StreamTelemetry, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}); err != nil {
		t.Fatal(err)
	}
	return r
}

// token makes a session token.
func (r *rig) token(change func(*token.Session)) string {
	r.t.Helper()
	c := token.Session{
		SessionID: "sess-1", App: "live", Stream: "one", ViewerID: "vhash", CDN: "cdn-a", Arms: "exp=b", Region: "eu", ISP: "Net",
		ExpiresUnix: time.Now().Add(time.Hour).Unix(),
	}
	if change != nil {
		change(&c)
	}
	tok, err := r.sign.SignSession(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return tok
}

// do sends a request and gives status, headers and body. Header pairs are name, value.
func (r *rig) do(method, path, body string, header ...string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(b)
}

// post expects 204.
func (r *rig) post(path, body string, header ...string) {
	r.t.Helper()
	if code, _, text := r.do(http.MethodPost, path, body, header...); code != http.StatusNoContent {
		r.t.Fatalf("POST %s: %d %s", path, code, text)
	}
}

// rows gives the next n rows of the bus, sorted by session and sequence.
func (r *rig) rows(n int) []schemas.Telemetry {
	r.t.Helper()
	var out []schemas.Telemetry
	deadline := time.Now().Add(await.Limit)
	for len(out) < n {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d rows on the bus, want %d", len(out), n)
		}
		msg, err := r.cons.Next(jetstream.FetchMaxWait(200 * time.Millisecond))
		if err != nil {
			continue
		}
		rows, err := schemas.DecodeTelemetry(msg.Data())
		if err != nil {
			r.t.Fatal(err)
		}
		r.raw = append(r.raw, msg.Data())
		out = append(out, rows...)
	}
	if len(out) != n {
		r.t.Fatalf("%d rows on the bus, want %d", len(out), n)
	}
	slices.SortStableFunc(out, func(a, b schemas.Telemetry) int {
		if c := strings.Compare(a.SessionID, b.SessionID); c != 0 {
			return c
		}
		return int(a.Seq.V - b.Seq.V)
	})
	return out
}

// counter gives the sum of a counter over the series whose labels contain all of want.
func (r *rig) counter(name string, want ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			ok := true
			for _, w := range want {
				ok = ok && slices.Contains(values, w)
			}
			if ok {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func gz(t testing.TB, s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func nowMs() string { return strconv.FormatInt(time.Now().UnixMilli(), 10) }

func TestEventBodies(t *testing.T) {
	r := newRig(t, nil)
	line := func(sn int) string {
		return `bl=(6300),br=(510),cid="live/one",e=t,mtp=(46100),sf=h,sid="s1",sn=` + strconv.Itoa(sn) + `,st=l,sta=p,ts=` + nowMs() + `,v=2`
	}
	r.post("/v1/cmcd", line(0)+"\n", "Content-Type", "application/cmcd")
	r.post("/v1/cmcd", line(1), "Content-Type", "text/cmcd; charset=utf-8")
	r.post("/v1/cmcd", line(2)+"\r\n"+line(3), "Content-Type", "text/plain")
	r.post("/v1/cmcd", "\ufeff\n"+line(4)+"\n\n")
	r.post("/v1/cmcd", gz(t, line(5)+"\n  "+line(6)+"\n"), "Content-Encoding", "gzip", "Content-Type", "application/cmcd")
	r.post("/v1/cmcd", "")
	rows := r.rows(7)
	for i, x := range rows {
		if x.Seq.V != int64(i) || x.SessionID != "s1" || x.Source != schemas.SourceCMCDEvent || x.Event != "t" || x.State != "p" ||
			x.BufferMs != (schemas.OptInt32{V: 6300, OK: true}) || x.BitrateKbps.V != 510 || x.ThroughputKbps.V != 46100 ||
			x.App != "live" || x.Stream != "one" || x.Protocol != "h" || x.StreamType != "l" || x.Client != "hls.js" || x.CMCDVersion.V != 2 ||
			x.LiveLatencyMs.OK || x.Gates != "" {
			t.Errorf("row %d: %+v", i, x)
		}
		if d := time.Since(time.UnixMicro(x.ReceivedUnixUs)); d < 0 || d > time.Minute {
			t.Errorf("received %v ago", d)
		}
	}
	if n := r.counter("spillway_collect_accepted_rows_total", "cmcd_event"); n != 7 {
		t.Errorf("%v rows counted", n)
	}
}

// One bad record costs itself alone; one bad member costs itself alone.
func TestBadAmongGood(t *testing.T) {
	r := newRig(t, nil)
	r.post("/v1/cmcd", "e=ps,sid=\"s\",sn=0,v=2\n<html>\nsid=\"s\",sn=9,v=3\nd=x,e=ps,sid=\"s\",sn=1,zz=1,v=2\n"+strings.Repeat("x", 40<<10)+"\ne=t,sid=\"s\",sn=2,ts=5,v=2\n")
	rows := r.rows(3)
	for i, x := range rows {
		if x.Seq.V != int64(i) {
			t.Errorf("row %d: %+v", i, x)
		}
	}
	if rows[2].Gates != "ts" || rows[2].TsUnixMs != rows[2].ReceivedUnixUs/1000 {
		t.Errorf("an event of 1970 has ts %d, gates %q", rows[2].TsUnixMs, rows[2].Gates)
	}
	for _, want := range []string{"useless", "future_version", "oversize"} {
		if n := r.counter("spillway_collect_rejected_records_total", want); n != 1 {
			t.Errorf("rejected for %s: %v", want, n)
		}
	}
	if r.counter("spillway_collect_dropped_members_total", "d", "wrong_type", "") != 1 || r.counter("spillway_collect_dropped_members_total", "unknown_key") != 1 {
		t.Error("dropped members are not counted")
	}
	if r.counter("spillway_collect_corrected_values_total", "ts") != 1 {
		t.Error("gates are not counted")
	}
}

func TestRequestMode(t *testing.T) {
	r := newRig(t, nil)
	tok := r.token(nil)
	if code, _, _ := r.do(http.MethodGet, "/v1/cmcd?t="+tok+"&CMCD=bl%3D700%2Csid%3D%22s%22%2Csn%3D1%2Csu%2Cv%3D2", ""); code != 204 {
		t.Fatal(code)
	}
	if code, _, _ := r.do(http.MethodHead, "/v1/cmcd?CMCD=sid%3D%22s%22%2Csn%3D2", "", "CMCD-Session", `sid="s",v=2`, "CMCD-Request", "sn=3"); code != 204 {
		t.Fatal(code)
	}
	r.post("/v1/cmcd?CMCD=sid%3D%22s%22%2Csn%3D4%2Cv%3D2", "")
	rows := r.rows(3)
	if x := rows[0]; x.Source != schemas.SourceCMCDRequest || x.BufferMs.V != 700 || !x.StartingUp.V || x.Arms != "exp=b" || x.App != "live" {
		t.Errorf("%+v", x)
	}
	if rows[1].Seq.V != 3 || rows[2].Seq.V != 4 {
		t.Errorf("header must outrank query: %+v", rows[1:])
	}
	if code, _, body := r.do(http.MethodGet, "/v1/cmcd", ""); code != 400 || !strings.Contains(body, "CMCD") {
		t.Errorf("without CMCD: %d %s", code, body)
	}
}

func TestTokens(t *testing.T) {
	r := newRig(t, nil)
	rec := func(sid, cid string) string {
		return `cid="` + cid + `",e=t,sid="` + sid + `",sn=0,ts=` + nowMs() + `,v=2`
	}
	good := r.token(nil)
	expired := r.token(func(c *token.Session) { c.ExpiresUnix = 5 })
	r.post("/v1/cmcd?t="+good, "e=ps,sn=0,v=2")
	r.post("/v1/cmcd?t="+good, rec("z-foreign", "x/y"))
	r.post("/v1/cmcd?t="+expired, rec("z-late", "x/y"))
	r.post("/v1/cmcd?t="+good[:len(good)-2]+"AA", rec("z-bad", "x/y"))
	r.post("/v1/cmcd", rec("z-none", "app/stream"))
	r.post("/v1/cmcd", rec("z-odd", "no stream here"))
	r.post("/v1/cmcd", rec("z-auth", "x/y"), "Authorization", "Bearer "+good)
	got := map[string]schemas.Telemetry{}
	for _, x := range r.rows(7) {
		got[x.SessionID] = x
	}
	for sid, want := range map[string]string{
		"sess-1": "live one vhash cdn-a exp=b eu Net ", "z-foreign": `live one vhash cdn-a exp=b eu Net {"token_sid":"sess-1"}`,
		"z-late": `live one vhash cdn-a exp=b eu Net {"token_sid":"sess-1"}`, "z-bad": "x y      ", "z-none": "app stream      ", "z-odd": "       ",
		"z-auth": `live one vhash cdn-a exp=b eu Net {"token_sid":"sess-1"}`,
	} {
		x, ok := got[sid]
		if have := strings.Join([]string{x.App, x.Stream, x.ViewerID, x.CDN, x.Arms, x.Region, x.ISP, x.Detail}, " "); !ok || have != want {
			t.Errorf("%s: %q, want %q", sid, have, want)
		}
	}
	for result, n := range map[string]float64{"good": 3, "expired": 1, "bad": 1, "absent": 2} {
		if have := r.counter("spillway_collect_tokens_total", result); have != n {
			t.Errorf("%s tokens: %v, want %v", result, have, n)
		}
	}
}

// Nothing that identifies a person or gives access reaches the bus.
func TestPrivacy(t *testing.T) {
	r := newRig(t, nil)
	tok := r.token(nil)
	r.post("/v1/cmcd?t="+tok, `e=rr,rc=200,sid="s",sn=0,url="https://me:pw@Edge.example:8443/t/`+tok+`/live/one/src/video/1-5.m4s?secret=1#x",v=2`,
		"X-Forwarded-For", "203.0.113.7", "User-Agent", "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/X) Mobile", "Cookie", "id=5")
	line, err := json.Marshal(schemas.CDNLogLine{TsMs: time.Now().UnixMilli(), CDN: "a", Path: "/t/" + tok + "/live/one/x.m4s", Method: "GET", Status: 200, UserAgent: "Pixel 8"})
	if err != nil {
		t.Fatal(err)
	}
	r.post("/v1/cdnlog", string(line))
	rows := r.rows(2)
	if x := rows[1]; x.URLHost != "edge.example:8443" || x.URLPath != "/live/one/src/video/1-5.m4s" || x.Device != "phone" || x.OS != "Android" || x.ResponseCode.V != 200 {
		t.Errorf("%+v", x)
	}
	if rows[0].URLPath != "/live/one/x.m4s" || rows[0].App != "live" || rows[0].Stream != "one" {
		t.Errorf("%+v", rows[0])
	}
	all := bytes.Join(r.raw, nil)
	for _, bad := range []string{tok, tok[:20], "203.0.113.7", "secret", "pw@", "Pixel", "127.0.0.1", "id=5"} {
		if bytes.Contains(all, []byte(bad)) {
			t.Errorf("%q is on the bus", bad)
		}
	}
}

func TestPlace(t *testing.T) {
	r := newRig(t, nil)
	r.post("/v1/cmcd", `e=t,sid="s",sn=0,v=2`, "X-Spillway-Region", "asia", "X-Spillway-ISP", "Tele", "ECT", "4g")
	if x := r.rows(1)[0]; x.Region != "asia" || x.ISP != "Tele" || x.NetworkType != "4g" {
		t.Errorf("%+v", x)
	}
}

// Without word of a proxy or a token, the place is that of the address, by the database.
func TestPlaceByAddress(t *testing.T) {
	file := filepath.Join(t.TempDir(), "places.mmdb")
	if err := geodb.Write(file, geodb.Default()); err != nil {
		t.Fatal(err)
	}
	places, err := geo.Open(geo.Settings{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	defer places.Close()
	r := newRig(t, func(s *Settings) { s.Places = places })
	r.post("/v1/cmcd", `e=t,sid="a",sn=0,v=2`, "X-Forwarded-For", "198.51.100.9")
	r.post("/v1/cmcd?t="+r.token(nil), `e=t,sid="b",sn=0,v=2`, "X-Forwarded-For", "198.51.100.9")
	rows := r.rows(2)
	if x := rows[0]; x.Region != "DE-BE" || x.ISP != "Example Kabel" || x.Country != "DE" {
		t.Errorf("region %q, ISP %q, country %q", x.Region, x.ISP, x.Country)
	}
	if x := rows[1]; x.Region != "eu" || x.ISP != "Net" || x.Country != "DE" { // the token's, so that decision and telemetry agree
		t.Errorf("region %q, ISP %q, country %q", x.Region, x.ISP, x.Country)
	}
}

func TestClientHints(t *testing.T) {
	r := newRig(t, nil)
	r.post("/v1/cmcd?player=dash.js&pv=5.2.1", "e=ps,msd=5000,sid=\"a\",sn=0,v=2")
	r.post("/v1/cmcd", `e=ps,sid="b",sn=0,spillway-device=tv,spillway-network="wifi",spillway-os="Tizen",spillway-player=sim,spillway-player-version="2",x-seat="1\"2",v=2`)
	r.post("/v1/cmcd", "e=t,sid=\"c\",sn=0,v=2\nab=(4;v),br=(400;v 64;a),e=rr,msd=4000,sf=d,sid=\"c\",sn=1,v=2\ne=ps,msd=9999,sid=\"c\",sn=2,v=2")
	rows := r.rows(5)
	if x := rows[0]; x.Client != "dash.js" || x.ClientVersion != "5.2.1" || x.StartDelayMs.OK || x.Gates != "dashjs_msd" {
		t.Errorf("%+v", x)
	}
	if x := rows[1]; x.Client != "sim" || x.ClientVersion != "2" || x.Device != "tv" || x.OS != "Tizen" || x.NetworkType != "wifi" || x.Detail != `{"x-seat":"1\"2"}` {
		t.Errorf("%+v", x)
	}
	// What one record of a body shows counts for those after it.
	if rows[3].StartDelayMs.OK || rows[4].StartDelayMs.OK || rows[4].Client != "dash.js" || rows[3].BitrateKbps.V != 400 {
		t.Errorf("%+v", rows[2:])
	}
}

// The CDN is the one that served, when the registry knows the host.
func TestServedBy(t *testing.T) {
	r := newRig(t, nil)
	kv, err := r.bus.JS.KeyValue(t.Context(), schemas.BucketCDNs)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, base string) {
		b, err := json.Marshal(schemas.CDN{Name: name, BaseURL: base, State: schemas.CDNActive})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), name, b); err != nil {
			t.Fatal(err)
		}
	}
	known := func(host, want string) {
		t.Helper()
		await.True(t, host+" is of "+want, func() bool { return r.c.cdns.cdn(host) == want })
	}
	put("cdn-b", "http://edge-b:81")
	if _, err := kv.Put(t.Context(), "broken", []byte("{")); err != nil {
		t.Fatal(err)
	}
	known("edge-b:81", "cdn-b")
	tok := r.token(nil)
	r.post("/v1/cmcd?t="+tok, `e=rr,sid="s",sn=0,url="http://edge-b:81/a",v=2`)
	r.post("/v1/cmcd?t="+tok, `e=rr,sid="s",sn=1,url="http://edge-x:81/a",v=2`)
	r.post("/v1/cmcd?t="+tok, `e=h,h="Edge-B:81",sid="s",sn=2,v=2`)
	r.post("/v1/cmcd?t="+tok, `cdn="cdn-z",e=t,sid="s",sn=3,v=2`)
	r.post("/v1/cmcd?t="+tok, `e=t,sid="s",sn=4,v=2`)
	var got []string
	for _, x := range r.rows(5) {
		got = append(got, x.CDN+"@"+x.Server)
	}
	if want := []string{"cdn-b@edge-b:81", "@edge-x:81", "cdn-b@", "cdn-z@", "cdn-a@"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	put("cdn-b", "http://moved:81")
	known("moved:81", "cdn-b")
	known("edge-b:81", "")
	if err := kv.Delete(t.Context(), "cdn-b"); err != nil {
		t.Fatal(err)
	}
	known("moved:81", "")
}
