package session

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// Table holds the sessions of one telemetry partition. Not safe for concurrent use.
type Table struct {
	cfg   Config
	byID  map[string]*entry
	order []*entry // in the order in which they were opened: slices come out in it
	stats Stats
	open  int
	last  int64 // stream time of the last tick
	due   int   // slices that the last tick gave

	words   []string // by number; sessions share them
	numbers map[string]int

	rows   []waiting // added since the last tick, chained by session
	inbox  []row     // of the session that is worked on
	before *entry    // whose row was added last: reports come many at a time

	now   one     // the session that is worked on
	since changes // after the last snapshot
}

// entry is a session at rest.
type entry struct {
	id     string
	packed []byte // exactly as long as needed
	dueMs  int64  // stream time at which it has something to do without rows
	// first and last are the places, from 1, of its rows of this tick in Table.rows; 0: none.
	first, last int32

	closed, changed bool // changed: since the last snapshot
}

// waiting is a row, and the place of the session's next one.
type waiting struct {
	row
	next int32
}

// await puts a row behind the session's others.
func (t *Table) await(e *entry, x row) {
	t.rows = append(t.rows, waiting{row: x})
	n := int32(len(t.rows))
	if e.last == 0 {
		e.first = n
	} else {
		t.rows[e.last-1].next = n
	}
	e.last = n
}

// collect gives a session's rows in the order in which they came.
func (t *Table) collect(e *entry) []row {
	t.inbox = t.inbox[:0]
	for i := e.first; i != 0; i = t.rows[i-1].next {
		t.inbox = append(t.inbox, t.rows[i-1].row)
	}
	e.first, e.last = 0, 0
	return t.inbox
}

// letGo forgets the rows of a tick, and their memory after a moment's rush.
func (t *Table) letGo() {
	if used := len(t.rows); used*4+4096 < cap(t.rows) {
		t.rows = nil
	} else {
		clear(t.rows)
		t.rows = t.rows[:0]
	}
	clear(t.inbox[:cap(t.inbox)])
	t.before = nil
}

// maxWords bounds the words that sessions share; further ones are copied for each.
const maxWords = 100_000

// word gives a copy of s that does not hold on to the memory of the batch it came
// in, and that equal words share: a session's dimensions are mostly those of others.
func (t *Table) word(s string) string {
	if k, ok := t.numbers[s]; ok {
		return t.words[k]
	}
	s = strings.Clone(s)
	if len(t.words) < maxWords {
		t.numbers[s] = len(t.words)
		t.words = append(t.words, s)
	}
	return s
}

// New makes an empty Table.
func New(c Config) *Table {
	t := &Table{cfg: c.withDefaults(), byID: map[string]*entry{}, numbers: map[string]int{}}
	t.word("")
	return t
}

// Stats are the counts since New or Restore.
func (t *Table) Stats() Stats { return t.stats }

// Open is the number of sessions that are not closed.
func (t *Table) Open() int { return t.open }

// KeepFor is how long a closed session is remembered.
func (t *Table) KeepFor() time.Duration { return time.Duration(t.cfg.KeepMs) * time.Millisecond }

// Remembered is the number of sessions held, closed ones included.
func (t *Table) Remembered() int { return len(t.order) }

// Columns says which columns of schemas.TelemetryTable the table looks at, for
// columnar.Table.DecodeColumns; the others may be absent from the rows.
func Columns() []bool { return columns }

var columns = schemas.TelemetryTable().Want(
	"received_us", "ts_ms", "source", "event", "session_id", "viewer_id", "app", "stream", "cdn", "server", "region", "isp",
	"country", "device", "os", "client", "client_version", "network_type", "protocol", "object_type", "state", "arms",
	"url_host", "url_path", "detail", "seq", "bitrate_kbps", "played_bitrate_kbps", "live_latency_ms", "e2e_latency_ms",
	"dropped_frames", "response_code", "bytes", "last_byte_ms", "throughput_kbps", "background",
	"first_byte_ms", "object_duration_ms",
)

