package schemas

import (
	"github.com/spillway-live/spillway/schemas/columnar"
)

// Shorthands for optional telemetry values.
type (
	OptInt32   = columnar.Opt[int32]
	OptInt64   = columnar.Opt[int64]
	OptFloat64 = columnar.Opt[float64]
	OptBool    = columnar.Opt[bool]
)

// Telemetry sources: which kind of report a row was made from.
const (
	SourceCMCDEvent   = "cmcd_event"   // CMCD v2 event mode, posted by a player
	SourceCMCDRequest = "cmcd_request" // CMCD on a media request, as seen by an edge or by the collector
	SourceBeacon      = "beacon"       // our own JSON beacon
	SourceCDNLog      = "cdn_log"      // an edge's log line without CMCD
	SourcePublisher   = "publisher"    // publisher statistics
	SourceHop         = "hop"          // a part at one of our own hops; no session
	SourceProbe       = "probe"        // a synthetic request through a CDN; no session, counts as no viewer
)

// Telemetry is one report of a player, edge or publisher, as the collector
// understood it: one row of the ClickHouse table telemetry. Values that were
// not reported are absent (empty string, Opt not OK), never zero.
// Keys in brackets are those of CTA-5004-B.
type Telemetry struct {
	ReceivedUnixUs int64  // collector's clock
	TsUnixMs       int64  // [ts] client's clock; received time where the client gave none
	Source         string // one of the Source constants
	Event          string // [e] event type token; beacon kind
	SessionID      string // [sid]
	ViewerID       string // salted hash
	App            string
	Stream         string
	ContentID      string // [cid]
	CDN            string // as served: edge's name, or that of the host in url
	Server         string // host and port that served
	Region         string
	ISP            string
	Country        string
	Device         string // phone, tablet, desktop, tv
	OS             string
	Client         string // player: hls.js, dash.js, shaka, spillway-viewer, or what the beacon says
	ClientVersion  string
	NetworkType    string
	Protocol       string // [sf] h, d, s, e, o
	StreamType     string // [st] v, l, ll
	ObjectType     string // [ot]
	State          string // [sta]
	Arms           string // "experiment=arm,..." from the session token
	URLHost        string
	URLPath        string // without query and token
	ErrorCode      string // [ec], joined by |
	CustomEvent    string // [cen]
	Detail         string // custom keys and beacon fields without a column, JSON object of strings
	Gates          string // names of plausibility gates that dropped a value of this row, joined by |

	CMCDVersion       OptInt32 // [v]
	Seq               OptInt64 // [sn]
	BufferMs          OptInt32 // [bl]
	BitrateKbps       OptInt32 // [br] video or combined
	PlayedBitrateKbps OptInt32 // [pb]
	TopBitrateKbps    OptInt32 // [tb]
	ThroughputKbps    OptInt32 // [mtp]
	LiveLatencyMs     OptInt32 // [ltc]
	StartDelayMs      OptInt32 // [msd]
	StarvationMs      OptInt32 // [bsd], summed over types
	ObjectDurationMs  OptInt32 // [d]
	DeadlineMs        OptInt32 // [dl]
	PlaybackRate      OptFloat64
	PlayheadMs        OptInt64 // [pt]
	FirstByteMs       OptInt32 // [ttfb] or edge's upstream+first byte time
	LastByteMs        OptInt32 // [ttlb] or edge's total time
	ResponseCode      OptInt32 // [rc]
	Bytes             OptInt64 // bytes sent for the object
	CacheHit          OptBool
	DroppedFrames     OptInt64 // [dfa], since session start
	DecodedFrames     OptInt64
	Starved           OptBool  // [bs]
	Background        OptBool  // [bg]
	StartingUp        OptBool  // [su]
	NotRendered       OptBool  // [nr]
	E2ELatencyMs      OptInt32 // clock-corrected wall clock minus program date time at the playhead
	ClockOffsetMs     OptFloat64
	ClockBoundMs      OptFloat64
	ViewportWidth     OptInt32
	ViewportHeight    OptInt32
	VideoWidth        OptInt32
	VideoHeight       OptInt32
	// Values the page measured itself, from the beacon at the end of a view.
	PageStartupMs  OptInt32
	PageStallMs    OptInt64
	PageStallCount OptInt32
	PagePlayedMs   OptInt64
	// Publisher rows.
	FPS            OptFloat64
	PublishBps     OptInt64
	PublishStallMs OptInt64
	// Rows about a part at a hop (hop.go).
	Hop        string // one of the Hop constants; empty: the row is not about a hop
	Rendition  string
	Track      string
	Epoch      OptInt64
	MSN        OptInt64
	Part       OptInt32   // -1: the whole segment
	HopDelayMs OptFloat64 // time at this hop less that of ingest's receipt of the part's last sample
	// Probe rows.
	StalenessMs OptInt64 // age of the newest part that the playlist lists, since ingest had it
}

