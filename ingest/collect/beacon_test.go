package collect

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

func ptr[V any](v V) *V { return &v }

func TestBeacon(t *testing.T) {
	r := newRig(t, nil)
	now := time.Now().UnixMilli()
	b, err := json.Marshal(schemas.Beacon{
		Kind: "end", SessionID: "sess-1", Seq: ptr(int64(0)), TsUnixMs: ptr(now), App: "live", Stream: "one", State: "q", Client: "page", Version: "1.0",
		Device: "phone", OS: "iOS", Network: "wifi", E2ELatencyMs: ptr(1234.6), ClockOffsetMs: ptr(-3.5), ClockBoundMs: ptr(12.0),
		DroppedFrames: ptr(int64(0)), DecodedFrames: ptr(int64(900)), ViewportWidth: ptr(int32(640)), ViewportHeight: ptr(int32(360)),
		VideoWidth: ptr(int32(1280)), VideoHeight: ptr(int32(720)), Background: ptr(false), PageStartupMs: ptr(int32(333)),
		PageStallMs: ptr(int64(4588)), PageStallCount: ptr(int32(2)), PagePlayedMs: ptr(int64(60000)), Step: "fetch", ErrorCode: "404",
	})
	if err != nil {
		t.Fatal(err)
	}
	r.post("/v1/beacon?t="+r.token(nil), string(b), "Content-Type", "text/plain;charset=UTF-8")
	x := r.rows(1)[0]
	want := schemas.Telemetry{
		ReceivedUnixUs: x.ReceivedUnixUs, TsUnixMs: now, Source: schemas.SourceBeacon, Event: "end", SessionID: "sess-1", ViewerID: "vhash",
		App: "live", Stream: "one", ContentID: "live/one", CDN: "cdn-a", Region: "eu", ISP: "Net", Device: "phone", OS: "iOS", Client: "page", ClientVersion: "1.0",
		NetworkType: "wifi", State: "q", Arms: "exp=b", ErrorCode: "404", Detail: `{"step":"fetch"}`,
		Seq: schemas.OptInt64{OK: true}, DroppedFrames: schemas.OptInt64{OK: true}, DecodedFrames: schemas.OptInt64{V: 900, OK: true},
		Background: schemas.OptBool{OK: true}, E2ELatencyMs: schemas.OptInt32{V: 1235, OK: true},
		ClockOffsetMs: schemas.OptFloat64{V: -3.5, OK: true}, ClockBoundMs: schemas.OptFloat64{V: 12, OK: true},
		ViewportWidth: schemas.OptInt32{V: 640, OK: true}, ViewportHeight: schemas.OptInt32{V: 360, OK: true},
		VideoWidth: schemas.OptInt32{V: 1280, OK: true}, VideoHeight: schemas.OptInt32{V: 720, OK: true},
		PageStartupMs: schemas.OptInt32{V: 333, OK: true}, PageStallMs: schemas.OptInt64{V: 4588, OK: true},
		PageStallCount: schemas.OptInt32{V: 2, OK: true}, PagePlayedMs: schemas.OptInt64{V: 60000, OK: true},
	}
	if x != want {
		t.Errorf("got  %+v\nwant %+v", x, want)
	}
}

func TestBeaconForms(t *testing.T) {
	r := newRig(t, nil)
	r.post("/v1/beacon", `{"kind":"start","sid":"s","sn":0}`+"\n"+`{"kind":"progress","sid":"s","sn":1}`)
	r.post("/v1/beacon", `[{"kind":"start","sid":"s","sn":2},{"kind":"progress","sid":"s","sn":3}]`, "Content-Type", "application/json")
	r.post("/v1/beacon", gz(t, "\ufeff"+`{"kind":"end","sid":"s","sn":4}`), "Content-Encoding", "gzip")
	r.post("/v1/beacon?t="+r.token(func(c *token.Session) { c.SessionID = "s" }), `{"kind":"end","sn":5}`) // session from the token
	r.post("/v1/beacon", `{"kind":"end","sid":"s","sn":6}{broken`)                                         // what came before counts
	for i, x := range r.rows(7) {
		if x.Seq.V != int64(i) || x.SessionID != "s" {
			t.Errorf("row %d: %+v", i, x)
		}
	}
	if n := r.counter("spillway_collect_rejected_records_total", "bad_json"); n != 1 {
		t.Errorf("bad JSON counted %v times", n)
	}
}

