package console

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// lostAfter is how long a live stream's state may stand still before the
// stream counts as lost: ingest writes it each second and may have died.
const lostAfter = 15 * time.Second

// endedShown is how long an ended stream stays on the page.
const endedShown = 15 * time.Minute

// num is a measured number: NaN and nil become null in JSON, infinity "inf".
type num float64

var none = num(math.NaN())

func (n num) MarshalJSON() ([]byte, error) {
	switch f := float64(n); {
	case math.IsNaN(f):
		return []byte("null"), nil
	case math.IsInf(f, 0):
		return []byte(`"inf"`), nil
	default:
		return json.Marshal(f)
	}
}

func numOf(p *float64) num {
	if p == nil {
		return none
	}
	return num(*p)
}

// pictureRef says where a picture is on the bus.
type pictureRef struct {
	Seq uint64 `json:"seq"`
	// TimeMs is the wall clock of the pictured frame, Unix milliseconds.
	TimeMs int64 `json:"time_ms"`
	Width  int   `json:"width"`
	Height int   `json:"height"`
}

// health says whether a source answers, and since when.
type health struct {
	OK bool `json:"ok"`
	// SinceMs is when that began, Unix milliseconds; 0: it was not asked yet.
	SinceMs int64 `json:"since_ms"`
	// LastMs is when it last answered, Unix milliseconds; 0 is never.
	LastMs int64  `json:"last_ms"`
	Error  string `json:"error,omitempty"`
}

type quality struct {
	Stall, Latency, BitrateKbps, ErrorRatio num
	Failures, WatchedMs                     int64
}

type firstScreen struct {
	P50, P90 num
	Attempts int64
}

type viewerCount struct {
	key     schemas.StreamKey
	cdn     string
	viewers int64
}

// numbers is everything that comes from ClickHouse; nil maps were never read.
type numbers struct {
	viewers []viewerCount
	cdns    map[string]quality
	streams map[schemas.StreamKey]quality
	first   map[string]firstScreen
	recent  *series
	minutes *series
}

// store is what the console knows. What is guarded by mu is replaced, not changed in place.
type store struct {
	streams *mirror.Table[*schemas.StreamState]
	recent  *mirror.Recent[*schemas.StreamState]
	cdns    *mirror.Table[*schemas.CDN]
	usage   *mirror.Table[*schemas.Usage]
	alerts  *mirror.Table[*schemas.Alert]
	hot     *mirror.Table[*schemas.HotState]

	mu         sync.Mutex
	pictures   map[schemas.StreamKey]pictureRef
	n          numbers
	bus, click health
}

func newStore(logger *slog.Logger) *store {
	streams := mirror.New(schemas.BucketStreams, parseStream, logger)
	return &store{
		streams: streams, recent: mirror.Recently(streams), cdns: mirror.New(schemas.BucketCDNs, schemas.ParseCDN, logger),
		usage: mirror.New(schemas.BucketUsage, schemas.ParseUsage, logger), alerts: mirror.New(schemas.BucketAlerts, schemas.ParseAlert, logger),
		hot: mirror.New(schemas.BucketHot, schemas.ParseHotState, logger), pictures: map[schemas.StreamKey]pictureRef{},
	}
}

// pastAfter is when a stream that nothing was heard of is not looked at any more: the
// bucket has every stream that there ever was.
const pastAfter = 24 * time.Hour

func past(s *schemas.StreamState, now time.Time) bool {
	return now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > pastAfter
}

// forget drops where the pictures are of streams that are gone or past. A picture may
// be heard of before its stream; a young one stays. mu is held.
func (st *store) forget(now time.Time) {
	for k, p := range st.pictures {
		if s, ok := st.streams.Get(k.KVKey()); now.UnixMilli()-p.TimeMs > pastAfter.Milliseconds() && (!ok || past(s, now)) {
			delete(st.pictures, k)
		}
	}
}

// followed is a bucket that the store follows.
type followed interface {
	Run(ctx context.Context, js jetstream.JetStream) error
	Changed() <-chan struct{}
}

func (st *store) tables() []followed {
	return []followed{st.streams, st.cdns, st.usage, st.alerts, st.hot}
}

// set records that a source answered (err nil) or did not; it reports a change.
func (h *health) set(err error, now time.Time) bool {
	changed := h.OK != (err == nil) || h.SinceMs == 0
	if changed {
		h.OK, h.SinceMs = err == nil, now.UnixMilli()
	}
	h.Error = ""
	if err != nil {
		h.Error = plain(err)
	} else {
		h.LastMs = now.UnixMilli()
	}
	return changed
}