// TelemetryTable describes the columns of Telemetry, for Arrow and ClickHouse.
func TelemetryTable() *columnar.Table[Telemetry] { return telemetryTable }

type tel = Telemetry

// telemetryTable is read-only after initialisation.
var telemetryTable = columnar.NewTable(
	columnar.I64("received_us", "when the collector received the report, Unix microseconds", func(e *tel) *int64 { return &e.ReceivedUnixUs }),
	columnar.I64("ts_ms", "client's clock at the event [CMCD ts], Unix milliseconds; received time where the client gave none", func(e *tel) *int64 { return &e.TsUnixMs }),
	columnar.Str("source", "kind of report: cmcd_event, cmcd_request, beacon, cdn_log, publisher, publisher_report, hop, probe", func(e *tel) *string { return &e.Source }),
	columnar.Str("event", "event type [CMCD e] or beacon kind", func(e *tel) *string { return &e.Event }),
	columnar.Str("session_id", "playback session [CMCD sid]", func(e *tel) *string { return &e.SessionID }),
	columnar.Str("viewer_id", "salted hash of the viewer", func(e *tel) *string { return &e.ViewerID }),
	columnar.Str("app", "application", func(e *tel) *string { return &e.App }),
	columnar.Str("stream", "stream name", func(e *tel) *string { return &e.Stream }),
	columnar.Str("content_id", "content id [CMCD cid]", func(e *tel) *string { return &e.ContentID }),
	columnar.Str("cdn", "CDN that served, from the edge or the host in the URL", func(e *tel) *string { return &e.CDN }),
	columnar.Str("server", "host and port that served", func(e *tel) *string { return &e.Server }),
	columnar.Str("region", "viewer's region", func(e *tel) *string { return &e.Region }),
	columnar.Str("isp", "viewer's internet provider", func(e *tel) *string { return &e.ISP }),
	columnar.Str("country", "viewer's country, ISO 3166", func(e *tel) *string { return &e.Country }),
	columnar.Str("device", "device class: phone, tablet, desktop, tv", func(e *tel) *string { return &e.Device }),
	columnar.Str("os", "operating system", func(e *tel) *string { return &e.OS }),
	columnar.Str("client", "player software", func(e *tel) *string { return &e.Client }),
	columnar.Str("client_version", "version of the player or app", func(e *tel) *string { return &e.ClientVersion }),
	columnar.Str("network_type", "network as the device names it: wifi, 4g, 5g", func(e *tel) *string { return &e.NetworkType }),
	columnar.Str("protocol", "streaming format [CMCD sf]: h HLS, d DASH, s, e, o", func(e *tel) *string { return &e.Protocol }),
	columnar.Str("stream_type", "[CMCD st] v on demand, l live, ll low-latency live", func(e *tel) *string { return &e.StreamType }),
	columnar.Str("object_type", "[CMCD ot] m a v av i c tt k o", func(e *tel) *string { return &e.ObjectType }),
	columnar.Str("state", "player state [CMCD sta]", func(e *tel) *string { return &e.State }),
	columnar.Str("arms", "experiment=arm pairs of the session", func(e *tel) *string { return &e.Arms }),
	columnar.Str("url_host", "host of the requested URL", func(e *tel) *string { return &e.URLHost }),
	columnar.Str("url_path", "path of the requested URL, without query and token", func(e *tel) *string { return &e.URLPath }),
	columnar.Str("error_code", "[CMCD ec], joined by |", func(e *tel) *string { return &e.ErrorCode }),
	columnar.Str("custom_event", "[CMCD cen]", func(e *tel) *string { return &e.CustomEvent }),
	columnar.Str("detail", "keys without a column, JSON object of strings", func(e *tel) *string { return &e.Detail }),
	columnar.Str("gates", "plausibility gates that dropped a value of this row, joined by |", func(e *tel) *string { return &e.Gates }),
	columnar.OptI32("cmcd_version", "[CMCD v]", func(e *tel) *OptInt32 { return &e.CMCDVersion }),
	columnar.OptI64("seq", "sequence number of the report [CMCD sn]", func(e *tel) *OptInt64 { return &e.Seq }),
	columnar.OptI32("buffer_ms", "buffer length [CMCD bl], ms", func(e *tel) *OptInt32 { return &e.BufferMs }),
	columnar.OptI32("bitrate_kbps", "encoded bitrate [CMCD br], kbit/s", func(e *tel) *OptInt32 { return &e.BitrateKbps }),
	columnar.OptI32("played_bitrate_kbps", "bitrate at the playhead [CMCD pb], kbit/s", func(e *tel) *OptInt32 { return &e.PlayedBitrateKbps }),
	columnar.OptI32("top_bitrate_kbps", "highest bitrate [CMCD tb], kbit/s", func(e *tel) *OptInt32 { return &e.TopBitrateKbps }),
	columnar.OptI32("throughput_kbps", "measured throughput [CMCD mtp], kbit/s", func(e *tel) *OptInt32 { return &e.ThroughputKbps }),
	columnar.OptI32("live_latency_ms", "live latency as the player computes it [CMCD ltc], ms", func(e *tel) *OptInt32 { return &e.LiveLatencyMs }),
	columnar.OptI32("start_delay_ms", "media start delay [CMCD msd], ms", func(e *tel) *OptInt32 { return &e.StartDelayMs }),
	columnar.OptI32("starvation_ms", "finished starvation [CMCD bsd], ms, summed over types", func(e *tel) *OptInt32 { return &e.StarvationMs }),
	columnar.OptI32("object_duration_ms", "duration of the object [CMCD d], ms", func(e *tel) *OptInt32 { return &e.ObjectDurationMs }),
	columnar.OptI32("deadline_ms", "deadline [CMCD dl], ms", func(e *tel) *OptInt32 { return &e.DeadlineMs }),
	columnar.OptF64("playback_rate", "[CMCD pr]", func(e *tel) *OptFloat64 { return &e.PlaybackRate }),
	columnar.OptI64("playhead_ms", "[CMCD pt], ms", func(e *tel) *OptInt64 { return &e.PlayheadMs }),
	columnar.OptI32("first_byte_ms", "[CMCD ttfb] or the edge's time to first byte, ms", func(e *tel) *OptInt32 { return &e.FirstByteMs }),
	columnar.OptI32("last_byte_ms", "[CMCD ttlb] or the edge's time to last byte, ms", func(e *tel) *OptInt32 { return &e.LastByteMs }),
	columnar.OptI32("response_code", "[CMCD rc] or the edge's status; 0 is no answer", func(e *tel) *OptInt32 { return &e.ResponseCode }),
	columnar.OptI64("bytes", "bytes sent for the object", func(e *tel) *OptInt64 { return &e.Bytes }),
	columnar.OptBool("cache_hit", "the edge had the object", func(e *tel) *OptBool { return &e.CacheHit }),
	columnar.OptI64("dropped_frames", "dropped frames since session start [CMCD dfa]", func(e *tel) *OptInt64 { return &e.DroppedFrames }),
	columnar.OptI64("decoded_frames", "decoded frames since session start", func(e *tel) *OptInt64 { return &e.DecodedFrames }),
	columnar.OptBool("starved", "buffer starved since the last report [CMCD bs]", func(e *tel) *OptBool { return &e.Starved }),
	columnar.OptBool("background", "player not visible [CMCD bg]", func(e *tel) *OptBool { return &e.Background }),
	columnar.OptBool("starting_up", "object needed urgently [CMCD su]", func(e *tel) *OptBool { return &e.StartingUp }),
	columnar.OptBool("not_rendered", "fetched but not rendered [CMCD nr]", func(e *tel) *OptBool { return &e.NotRendered }),
	columnar.OptI32("e2e_latency_ms", "corrected wall clock minus program date time at the playhead, ms", func(e *tel) *OptInt32 { return &e.E2ELatencyMs }),
	columnar.OptF64("clock_offset_ms", "client clock's offset to ours, ms, to be added", func(e *tel) *OptFloat64 { return &e.ClockOffsetMs }),
	columnar.OptF64("clock_bound_ms", "bound of the offset's error, ms", func(e *tel) *OptFloat64 { return &e.ClockBoundMs }),
	columnar.OptI32("viewport_width", "player width, CSS pixels", func(e *tel) *OptInt32 { return &e.ViewportWidth }),
	columnar.OptI32("viewport_height", "player height, CSS pixels", func(e *tel) *OptInt32 { return &e.ViewportHeight }),
	columnar.OptI32("video_width", "encoded width, pixels", func(e *tel) *OptInt32 { return &e.VideoWidth }),
	columnar.OptI32("video_height", "encoded height, pixels", func(e *tel) *OptInt32 { return &e.VideoHeight }),
	columnar.OptI32("page_startup_ms", "start-up time as the page measured it, ms", func(e *tel) *OptInt32 { return &e.PageStartupMs }),
	columnar.OptI64("page_stall_ms", "stall time as the page measured it, ms", func(e *tel) *OptInt64 { return &e.PageStallMs }),
	columnar.OptI32("page_stall_count", "stalls as the page counted them", func(e *tel) *OptInt32 { return &e.PageStallCount }),
	columnar.OptI64("page_played_ms", "played time as the page measured it, ms", func(e *tel) *OptInt64 { return &e.PagePlayedMs }),
	columnar.OptF64("fps", "publisher's frame rate over the last report interval, 1/s", func(e *tel) *OptFloat64 { return &e.FPS }),
	columnar.OptI64("publish_bps", "publisher's bitrate over the last report interval, bit/s", func(e *tel) *OptInt64 { return &e.PublishBps }),
	columnar.OptI64("publish_stall_ms", "how far the publisher fell behind real time since the last report, ms", func(e *tel) *OptInt64 { return &e.PublishStallMs }),
	columnar.Str("hop", "hop between publisher and player: publish, ingest, stored, packaged, origin, edge, player, probe", func(e *tel) *string { return &e.Hop }),
	columnar.Str("rendition", "rendition of the part at the hop", func(e *tel) *string { return &e.Rendition }),
	columnar.Str("track", "track of the part at the hop: video, audio", func(e *tel) *string { return &e.Track }),
	columnar.OptI64("epoch", "publish epoch of the part at the hop", func(e *tel) *OptInt64 { return &e.Epoch }),
	columnar.OptI64("msn", "media sequence number of the part at the hop", func(e *tel) *OptInt64 { return &e.MSN }),
	columnar.OptI32("part", "index of the part in its segment; -1 for the whole segment", func(e *tel) *OptInt32 { return &e.Part }),
	columnar.OptF64("hop_delay_ms", "time at the hop less the time at which ingest had the part's last sample, each by its own machine's clock, ms", func(e *tel) *OptFloat64 { return &e.HopDelayMs }),
	columnar.OptI64("staleness_ms", "age of the newest part that a probed playlist lists, since ingest had it, ms", func(e *tel) *OptInt64 { return &e.StalenessMs }),
)

// EncodeTelemetry gives the payload of a telemetry message.
func EncodeTelemetry(rows []Telemetry) ([]byte, error) { return telemetryTable.Encode(rows) }

// DecodeTelemetry reads the payload of a telemetry message.
func DecodeTelemetry(data []byte) ([]Telemetry, error) { return telemetryTable.Decode(data) }