func TestBeaconLenience(t *testing.T) {
	r := newRig(t, nil)
	recv := time.Now().UnixMilli()
	var in []string
	add := func(fields string) {
		in = append(in, fmt.Sprintf(`{"kind":"progress","sid":"s","sn":%d,%s}`, len(in), fields))
	}
	add(`"dropped_frames":"many","device":5,"background":1,"decoded_frames":7.6`)
	add(`"viewport_w":-1,"stalls":99999999999,"video_w":1e400`)
	add(`"latency_ms":900,"clock_bound_ms":251`)
	add(`"latency_ms":400,"clock_bound_ms":101`)
	add(`"latency_ms":-1001`)
	add(`"latency_ms":600001`)
	add(`"ts":5,"state_of_mind":"good","n":{"a":1},"nothing":null`)
	add(`"app":"a/b","stream":"c","sta":"dancing","os":"\u0001"`)
	extra := ""
	for i := range 20 {
		extra += fmt.Sprintf(`"x%02d":%d,`, i, i)
	}
	add(strings.TrimSuffix(extra, ","))
	bad := []string{`{"sid":"s"}`, `{"kind":"a b","sid":"s"}`, `{"kind":"end"}`}
	r.post("/v1/beacon", "["+strings.Join(append(in, bad...), ",")+"]")
	rows := r.rows(len(in))
	if x := rows[0]; x.DroppedFrames.OK || x.Device != "" || x.Background.OK || x.DecodedFrames.V != 8 {
		t.Errorf("%+v", x)
	}
	for i, want := range map[int]string{1: "range", 2: "latency_clock", 3: "latency_clock", 4: "latency", 5: "latency", 6: "ts"} {
		if rows[i].Gates != want || rows[i].E2ELatencyMs.OK {
			t.Errorf("row %d: gates %q, want %q", i, rows[i].Gates, want)
		}
	}
	if x := rows[6]; x.TsUnixMs < recv || x.Detail != `{"n":"{\"a\":1}","nothing":"null","state_of_mind":"good"}` {
		t.Errorf("ts %d, detail %s", x.TsUnixMs, x.Detail)
	}
	if x := rows[7]; x.App != "" || x.Stream != "" || x.State != "other" || x.OS != "" {
		t.Errorf("%+v", x)
	}
	var d map[string]string
	if err := json.Unmarshal([]byte(rows[8].Detail), &d); err != nil || len(d) != maxExtra || d["x07"] != "7" {
		t.Errorf("detail %s: %v", rows[8].Detail, err)
	}
	if a, b := r.counter("spillway_collect_rejected_records_total", "beacon_kind"), r.counter("spillway_collect_rejected_records_total", "no_session"); a != 2 || b != 1 {
		t.Errorf("rejected %v and %v", a, b)
	}
}