// Add takes rows that arrived at the given stream time, Unix milliseconds. The
// rows are kept until the next Tick and must not be changed before.
func (t *Table) Add(rows []schemas.Telemetry, streamMs int64) {
	for i := range rows {
		r := &rows[i]
		t.stats.Rows++
		if r.SessionID == "" || r.Source == schemas.SourcePublisher || r.Source == schemas.SourcePublisherReport {
			t.stats.NoSession++
			continue
		}
		e := t.before
		if e == nil || e.id != r.SessionID {
			e = t.byID[r.SessionID]
		}
		if e == nil {
			if len(t.order) >= t.cfg.MaxSessions {
				t.stats.Overflow++
				continue
			}
			e = &entry{id: strings.Clone(r.SessionID)}
			o := one{FirstMs: streamMs, SeenMs: streamMs, SentMs: streamMs}
			o.L.Sessions = 1
			e.rest(t.pack(&o, nil))
			t.byID[e.id] = e
			t.order = append(t.order, e)
			t.stats.Opened++
			t.open++
		}
		t.await(e, row{r, streamMs})
		t.before = e
	}
}

// forgot notes, for a snapshot's next part, that a session is gone.
func (t *Table) forgot(id string) {
	if !t.since.follow {
		return
	}
	if t.since.gone = append(t.since.gone, id); len(t.since.gone) > t.cfg.MaxSessions {
		t.since = changes{} // nobody writes snapshots: the next is a whole one
	}
}

// rest keeps the packed session in memory of just its size.
func (e *entry) rest(b []byte) {
	e.changed = true
	// Growing a little more often than the allocator's sizes would is what keeps a million of them small.
	if cap(e.packed) < len(b) || cap(e.packed) > len(b)+len(b)/4+64 {
		e.packed = make([]byte, 0, len(b)+len(b)/16)
	}
	e.packed = append(e.packed[:0], b...)
}

// Tick works through the rows added since the last one and gives the slices
// that are due at stream time streamMs (Unix milliseconds, never going back).
func (t *Table) Tick(streamMs int64) []schemas.Slice { return t.AppendTick(nil, streamMs) }

// AppendTick is Tick that appends the slices to out.
func (t *Table) AppendTick(out []schemas.Slice, streamMs int64) []schemas.Slice {
	t.last = max(t.last, streamMs)
	before := len(out)
	// About as many as the last time: a slice is large, and a list that grows copies each several times.
	out = slices.Grow(out, min(t.due+t.due/8, len(t.order)))
	var buf []byte
	keep := t.order[:0]
	for _, e := range t.order {
		if e.first == 0 && streamMs < e.dueMs {
			keep = append(keep, e)
			continue
		}
		t.stats.Touched++
		o := &t.now
		if err := t.unpack(e.packed, o); err != nil {
			panic(fmt.Sprintf("session %s: %v", e.id, err)) // what pack wrote, unpack reads
		}
		o.ID, o.inbox = e.id, t.collect(e)
		if len(o.inbox) > 0 {
			out = t.take(o, streamMs, out)
		}
		if !o.Closed {
			t.maybeClose(o, streamMs)
		}
		if o.due(streamMs, &t.cfg) {
			if s, ok := o.slice(streamMs, o.until(streamMs, &t.cfg)); ok {
				out = append(out, s)
			}
			o.Dirty = false
		}
		if o.Closed && streamMs-o.ClosedMs > t.cfg.KeepMs {
			delete(t.byID, e.id)
			t.forgot(e.id)
			*e = entry{} // its place may be one among others of a snapshot
			continue
		}
		e.dueMs = o.dueMs(streamMs, &t.cfg)
		buf = t.pack(o, buf)
		e.rest(buf)
		e.closed = o.Closed
		keep = append(keep, e)
	}
	clear(t.order[len(keep):])
	t.order = keep
	t.letGo()
	t.due = len(out) - before
	return out
}