// plain keeps the first line of an error, bounded.
func plain(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// streamView is one stream as pages and API show it.
type streamView struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// State is live, lost (no sign of life from ingest) or ended.
	State      string      `json:"state"`
	EndReason  string      `json:"end_reason,omitempty"`
	UpdatedMs  int64       `json:"updated_ms"`
	OpenedMs   int64       `json:"opened_ms"`
	Epoch      uint32      `json:"epoch"`
	CDN        string      `json:"cdn"`
	Protocol   string      `json:"protocol"`
	Encoder    string      `json:"encoder,omitempty"`
	Codecs     string      `json:"codecs"`
	Width      int         `json:"width"`
	Height     int         `json:"height"`
	FPS        num         `json:"fps"`
	NominalFPS num         `json:"nominal_fps"`
	VideoBps   int64       `json:"video_bps"`
	AudioBps   int64       `json:"audio_bps"`
	KeyframeMs int64       `json:"keyframe_ms"`
	BehindMs   int64       `json:"behind_ms"`
	Jumps      uint64      `json:"timestamp_jumps"`
	Viewers    num         `json:"viewers"`
	ByCDN      []cdnCount  `json:"by_cdn"`
	Stall      num         `json:"stall_ratio"`
	LatencyMs  num         `json:"latency_ms"`
	Picture    *pictureRef `json:"picture,omitempty"`
	// Off are the reasons for which it is not on the hot list; none: it is.
	Off []string `json:"off,omitempty"`
}

type cdnCount struct {
	CDN     string `json:"cdn"`
	Viewers int64  `json:"viewers"`
}

// cdnView is one CDN as pages and API show it.
type cdnView struct {
	Name   string `json:"name"`
	State  string `json:"state"` // active, draining, off, or unregistered: seen in telemetry only
	Region string `json:"region"`
	// Capacities are 0 where unlimited or unknown.
	CapacityViewers int   `json:"capacity_viewers"`
	CapacityBps     int64 `json:"capacity_bps"`
	Viewers         num   `json:"viewers"`
	Stall           num   `json:"stall_ratio"`
	FirstP50        num   `json:"first_screen_p50_ms"`
	FirstP90        num   `json:"first_screen_p90_ms"`
	LatencyMs       num   `json:"latency_ms"`
	BitrateKbps     num   `json:"bitrate_kbps"`
	ErrorRatio      num   `json:"request_error_ratio"`
	Failures        int64 `json:"failures"`
	EgressBps       num   `json:"egress_bps"`
	// Bill is what the month costs so far; nil for a CDN that is not registered.
	Bill *schemas.Bill `json:"bill"`
}

// totals are the figures over all streams and CDNs.
type totals struct {
	Live      int `json:"live"`
	Viewers   num `json:"viewers"`
	Stall     num `json:"stall_ratio"`
	LatencyMs num `json:"latency_ms"`
	EgressBps num `json:"egress_bps"`
}

type view struct {
	Totals  totals       `json:"totals"`
	Streams []streamView `json:"streams"`
	CDNs    []cdnView    `json:"cdns"`
	Bus     health       `json:"bus"`
	Click   health       `json:"clickhouse"`
}

// Bounds of what a page shows.
const (
	maxStreams = 1000
	maxCDNs    = 100
)

// view puts what is known together as of now.
func (st *store) view(now time.Time) view {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := st.n
	v := view{Bus: st.bus, Click: st.click, Streams: []streamView{}, CDNs: []cdnView{}}
	byStream := map[schemas.StreamKey][]cdnCount{}
	byCDN := map[string]int64{}
	v.Totals = totals{Viewers: none, Stall: none, LatencyMs: none, EgressBps: none}
	if n.viewers != nil {
		v.Totals.Viewers = 0
		for _, c := range n.viewers {
			byStream[c.key] = append(byStream[c.key], cdnCount{c.cdn, c.viewers})
			byCDN[c.cdn] += c.viewers
			v.Totals.Viewers += num(c.viewers)
		}
	}
	// Without the bus the last states stand, however old they get.
	for _, s := range st.recent.All(func(_ string, s *schemas.StreamState) bool { return st.bus.OK && past(s, now) }) {
		w := streamOf(s, now, st.bus)
		if w.State != "live" && now.UnixMilli()-w.UpdatedMs > endedShown.Milliseconds() {
			continue
		}
		if w.State == "live" {
			v.Totals.Live++
		}
		if p, ok := st.pictures[s.Key()]; ok {
			w.Picture = &p
		}
		if w.State == "live" {
			if h, ok := st.hot.Get(s.Key().KVKey()); ok && h.Off {
				w.Off = h.Reasons
			}
		}
		if n.viewers != nil {
			w.Viewers, w.ByCDN = 0, append(w.ByCDN, byStream[s.Key()]...)
			for _, c := range w.ByCDN {
				w.Viewers += num(c.Viewers)
			}
			slices.SortFunc(w.ByCDN, func(a, b cdnCount) int { return strings.Compare(a.CDN, b.CDN) })
		}
		if q, ok := n.streams[s.Key()]; ok {
			w.Stall, w.LatencyMs = q.Stall, q.Latency
		}
		v.Streams = append(v.Streams, w)
	}
	slices.SortFunc(v.Streams, func(a, b streamView) int {
		if a.State != b.State {
			return rank(a.State) - rank(b.State)
		}
		if c := strings.Compare(a.App, b.App); c != 0 {
			return c
		}
		return strings.Compare(a.Stream, b.Stream)
	})
	if len(v.Streams) > maxStreams {
		v.Streams = v.Streams[:maxStreams]
	}
	st.cdnViews(&v, byCDN, now)
	return v
}