func logLine(seq uint64, change func(*schemas.CDNLogLine)) string {
	l := schemas.CDNLogLine{
		TsMs: time.Now().UnixMilli(), CDN: "cdn-a", Server: "127.0.0.1:99", Boot: "b1", Seq: seq, Method: "GET", Host: "edge:99", Path: "/live/one/src/video/1-5.m4s",
		Status: 200, Bytes: 5000, FirstByteMs: 3.6, TotalMs: 8.2, CacheHit: true, SessionID: "s", ViewerID: "v", App: "live", Stream: "one", Arms: "e=a", Region: "eu", ISP: "Net",
		UserAgent: "Mozilla/5.0 (Windows NT 10.0)",
	}
	if change != nil {
		change(&l)
	}
	b, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

func TestCDNLog(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.EdgeKey = "right" })
	post := func(body string) {
		t.Helper()
		r.post("/v1/cdnlog", body, HeaderEdgeKey, "right", "Content-Type", "application/x-ndjson")
	}
	batch := logLine(1, nil) +
		logLine(2, func(l *schemas.CDNLogLine) { l.CMCD = `br=(400),d=2000,ot=v,sf=h,sid="s",sn=7,v=2` }) +
		logLine(3, func(l *schemas.CDNLogLine) { l.CMCDHeaders = `ot=a,sid="t",v=2`; l.CMCD = "sn=1" }) +
		"\n{broken\n" + `{"cdn":"bad name","ts_ms":5}` + "\n" + strings.Repeat("x", schemas.MaxCDNLogLineBytes+1) + "\n" +
		logLine(4, func(l *schemas.CDNLogLine) {
			l.SessionID, l.ViewerID, l.App, l.Stream, l.Arms, l.Status, l.Reason, l.Coalesced, l.Method = "", "", "", "", "", 0, "viewer went away", true, "HEAD"
		}) +
		logLine(5, func(l *schemas.CDNLogLine) { l.CMCD = "v=9"; l.SessionID = "u" })
	post(batch)
	rows := r.rows(5)
	byLine := map[string]schemas.Telemetry{}
	for _, x := range rows {
		var d map[string]string
		if err := json.Unmarshal([]byte(x.Detail), &d); err != nil {
			t.Fatalf("%s: %v", x.Detail, err)
		}
		byLine[d["line"]] = x
	}
	if x := byLine["b1/1"]; x.Source != schemas.SourceCDNLog || x.CDN != "cdn-a" || x.Server != "127.0.0.1:99" || x.URLHost != "edge:99" || x.ResponseCode.V != 200 ||
		x.Bytes.V != 5000 || x.FirstByteMs.V != 4 || x.LastByteMs.V != 8 || !x.CacheHit.V || x.App != "live" || x.Stream != "one" || x.Arms != "e=a" ||
		x.Region != "eu" || x.ISP != "Net" || x.OS != "Windows" || x.Device != "desktop" || x.SessionID != "s" || x.ViewerID != "v" || x.URLPath != "/live/one/src/video/1-5.m4s" {
		t.Errorf("%+v", x)
	}
	if x := byLine["b1/2"]; x.Source != schemas.SourceCMCDRequest || x.Seq.V != 7 || x.BitrateKbps.V != 400 || x.ObjectType != "v" || x.Bytes.V != 5000 || x.Detail != `{"line":"b1/2"}` {
		t.Errorf("%+v", x)
	}
	if x := byLine["b1/3"]; x.SessionID != "t" || x.ObjectType != "a" || x.Seq.OK || !strings.Contains(x.Detail, `"token_sid":"s"`) {
		t.Errorf("%+v", x)
	}
	if x := byLine["b1/4"]; x.App != "live" || x.Stream != "one" || x.SessionID != "" || x.FirstByteMs.OK ||
		x.Detail != `{"line":"b1/4","coalesced":"1","edge_reason":"viewer went away","method":"HEAD"}` {
		t.Errorf("%+v", x)
	}
	if x := byLine["b1/5"]; x.Source != schemas.SourceCDNLog || x.SessionID != "u" {
		t.Errorf("%+v", x)
	}
	for _, why := range []string{"line_bad_json", "line_bad_field", "line_too_long", "future_version"} {
		if n := r.counter("spillway_collect_rejected_records_total", why); n != 1 {
			t.Errorf("rejected for %s: %v", why, n)
		}
	}
	// The edge got no answer and repeats, with one line more.
	post(batch + logLine(6, nil))
	if x := r.rows(1)[0]; x.Detail != `{"line":"b1/6"}` {
		t.Errorf("%+v", x)
	}
	if n := r.counter("spillway_collect_repeated_lines_total"); n != 5 {
		t.Errorf("%v lines recognised as repeated", n)
	}
}

func TestLineLog(t *testing.T) {
	l := newLineLog()
	src := lineSource{"c", "s", "b"}
	mark := func(seqs ...uint64) {
		var m []lineMark
		for _, q := range seqs {
			m = append(m, lineMark{src, q})
		}
		l.mark(m, time.Now())
	}
	check := func(seq uint64, want bool) {
		t.Helper()
		if l.seen(lineMark{src, seq}) != want {
			t.Errorf("line %d seen is %t", seq, !want)
		}
	}
	check(1, false)
	mark(1, 2, 5)
	for seq, want := range map[uint64]bool{0: false, 1: true, 2: true, 3: false, 4: false, 5: true, 6: false} {
		check(seq, want)
	}
	mark(3)
	check(3, true)
	check(4, false)
	mark(lineWindow + 2) // 2 falls out, and its place is taken
	check(2, false)
	check(3, true)
	check(lineWindow+1, false)
	check(lineWindow+2, true)
	mark(2)
	check(2, false)
	mark(10 * lineWindow)
	check(lineWindow+2, false)
	check(10*lineWindow, true)
	if l.seen(lineMark{lineSource{"c", "s", "other"}, 1}) {
		t.Error("another start of the edge is taken for this one")
	}
	for i := range lineSources + 5 {
		l.mark([]lineMark{{lineSource{"c", "s", "x" + strconv.Itoa(i)}, 1}}, time.Now())
	}
	if len(l.sources) > lineSources {
		t.Errorf("%d sources are remembered", len(l.sources))
	}
}