// dueMs is the stream time at which a session has something to do although no row comes.
func (o *one) dueMs(streamMs int64, c *Config) int64 {
	if o.Closed {
		return o.ClosedMs + c.KeepMs + 1
	}
	due := o.SeenMs + o.silenceMs(c)
	if o.Over {
		due = min(due, o.OverMs+c.GraceMs)
	}
	if o.Now.running() {
		if o.Now.stalled() {
			return streamMs + 1
		}
		due = min(due, o.SentMs+c.QuietMs)
	}
	return due
}

// until is the client time up to which the session counts now.
func (o *one) until(streamMs int64, c *Config) int64 {
	if o.Closed {
		return max(o.LastTs, min(o.clientNow(o.SeenMs), o.LastTs+c.MaxSilenceMs))
	}
	return o.horizon(streamMs, c)
}

func (o *one) due(streamMs int64, c *Config) bool {
	if o.Dirty {
		return true
	}
	if o.Closed || !o.Now.running() {
		return false
	}
	return o.Now.stalled() || streamMs-o.SentMs >= c.QuietMs
}

func (t *Table) maybeClose(o *one, streamMs int64) {
	silent := streamMs - o.SeenMs
	switch {
	case o.Over && streamMs-o.OverMs >= t.cfg.GraceMs:
	case silent >= o.silenceMs(&t.cfg):
	default:
		return
	}
	o.Closed, o.ClosedMs, o.Dirty = true, streamMs, true
	o.EndReason = o.reason()
	o.L.Ended++
	t.stats.Closed++
	t.open--
}

func (t *Table) reopen(o *one) {
	o.Closed, o.Over, o.EndReason = false, false, ""
	o.L.Ended--
	t.stats.Closed--
	t.open++
}

// take works through the rows of one session.
func (t *Table) take(o *one, streamMs int64, out []schemas.Slice) []schemas.Slice {
	slices.SortStableFunc(o.inbox, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.R.TsUnixMs, b.R.TsUnixMs), cmp.Compare(a.R.Seq.V, b.R.Seq.V))
	})
	for _, x := range o.inbox {
		o.Dirty = true
		o.L.Reports++
		if o.seen(fingerprint(x.R)) {
			t.stats.Duplicates++
			continue
		}
		if d := t.dims(o, x.R); d != o.D {
			if d.Arms != o.D.Arms && o.SentL.Sessions > 0 {
				out = append(out, o.retract(streamMs))
			}
			if d.App != o.D.App || d.Stream != o.D.Stream || d.CDN != o.D.CDN {
				// What was before stays with the CDN that served it.
				if o.SentL.Sessions > 0 {
					if s, ok := o.slice(streamMs, min(o.until(streamMs, &t.cfg), max(o.Now.At, x.R.TsUnixMs))); ok {
						out = append(out, s)
					}
				}
			}
			o.D = d
		}
		t.one(o, x)
	}
	o.inbox = nil
	return out
}

