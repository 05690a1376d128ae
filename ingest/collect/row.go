package collect

import (
	"math"
	"strings"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

// Custom keys by which our own players say what a User-Agent does not; they
// become columns and not detail.
const (
	keyPlayer  = cmcd.PlayerKey
	keyVersion = "spillway-player-version"
	keyNetwork = "spillway-network"
	keyDevice  = "spillway-device"
	keyOS      = "spillway-os"
)

// gateRange is the gate of values that a column cannot hold.
const gateRange = "range"

// fillCMCD writes what a record says into a row. fixes are those already applied to it.
func (c *Collector) fillCMCD(t *schemas.Telemetry, r *cmcd.Record, fixes cmcd.Fixes, d *dims) {
	t.Source = schemas.SourceCMCDRequest
	if r.Mode == cmcd.ModeEvent {
		t.Source = schemas.SourceCMCDEvent
	}
	n := narrow{}
	has := r.Has.Has
	if t.TsUnixMs = t.ReceivedUnixUs / 1000; has(cmcd.TS) {
		t.TsUnixMs = r.TimeUnixMs
	}
	if has(cmcd.E) {
		t.Event = r.Event.String()
	}
	if has(cmcd.SID) {
		t.SessionID = r.SessionID
	}
	if has(cmcd.CID) {
		t.ContentID = r.ContentID
	}
	if has(cmcd.STA) {
		t.State = r.State.String()
	}
	if has(cmcd.SF) {
		t.Protocol = r.Format.String()
	}
	if has(cmcd.ST) {
		t.StreamType = r.StreamType.String()
	}
	if has(cmcd.OT) {
		t.ObjectType = r.Object.String()
	}
	if has(cmcd.CEN) {
		t.CustomEvent = r.CustomEvent
	}
	if has(cmcd.EC) {
		t.ErrorCode = strings.Join(r.ErrorCodes(), "|")
	}
	t.CMCDVersion = schemas.OptInt32{V: int32(r.Version), OK: true}
	c.served(t, r, d)
	if has(cmcd.SN) {
		t.Seq = schemas.OptInt64{V: r.Seq, OK: true}
	}
	if has(cmcd.PT) {
		t.PlayheadMs = schemas.OptInt64{V: r.PlayheadMs, OK: true}
	}
	if has(cmcd.DFA) {
		t.DroppedFrames = schemas.OptInt64{V: r.DroppedFrames, OK: true}
	}
	if has(cmcd.PR) {
		t.PlaybackRate = schemas.OptFloat64{V: r.Rate, OK: true}
	}
	n.least(&t.BufferMs, has(cmcd.BL), r.BufferMs)
	n.main(&t.BitrateKbps, has(cmcd.BR), r.BitrateKbps)
	n.main(&t.PlayedBitrateKbps, has(cmcd.PB), r.PlayheadKbps)
	n.main(&t.TopBitrateKbps, has(cmcd.TB), r.TopKbps)
	n.main(&t.ThroughputKbps, has(cmcd.MTP), r.ThroughputKbps)
	if v, ok := r.StarvedMs.Total(); ok {
		n.put(&t.StarvationMs, has(cmcd.BSD), v)
	}
	n.put(&t.LiveLatencyMs, has(cmcd.LTC), r.LatencyMs)
	n.put(&t.StartDelayMs, has(cmcd.MSD), r.StartDelayMs)
	n.put(&t.ObjectDurationMs, has(cmcd.D), r.ObjectMs)
	n.put(&t.DeadlineMs, has(cmcd.DL), r.DeadlineMs)
	n.put(&t.FirstByteMs, has(cmcd.TTFB), r.FirstByteMs)
	n.put(&t.LastByteMs, has(cmcd.TTLB), r.LastByteMs)
	n.put(&t.ResponseCode, has(cmcd.RC), r.Status)
	flag(&t.Starved, has(cmcd.BS), r.Starved)
	flag(&t.Background, has(cmcd.BG), r.Backgrounded)
	if r.Event == cmcd.EventBackground && !has(cmcd.BG) {
		t.Background = schemas.OptBool{OK: true} // foregrounded: the key is left out
	}
	flag(&t.StartingUp, has(cmcd.SU), r.Urgent)
	flag(&t.NotRendered, has(cmcd.NR), r.NotRendered)
	if p := r.Player; p != cmcd.PlayerUnknown && p != cmcd.PlayerOther {
		t.Client = p.String()
	}
	t.Gates = gates(fixes, n.lost)
	t.Detail = c.detail(t, r, d)
	d.apply(t)
	if d.signed && r.Mode == cmcd.ModeEvent && r.Event == cmcd.EventResponse {
		// Without a session's token anybody may say anything of any stream. The time of such a record is when the request was made (CTA-5004-B, ts); the rest is by the viewer's clock.
		c.markHop(t, schemas.HopPlayer, t.TsUnixMs+int64(t.LastByteMs.V), t.ReceivedUnixUs)
	}
}

// served says which host and CDN the record speaks of.
func (c *Collector) served(t *schemas.Telemetry, r *cmcd.Record, d *dims) {
	if r.Has.Has(cmcd.URL) {
		t.URLHost, t.URLPath = splitURL(r.URL)
		t.Server = t.URLHost
		if t.URLHost != "" {
			t.CDN = c.cdns.cdn(t.URLHost)
			return
		}
	}
	if r.Has.Has(cmcd.H) {
		if t.CDN = c.cdns.cdn(strings.ToLower(r.Host)); t.CDN != "" {
			return
		}
	}
	if r.Has.Has(cmcd.CDN) && schemas.CheckName("", r.CDN) == nil {
		t.CDN = r.CDN
		return
	}
	t.CDN = d.token.CDN
}

// detail takes the custom keys into columns and, those without one, into a JSON
// object of strings. When the token was made for another session id than the
// player uses, the token's is there too, as token_sid.
func (c *Collector) detail(t *schemas.Telemetry, r *cmcd.Record, d *dims) string {
	var b []byte
	for _, x := range r.Custom() {
		switch x.Key {
		case keyPlayer:
			t.Client = short(x.Value)
		case keyVersion:
			t.ClientVersion = short(x.Value)
		case keyNetwork:
			t.NetworkType = short(x.Value)
		case keyDevice:
			t.Device = short(x.Value)
		case keyOS:
			t.OS = short(x.Value)
		default:
			b = member(b, x.Key, x.Value)
		}
	}
	if d.signed && t.SessionID != "" && t.SessionID != d.token.SessionID {
		b = member(b, "token_sid", d.token.SessionID)
	}
	return object(b)
}

// member appends "key":"value" to the inside of a JSON object. Both are clean text.
func member(b []byte, key, value string) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = quote(b, key)
	b = append(b, ':')
	return quote(b, value)
}

