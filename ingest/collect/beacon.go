package collect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

// Limits of beacons.
const (
	maxExtra      = 16  // unknown members kept
	maxExtraValue = 256 // bytes of an unknown member's value
)

// Plausibility gates of beacons, beside those of CMCD.
const (
	gateLatency      = "latency"       // below -1 s or above 10 min
	gateLatencyClock = "latency_clock" // the clock's error is above 250 ms or a quarter of the value
	gateTime         = "ts"            // more than 24 h from the time of receipt
)

// beacon takes schemas.Beacon: an object, an array, or several of them one after the other.
func (c *Collector) beacon(w http.ResponseWriter, r *http.Request, now time.Time) int {
	if r.Method != http.MethodPost {
		return notAllowed(w, "POST, OPTIONS")
	}
	text, err := c.body(r, c.s.MaxBodyBytes)
	if err != nil {
		return c.refuseBody(w, err)
	}
	buf := c.rowBuffer()
	defer c.giveBack(buf)
	d := c.dims(r, now)
	n, err := splitJSON(strings.TrimPrefix(text, "\ufeff"), c.s.MaxRecords, func(m map[string]json.RawMessage) {
		*buf = append(*buf, schemas.Telemetry{ReceivedUnixUs: now.UnixMicro()})
		if why := c.fillBeacon(&(*buf)[len(*buf)-1], m, &d); why != "" {
			*buf = (*buf)[:len(*buf)-1]
			c.m.reject(why, 1)
		}
	})
	if err != nil {
		c.m.reject("bad_json", 1)
		if n == 0 {
			return refuse(w, http.StatusBadRequest, "the body is not a JSON object or an array of objects: %v", err)
		}
	}
	return c.accept(w, r, *buf)
}

var errTooMany = errors.New("too many objects")

// splitJSON calls each with the objects of a text, at most limit, and gives
// their number and what ended the reading early.
func splitJSON(text string, limit int, each func(map[string]json.RawMessage)) (n int, err error) {
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			if n == 0 {
				return 0, errors.New("it is empty")
			}
			return n, nil
		} else if err != nil {
			return n, err
		}
		objects := []json.RawMessage{raw}
		if raw[0] == '[' {
			objects = nil
			if err := json.Unmarshal(raw, &objects); err != nil {
				return n, err
			}
		}
		for _, o := range objects {
			if n == limit {
				return n, errTooMany
			}
			var m map[string]json.RawMessage
			if err := json.Unmarshal(o, &m); err != nil || m == nil {
				return n, errors.New("a value in it is not an object")
			}
			n++
			each(m)
		}
	}
}

// fields reads members of a JSON object one by one; one of a wrong type is counted and left out.
type fields struct {
	m       map[string]json.RawMessage
	dropped func(name, reason string)
	lost    bool
}

// take removes a member and reports whether it is there and not null.
func (f *fields) take(name string) (json.RawMessage, bool) {
	v, ok := f.m[name]
	delete(f.m, name)
	return v, ok && !bytes.Equal(v, []byte("null"))
}

func (f *fields) str(dst *string, name string, limit int) {
	v, ok := f.take(name)
	if !ok {
		return
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		f.dropped(name, cmcd.WrongType.String())
		return
	}
	if s != "" && text(s, limit) == "" {
		f.dropped(name, cmcd.BadText.String())
		return
	}
	*dst = s
}

func (f *fields) float(dst *schemas.OptFloat64, name string) {
	v, ok := f.take(name)
	if !ok {
		return
	}
	var x float64
	if json.Unmarshal(v, &x) != nil {
		f.dropped(name, cmcd.WrongType.String())
		return
	}
	*dst = schemas.OptFloat64{V: x, OK: true}
}

// count reads a number that is never negative.
func (f *fields) count(dst *schemas.OptInt64, name string) {
	var x schemas.OptFloat64
	if f.float(&x, name); !x.OK {
		return
	}
	if x.V < 0 || x.V > 1e15 {
		f.lost = true
		return
	}
	*dst = schemas.OptInt64{V: int64(math.Round(x.V)), OK: true}
}

func (f *fields) small(dst *schemas.OptInt32, name string) {
	var x schemas.OptInt64
	if f.count(&x, name); !x.OK {
		return
	}
	if x.V > math.MaxInt32 {
		f.lost = true
		return
	}
	*dst = schemas.OptInt32{V: int32(x.V), OK: true}
}

func (f *fields) bool(dst *schemas.OptBool, name string) {
	v, ok := f.take(name)
	if !ok {
		return
	}
	var x bool
	if json.Unmarshal(v, &x) != nil {
		f.dropped(name, cmcd.WrongType.String())
		return
	}
	*dst = schemas.OptBool{V: x, OK: true}
}