// fingerprint tells rows apart. It is the same in every process, because snapshots carry it.
func fingerprint(r *schemas.Telemetry) uint32 {
	h := uint64(14695981039346656037)
	num := func(v int64) {
		for range 8 {
			h = (h ^ uint64(v&0xff)) * 1099511628211
			v >>= 8
		}
	}
	str := func(s string) {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	num(r.TsUnixMs)
	str(r.Source)
	str(r.Event)
	if r.Seq.OK {
		num(r.Seq.V)
	}
	if r.Source != schemas.SourceCMCDEvent {
		str(r.URLPath)
		str(r.Server)
		num(r.Bytes.V)
		num(int64(r.LastByteMs.V)<<16 | int64(r.ResponseCode.V))
		str(r.Detail) // holds the number of an edge's line
	}
	return uint32(h ^ h>>32)
}

// one accounts for one row.
func (t *Table) one(o *one, x row) {
	r := x.R
	if gap := x.At - o.SeenMs; gap > 0 {
		if gap < t.cfg.MaxSilenceMs {
			o.GapMs = max(o.GapMs, gap)
		}
		o.SeenMs = x.At
	}
	if r.Source == schemas.SourceCMCDRequest || r.Source == schemas.SourceCDNLog {
		if o.request(r); isMedia(r) && o.HasOffset {
			o.requestCauses(r, o.clientNow(r.TsUnixMs))
		}
		return
	}
	t.report(o, x)
}

// request counts a media request that an edge answered.
func (o *one) request(r *schemas.Telemetry) {
	if !isMedia(r) {
		return
	}
	o.L.Requests++
	if failedRequest(r) {
		o.L.RequestErrors++
	}
	if r.Bytes.OK && r.Bytes.V > 0 {
		o.L.RequestBytes += r.Bytes.V
	}
}

func isMedia(r *schemas.Telemetry) bool {
	switch r.ObjectType {
	case "m", "k", "tt", "c", "o":
		return false
	case "v", "a", "av", "i":
		return true
	}
	return strings.HasSuffix(r.URLPath, ".m4s") || strings.HasSuffix(r.URLPath, ".mp4")
}

// isPicture says whether a request was for the picture: it decides where a session is.
// Audio may come from elsewhere for a moment, and a manifest from the CDN that the
// player was sent to while it waits for media of the one before.
func isPicture(r *schemas.Telemetry) bool {
	return r.ObjectType != "a" && r.ObjectType != "m" && !strings.Contains(r.URLPath, "/audio/")
}

// report accounts for what a player or page said.
func (t *Table) report(o *one, x row) {
	r, ts, sn := x.R, x.R.TsUnixMs, x.R.Seq.V
	if off := r.ReceivedUnixUs/1000 - ts; !o.HasOffset || off < o.OffsetMs {
		o.OffsetMs, o.HasOffset = off, true
	}
	isRR := r.Event == "rr"
	late := ts < o.LastTs
	page := r.Source == schemas.SourceBeacon
	if r.Seq.OK {
		t.sequence(o, r, isRR, late)
	}
	feed := func(e event) {
		e.Ts, e.Sn = ts, sn
		l, ok := o.insert(e)
		if l {
			t.stats.Late++
			if !ok {
				t.stats.TooLate++
			}
		}
	}
	if o.Closed && alive(r, ts, o.LastTs) {
		t.reopen(o)
	}
	o.LastTs = max(o.LastTs, ts)
	// An rr is stamped with the time of its request, its state is that of the answer: not a state at ts.
	if len(r.State) == 1 && !isRR {
		if page {
			o.pageStates(ts)
			feed(event{Kind: evState, Sta: r.State[0], Soft: r.Event == "progress", Page: true})
		} else if !o.pageKnows(ts) {
			feed(event{Kind: evState, Sta: r.State[0], Soft: r.Event != "ps"})
		}
	}
	if r.Event == "e" || page && r.Event == "error" {
		feed(event{Kind: evError})
	}
	o.causes(r, ts)
	t.values(o, r, isRR, feed)
	if page && r.Event == "end" {
		feed(event{Kind: evEndOfView})
	}
	if over := o.Now.Over != 0; over != o.Over {
		o.Over, o.OverMs = over, x.At
	}
}

// alive says whether a report shows that a closed session goes on.
func alive(r *schemas.Telemetry, ts, lastTs int64) bool {
	if ts <= lastTs || r.Event == "rr" {
		return false
	}
	switch r.State {
	case "s", "d", "p", "k", "r", "w":
		return true
	}
	return false
}

// sequence finds reports that were lost: players number their events, pages their beacons.
func (t *Table) sequence(o *one, r *schemas.Telemetry, isRR, late bool) {
	o.L.Numbered++
	player := r.Source == schemas.SourceCMCDEvent
	track := &o.PageSn
	if player {
		track = &o.Sn
	}
	sn, before := r.Seq.V, track.LostHere+track.LostDone
	// The number of an rr is drawn when the answer comes, its ts is the request's: it tells nothing about order.
	if !isRR && !late {
		if track.Started && sn < track.Last && (sn <= 3 || track.Last-sn > 16) {
			track.restart()
			if player && !o.pageKnows(r.TsUnixMs) {
				o.insert(event{Ts: r.TsUnixMs, Sn: -1, Kind: evNewLoad})
			}
		}
		track.Last = sn
	}
	track.add(sn)
	t.stats.Lost += track.LostHere + track.LostDone - before
}

// values takes bitrate, latency and frames of a report.
func (t *Table) values(o *one, r *schemas.Telemetry, isRR bool, feed func(event)) {
	switch {
	case r.PlayedBitrateKbps.OK && r.PlayedBitrateKbps.V > 0:
		o.UsePB = true
		o.bitrate(r.PlayedBitrateKbps.V, feed)
	case o.UsePB || !r.BitrateKbps.OK || r.BitrateKbps.V <= 0:
	case isRR && (r.ObjectType == "a" || r.ObjectType == "i" || r.ObjectType == "m" || r.ObjectType == "tt" || r.ObjectType == "c"):
		// The rate of an audio or init object is not the picture's.
	default:
		o.bitrate(r.BitrateKbps.V, feed)
	}
	switch {
	case r.E2ELatencyMs.OK:
		o.latency(max(r.E2ELatencyMs.V, 0), r.TsUnixMs, r.Seq.V, true)
	case r.LiveLatencyMs.OK && (r.State == "p" || r.State == "" && o.Now.Sta == 'p'):
		// Before the first frame and in seeks the playhead is not where the viewer is.
		o.latency(max(r.LiveLatencyMs.V, 0), r.TsUnixMs, r.Seq.V, false)
	}
	if r.DroppedFrames.OK && r.DroppedFrames.V >= 0 {
		o.Frames = true
		if r.DroppedFrames.V < o.FrameLast && !(r.TsUnixMs < o.LastTs) {
			o.FrameBase += o.FrameLast // the counter began again with a new load
			o.FrameLast = 0
		}
		o.FrameLast = max(o.FrameLast, r.DroppedFrames.V)
		o.L.Dropped = o.FrameBase + o.FrameLast
	}
}

func (o *one) bitrate(kbps int32, feed func(event)) {
	if o.Now.Bitrate != kbps {
		feed(event{Kind: evBitrate, Val: kbps})
	}
}

// dims gives the session's dimensions after r.
func (t *Table) dims(o *one, r *schemas.Telemetry) dims {
	d := o.D
	set := func(p *string, v string) {
		if v != "" && *p != v {
			*p = t.word(v)
		}
	}
	once := func(p *string, v string) {
		if *p == "" && v != "" {
			*p = t.word(v)
		}
	}
	if r.App != "" && r.Stream != "" {
		set(&d.App, r.App)
		set(&d.Stream, r.Stream)
	}
	edge := r.Source == schemas.SourceCMCDRequest || r.Source == schemas.SourceCDNLog
	served := r.CDN != "" && (edge && isMedia(r) || r.Event == "rr" && r.URLHost != "") && isPicture(r)
	switch {
	case served:
		if o.CDNKnown && d.CDN != r.CDN {
			o.L.CDNMoves++
		}
		o.CDNKnown = true
		set(&d.CDN, r.CDN)
		set(&d.Server, r.Server)
	case !o.CDNKnown:
		set(&d.CDN, r.CDN)
	}
	if d.ViewerID == "" {
		d.ViewerID = strings.Clone(r.ViewerID)
	}
	once(&d.Arms, r.Arms)
	once(&d.Region, r.Region)
	once(&d.ISP, r.ISP)
	once(&d.Country, r.Country)
	set(&d.Network, r.NetworkType)
	if !edge {
		set(&d.Protocol, r.Protocol)
		set(&d.Client, r.Client)
	} else {
		once(&d.Protocol, r.Protocol)
		once(&d.Client, r.Client)
	}
	once(&d.ClientVer, r.ClientVersion)
	once(&d.Device, r.Device)
	once(&d.OS, r.OS)
	return d
}
