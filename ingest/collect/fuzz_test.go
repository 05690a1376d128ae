package collect

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

// bare is a collector whose parsers run without bus.
func bare(f *testing.F) *Collector {
	m, err := newMetrics(nil)
	if err != nil {
		f.Fatal(err)
	}
	c := &Collector{m: m, cdns: newRegistry(nil), lines: newLineLog(), hops: hops.NewKnown(hops.PerCDN)}
	c.s.MaxRecords = 100
	return c
}

func checkRows(t *testing.T, rows []schemas.Telemetry) {
	t.Helper()
	if len(rows) == 0 {
		return
	}
	for i := range rows {
		x := &rows[i]
		if x.Detail != "" {
			var d map[string]string
			if err := json.Unmarshal([]byte(x.Detail), &d); err != nil {
				t.Fatalf("detail %q: %v", x.Detail, err)
			}
		}
		for _, col := range schemas.TelemetryTable().Columns {
			if s, ok := col.Value(x).(string); ok && (!utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n\r") || len(s) > 8192) {
				t.Fatalf("column %s: %q", col.Name, s)
			}
		}
	}
	data, err := schemas.EncodeTelemetry(rows)
	if err != nil {
		t.Fatal(err)
	}
	again, err := schemas.DecodeTelemetry(data)
	if err != nil || len(again) != len(rows) {
		t.Fatalf("%d rows came back of %d: %v", len(again), len(rows), err)
	}
}

func FuzzEvents(f *testing.F) {
	f.Add(`bl=(6300),br=(510),cid="live/one",e=rr,mtp=(46100),sf=h,sid="s1",sn=18,st=l,sta=p,ts=1795167643634,ttfb=5,ttlb=4,url="http://u:p@h/t/x/y?z",v=2`)
	f.Add("x-a=\"\\\"\\\\\",e=b,ec=(\"a|b\" 5)\r\nv=3\nbl=99999999999")
	c := bare(f)
	f.Fuzz(func(t *testing.T, body string) {
		var rows []schemas.Telemetry
		d := dims{signed: len(body)%2 == 0}
		c.events(&rows, body, &d, time.UnixMilli(1_795_167_643_634))
		checkRows(t, rows)
	})
}

func FuzzBeacon(f *testing.F) {
	f.Add(`[{"kind":"end","sid":"s","sn":1,"latency_ms":5.5,"clock_bound_ms":1,"x\"y":"\u2028\\","ts":1795167643634}]`)
	f.Add(`{"kind":"step","sid":"s","viewport_w":1e300,"z":[1,{}],"sta":"p"} {}`)
	c := bare(f)
	f.Fuzz(func(t *testing.T, body string) {
		var rows []schemas.Telemetry
		d := dims{signed: len(body)%2 == 0}
		_, _ = splitJSON(body, 100, func(m map[string]json.RawMessage) {
			row := schemas.Telemetry{ReceivedUnixUs: 1_795_167_643_634_000}
			if c.fillBeacon(&row, m, &d) == "" {
				rows = append(rows, row)
			}
		})
		checkRows(t, rows)
	})
}

func FuzzLogLine(f *testing.F) {
	f.Add(strings.TrimSpace(logLine(1, func(l *schemas.CDNLogLine) { l.TsMs, l.CMCD = 1_795_167_643_634, `br=(4;v),sid="q",v=2` })))
	f.Add(`{"ts_ms":1795167643634,"cdn":"a","path":"/t/x/a/b/\u0000","ua":"\u0001","reason":"\"","ttfb_ms":1e300,"total_ms":-1,"seq":18446744073709551615,"boot":"b"}`)
	c := bare(f)
	f.Fuzz(func(t *testing.T, line string) {
		var fast, slow schemas.CDNLogLine
		if fastLine(line, &fast) && (json.Unmarshal([]byte(line), &slow) != nil || fast != slow) {
			t.Fatalf("read as\n%+v, by encoding/json as\n%+v", fast, slow)
		}
		c.lines = newLineLog()
		var rows []schemas.Telemetry
		l := logReader{c: c, recvUs: 1_795_167_643_634_000}
		if m, ok := l.add(&rows, line); ok {
			c.lines.mark([]lineMark{m}, time.UnixMilli(5))
		}
		checkRows(t, rows)
	})
}

func FuzzPublisherReport(f *testing.F) {
	f.Add(`{"app":"live","stream":"one","sn":7,"interval_ms":5000,"stalled_ms":4000,"fps":29.97,"bitrate_bps":2000000,"width":1280,"height":720,"dropped_frames":3,"encoder":"app 1.2","background":true,"ts":1795167643634,"command_id":"c1","command_error":"no"}`)
	f.Add(`{"app":"a","stream":"b","interval_ms":60000,"ts":-9223372036854775808,"encoder":"\u0000"}`)
	f.Fuzz(func(t *testing.T, body string) {
		var p schemas.PublisherReport
		if json.Unmarshal([]byte(body), &p) != nil || p.Check() != nil {
			return
		}
		now := time.UnixMilli(1_795_167_643_634)
		checkRows(t, []schemas.Telemetry{publisherRow(&p, now)})
		var s schemas.PublisherState
		policy := schemas.PublisherPolicy{BehindShare: 0.1, WindowSec: 5, LowerPercent: 50, MinBitrateBps: 20_000, MinFPS: 1}
		for range 3 {
			s.Report(&p, now, policy.WindowSec)
			p.Seq++
		}
		if c := s.Decide(&policy, "id", now); c != nil && c.Check() != nil {
			t.Fatalf("%s leads to the command %+v: %v", body, c, c.Check())
		}
	})
}