// fillBeacon writes a beacon into a row, or says why there is none. It empties m.
func (c *Collector) fillBeacon(t *schemas.Telemetry, m map[string]json.RawMessage, d *dims) (reject string) {
	// Names of members are the client's to choose: only those of schemas.Beacon come here.
	f := fields{m: m, dropped: func(name, reason string) { c.m.issues.WithLabelValues("beacon_"+name, reason, "beacon").Inc() }}
	t.Source = schemas.SourceBeacon
	f.str(&t.Event, "kind", maxShort)
	if schemas.CheckName("", t.Event) != nil {
		return "beacon_kind"
	}
	f.str(&t.SessionID, "sid", maxID)
	f.count(&t.Seq, "sn")
	f.str(&t.App, "app", schemas.MaxNameLen)
	f.str(&t.Stream, "stream", schemas.MaxNameLen)
	if t.App != "" || t.Stream != "" {
		if (schemas.StreamKey{App: t.App, Stream: t.Stream}).Check() != nil {
			f.dropped("stream", cmcd.BadText.String())
			t.App, t.Stream = "", ""
		} else {
			t.ContentID = t.App + "/" + t.Stream
		}
	}
	var state string
	if f.str(&state, "sta", maxShort); state != "" {
		t.State = cmcd.ParseState(state).String()
	}
	f.str(&t.Client, "client", maxShort)
	f.str(&t.ClientVersion, "client_version", maxShort)
	f.str(&t.Device, "device", maxShort)
	f.str(&t.OS, "os", maxShort)
	f.str(&t.NetworkType, "network", maxShort)
	f.str(&t.ErrorCode, "error", maxID)
	f.count(&t.DroppedFrames, "dropped_frames")
	f.count(&t.DecodedFrames, "decoded_frames")
	f.small(&t.ViewportWidth, "viewport_w")
	f.small(&t.ViewportHeight, "viewport_h")
	f.small(&t.VideoWidth, "video_w")
	f.small(&t.VideoHeight, "video_h")
	f.bool(&t.Background, "background")
	f.small(&t.PageStartupMs, "startup_ms")
	f.count(&t.PageStallMs, "stall_ms")
	f.small(&t.PageStallCount, "stalls")
	f.count(&t.PagePlayedMs, "played_ms")
	var gates []string
	gates = append(gates, f.latency(t)...)
	gates = append(gates, f.time(t)...)
	if f.lost {
		gates = append(gates, gateRange)
	}
	for _, g := range gates {
		c.m.fixes.WithLabelValues(g, "beacon").Inc()
	}
	t.Gates = strings.Join(gates, "|")
	t.CDN = d.token.CDN
	t.Detail = f.detail(t, d)
	d.apply(t)
	if t.SessionID == "" {
		return "no_session"
	}
	return ""
}

// latency reads the end-to-end latency, which counts only with a good clock.
func (f *fields) latency(t *schemas.Telemetry) (gates []string) {
	var l schemas.OptFloat64
	f.float(&l, "latency_ms")
	f.float(&t.ClockOffsetMs, "clock_offset_ms")
	f.float(&t.ClockBoundMs, "clock_bound_ms")
	if b := t.ClockBoundMs; b.OK && b.V < 0 {
		t.ClockBoundMs, f.lost = schemas.OptFloat64{}, true
	}
	if !l.OK {
		return nil
	}
	if b := t.ClockBoundMs; b.OK && (b.V > 250 || b.V > math.Abs(l.V)/4 || l.V < -b.V) {
		return []string{gateLatencyClock}
	}
	if l.V < -1000 || l.V > 600_000 {
		return []string{gateLatency}
	}
	t.E2ELatencyMs = schemas.OptInt32{V: int32(math.Round(l.V)), OK: true}
	return nil
}

func (f *fields) time(t *schemas.Telemetry) (gates []string) {
	recv := t.ReceivedUnixUs / 1000
	t.TsUnixMs = recv
	var ts schemas.OptFloat64
	if f.float(&ts, "ts"); !ts.OK {
		return nil
	}
	if math.Abs(ts.V-float64(recv)) > 24*3600*1000 {
		return []string{gateTime}
	}
	t.TsUnixMs = int64(ts.V)
	return nil
}

// detail keeps the step and the members that are not known, as strings.
func (f *fields) detail(t *schemas.Telemetry, d *dims) string {
	var b []byte
	names := make([]string, 0, len(f.m))
	for name := range f.m {
		names = append(names, name)
	}
	slices.Sort(names)
	kept := 0
	for _, name := range names {
		var s string
		if raw := f.m[name]; raw[0] != '"' {
			s = string(raw)
		} else if json.Unmarshal(raw, &s) != nil {
			continue
		}
		if kept == maxExtra || short(name) == "" || text(s, maxExtraValue) == "" {
			f.dropped("extra", cmcd.TooMany.String())
			continue
		}
		b = member(b, name, s)
		kept++
	}
	if d.signed && t.SessionID != "" && t.SessionID != d.token.SessionID {
		b = member(b, "token_sid", d.token.SessionID)
	}
	return object(b)
}