func TestSplitURL(t *testing.T) {
	for in, want := range map[string][2]string{
		"https://a.b:1/p/q?x=1#y":   {"a.b:1", "/p/q"},
		"http://U:P@Host/t/tok/a/b": {"host", "/a/b"},
		"http://host":               {"host", ""},
		"http://host?x=/y":          {"host", ""},
		"../seg.m4s?x":              {"", "../seg.m4s"},
		"/t/onlytoken":              {"", "/"},
		"":                          {"", ""},
		"//host/path":               {"", "//host/path"},
		"http://" + strings.Repeat("h", 300) + "/p": {"", "/p"},
	} {
		host, path := splitURL(in)
		if host != want[0] || path != want[1] {
			t.Errorf("%.40q: %q %q, want %q", in, host, path, want)
		}
	}
	if _, p := splitURL("http://h/" + strings.Repeat("é", 2000)); len(p) > maxPath {
		t.Errorf("path of %d bytes", len(p))
	}
}

func TestParseAgent(t *testing.T) {
	for ua, want := range map[string]agent{
		"": {}, "curl/8": {},
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148": {"phone", "iOS"},
		"Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) Mobile/15E148":          {"tablet", "iOS"},
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/1 Mobile Safari/5":    {"phone", "Android"},
		"Mozilla/5.0 (Linux; Android 13; SM-X700) Chrome/1 Safari/5":           {"tablet", "Android"},
		"Mozilla/5.0 (Linux; Android 9; AFTMM) AppleWebKit/5":                  {"tv", "Android"},
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/1":                   {"desktop", "Windows"},
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17":           {"desktop", "macOS"},
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)":                             {"desktop", "ChromeOS"},
		"Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/156":                   {"desktop", "Linux"},
		"Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) AppleWebKit TV Safari":       {"tv", "Tizen"},
		"Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36":                {"tv", "webOS"},
	} {
		if got := parseAgent(ua); got != want {
			t.Errorf("%s: %+v, want %+v", ua, got, want)
		}
	}
}

// The line as edges write it takes the fast way; other JSON still is read.
func TestFastLine(t *testing.T) {
	var x, y schemas.CDNLogLine
	line := strings.TrimSpace(logLine(9, func(l *schemas.CDNLogLine) {
		l.CMCDHeaders, l.Reason, l.Coalesced, l.CMCD = "br=(400),ot=v", "gone <&> \\", true, `cid="a/b",sid="\"",v=2`
	}))
	if !fastLine(line, &x) || json.Unmarshal([]byte(line), &y) != nil || x != y {
		t.Errorf("%s\nread as %+v\nwant    %+v", line, x, y)
	}
	for _, other := range []string{"", "{", "{}", "[]", `{"cdn":"a"`, `{"cdn":"a"}x`, `{"cdn": "a"}`, `{"cdn":"\u00e9"}`, `{"cdn":"\n"}`, `{"cdn":"\u0x61"}`, `{"cdn":"\`, `{"cdn":"é"}`, `{"cdn":null}`, `{"bytes":1e3}`,
		`{"bytes":01}`, `{"bytes":-1}`, `{"bytes":99999999999999999999}`, `{"status":1.5}`, `{"hit":tru}`, `{"hit":1}`, `{"new":1}`, `{"CDN":"a"}`, `{"ttfb_ms":.5}`, `{"ttfb_ms":5.}`, `{"cdn":"a",}`} {
		if fastLine(other, &x) {
			t.Errorf("%s took the fast way", other)
		}
	}
}