func quote(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else if c >= 0x20 {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func object(members []byte) string {
	if len(members) == 0 {
		return ""
	}
	return "{" + string(members) + "}"
}

func gates(fixes cmcd.Fixes, lost bool) string {
	if fixes == 0 && !lost {
		return ""
	}
	var buf [128]byte
	b := fixes.AppendNames(buf[:0])
	if lost {
		if len(b) > 0 {
			b = append(b, '|')
		}
		b = append(b, gateRange...)
	}
	return string(b)
}

// narrow puts 64-bit values into 32-bit columns; what does not fit is left out.
type narrow struct{ lost bool }

func (n *narrow) put(dst *schemas.OptInt32, ok bool, v int64) {
	if !ok {
		return
	}
	if v < math.MinInt32 || v > math.MaxInt32 {
		n.lost = true
		return
	}
	*dst = schemas.OptInt32{V: int32(v), OK: true}
}

func (n *narrow) main(dst *schemas.OptInt32, ok bool, t cmcd.ByType) {
	if ok {
		v, ok := t.Main()
		n.put(dst, ok, v)
	}
}

// least takes the smallest: playback stops when the first buffer is empty.
func (n *narrow) least(dst *schemas.OptInt32, ok bool, t cmcd.ByType) {
	if ok {
		v, ok := t.Min()
		n.put(dst, ok, v)
	}
}

func flag(dst *schemas.OptBool, ok, v bool) {
	if ok {
		*dst = schemas.OptBool{V: v, OK: true}
	}
}