func rank(state string) int {
	switch state {
	case "live":
		return 0
	case "lost":
		return 1
	default:
		return 2
	}
}

func streamOf(s *schemas.StreamState, now time.Time, bus health) streamView {
	w := streamView{
		App: s.App, Stream: s.Stream, State: "ended", EndReason: s.EndReason, UpdatedMs: s.UpdatedUnixUs / 1000,
		OpenedMs: s.Epoch.OpenedUnixUs / 1000, Epoch: s.Epoch.Epoch, CDN: s.Epoch.CDN, Protocol: s.Epoch.Protocol, Encoder: s.Epoch.Encoder,
		FPS: num(s.Stats.FPS), NominalFPS: none, VideoBps: s.Stats.VideoBps, AudioBps: s.Stats.AudioBps, KeyframeMs: s.Stats.KeyframeMs,
		BehindMs: s.Stats.StallMs, Jumps: s.Stats.TimestampJumps,
		Viewers: none, Stall: none, LatencyMs: none, ByCDN: []cdnCount{},
	}
	if s.Live {
		w.State = "live"
		// Without the bus nothing is known: the last state stands, under the banner that says so.
		if bus.OK && now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > lostAfter {
			w.State = "lost"
		}
	}
	var codecs []string
	for _, t := range s.Epoch.Tracks {
		codecs = append(codecs, t.Codec)
		if t.Track == schemas.Video {
			w.Width, w.Height, w.NominalFPS = t.Width, t.Height, num(t.FPS)
		}
	}
	w.Codecs = strings.Join(codecs, ", ")
	return w
}

func (st *store) cdnViews(v *view, byCDN map[string]int64, now time.Time) {
	n := st.n
	names := map[string]bool{}
	for name := range st.cdns.All() {
		names[name] = true
	}
	// Telemetry may name any CDN: what could not be registered is not shown.
	for name := range n.cdns {
		if schemas.CheckName("CDN name", name) == nil && len(names) < maxCDNs {
			names[name] = true
		}
	}
	used, _ := st.usage.Get(schemas.UsageKey) // nil: not known
	order := map[string]int{}
	var watched, stalled, latency, latencyWeight float64
	for name := range names {
		c, ok := st.cdns.Get(name)
		if !ok {
			c = &schemas.CDN{State: "unregistered", Order: math.MaxInt}
		}
		order[name] = c.Order
		w := cdnView{
			Name: name, State: string(c.State), Region: c.Region, CapacityViewers: c.CapacityViewers, CapacityBps: c.CapacityBps,
			Viewers: none, Stall: none, FirstP50: none, FirstP90: none, LatencyMs: none, BitrateKbps: none, ErrorRatio: none, EgressBps: none,
		}
		if ok {
			b := c.Bill(used.GB(name, now), now)
			w.Bill = &b
		}
		if n.viewers != nil {
			w.Viewers = num(byCDN[name])
		}
		if q, ok := n.cdns[name]; ok {
			w.Stall, w.LatencyMs, w.BitrateKbps, w.ErrorRatio, w.Failures = q.Stall, q.Latency, q.BitrateKbps, q.ErrorRatio, q.Failures
			if !math.IsNaN(float64(q.Stall)) {
				watched += float64(q.WatchedMs)
				stalled += float64(q.Stall) * float64(q.WatchedMs)
			}
			if !math.IsNaN(float64(q.Latency)) {
				latency += float64(q.Latency) * float64(q.WatchedMs)
				latencyWeight += float64(q.WatchedMs)
			}
		}
		if f, ok := n.first[name]; ok {
			w.FirstP50, w.FirstP90 = f.P50, f.P90
		}
		if n.recent != nil {
			if e := n.recent.last(name, "egress_bps"); !math.IsNaN(float64(e)) {
				w.EgressBps = e
				if math.IsNaN(float64(v.Totals.EgressBps)) {
					v.Totals.EgressBps = 0
				}
				v.Totals.EgressBps += e
			}
		}
		v.CDNs = append(v.CDNs, w)
	}
	if watched > 0 {
		v.Totals.Stall = num(stalled / watched)
	}
	if latencyWeight > 0 {
		v.Totals.LatencyMs = num(latency / latencyWeight)
	}
	slices.SortFunc(v.CDNs, func(a, b cdnView) int {
		return cmp.Or(cmp.Compare(order[a.Name], order[b.Name]), strings.Compare(a.Name, b.Name))
	})
}
