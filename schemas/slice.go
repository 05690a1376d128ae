package schemas

import "github.com/spillway-live/spillway/schemas/columnar"

// Slice kinds.
const (
	SliceDelta = "delta" // what happened since the last slice of the session
	SliceFinal = "final" // the last slice of a session; it counts one closed session
)

// FailedStartBin is the first-screen histogram bin of starts that failed or were
// abandoned: they count as infinitely slow, not as missing (a missing row would
// reward the arm that loses its slow starts).
const FailedStartBin = 1 << 30

// Slice is a signed, additive piece of one playback session: a row of the
// ClickHouse table session_slices. Sums over slices are the session; sums over
// sessions are the roll-ups. Ratios are never stored. All durations are
// milliseconds of the client's clock.
type Slice struct {
	TimeUnixMs int64  // stream time the slice is attributed to
	Kind       string // delta or final
	SessionID  string
	ViewerID   string
	App        string
	Stream     string
	CDN        string // as actually served
	Server     string
	Protocol   string
	Region     string
	ISP        string
	Country    string
	Device     string
	OS         string
	Client     string
	ClientVer  string
	Network    string
	Arms       string
	EndReason  string // final: ended, quit, failed, silence, not_started

	Sessions   int64 // 1 in the first slice of a session
	Ended      int64 // 1 in the final slice
	Attempts   int64 // start attempts
	Starts     int64 // attempts that reached the first frame
	StartupMs  int64 // start-up time of those
	ExitBefore int64 // attempts given up before the first frame, without failure
	StartFails int64 // attempts that failed before the first frame
	PlayFails  int64 // failures after the first frame
	PlayedMs   int64 // time in state playing
	StalledMs  int64 // waiting after the first frame, outside seeks
	// Parts of StalledMs by cause, where it is known; docs/metrics.md has the rules.
	StalledNetworkMs    int64 // slow answers, or throughput below the bitrate
	StalledCDNMs        int64 // requests failed
	StalledBackgroundMs int64 // page in the background
	Stalls              int64
	SeekMs              int64 // waiting caused by seeks
	PausedMs            int64
	Switches            int64 // bitrate changes
	CDNMoves            int64

	LatencyMsSum     int64 // sum of latency samples weighted by played time: ms x ms
	LatencyWeightMs  int64
	BitrateKbpsMsSum int64 // bitrate x played time, kbit/s x ms
	BitrateWeightMs  int64
	DroppedFrames    int64
	FramesWeightMs   int64 // played time of sessions that tell their dropped frames
	Requests         int64 // media requests seen by edges
	RequestErrors    int64
	RequestBytes     int64
	Reports          int64 // telemetry rows accounted for by this slice
	NumberedReports  int64 // of those, reports with a sequence number, repeats apart
	LostReports      int64 // gaps in sn
	// Throughput that players measured: sum over the reports that tell it, each at most 100 Mbit/s, and their number.
	ThroughputKbpsSum int64
	ThroughputReports int64

	// Log-histograms (analytics/stats/loghist): bin numbers and signed counts, same length.
	FirstScreenBins   []int64
	FirstScreenCounts []int64
	LatencyBins       []int64
	LatencyCounts     []int64
}

// SliceTable describes the columns of Slice, for Arrow and ClickHouse.
func SliceTable() *columnar.Table[Slice] { return sliceTable }

type sl = Slice

// sliceTable is read-only after initialisation.
var sliceTable = columnar.NewTable(
	columnar.I64("time_ms", "stream time the slice is attributed to, Unix milliseconds", func(s *sl) *int64 { return &s.TimeUnixMs }),
	columnar.Str("kind", "delta, or final for the last slice of a session", func(s *sl) *string { return &s.Kind }),
	columnar.Str("session_id", "playback session", func(s *sl) *string { return &s.SessionID }),
	columnar.Str("viewer_id", "salted hash of the viewer", func(s *sl) *string { return &s.ViewerID }),
	columnar.Str("app", "application", func(s *sl) *string { return &s.App }),
	columnar.Str("stream", "stream name", func(s *sl) *string { return &s.Stream }),
	columnar.Str("cdn", "CDN that served the session in this slice", func(s *sl) *string { return &s.CDN }),
	columnar.Str("server", "host and port that served", func(s *sl) *string { return &s.Server }),
	columnar.Str("protocol", "streaming format: h HLS, d DASH", func(s *sl) *string { return &s.Protocol }),
	columnar.Str("region", "viewer's region", func(s *sl) *string { return &s.Region }),
	columnar.Str("isp", "viewer's internet provider", func(s *sl) *string { return &s.ISP }),
	columnar.Str("country", "viewer's country", func(s *sl) *string { return &s.Country }),
	columnar.Str("device", "device class", func(s *sl) *string { return &s.Device }),
	columnar.Str("os", "operating system", func(s *sl) *string { return &s.OS }),
	columnar.Str("client", "player software", func(s *sl) *string { return &s.Client }),
	columnar.Str("client_version", "version of the player or app", func(s *sl) *string { return &s.ClientVer }),
	columnar.Str("network_type", "network type", func(s *sl) *string { return &s.Network }),
	columnar.Str("arms", "experiment=arm pairs of the session", func(s *sl) *string { return &s.Arms }),
	columnar.Str("end_reason", "final slice: ended, quit, failed, silence, not_started", func(s *sl) *string { return &s.EndReason }),
	columnar.I64("sessions", "1 in the first slice of a session", func(s *sl) *int64 { return &s.Sessions }),
	columnar.I64("ended", "1 in the final slice of a session", func(s *sl) *int64 { return &s.Ended }),
	columnar.I64("attempts", "start attempts", func(s *sl) *int64 { return &s.Attempts }),
	columnar.I64("starts", "attempts that reached the first frame", func(s *sl) *int64 { return &s.Starts }),
	columnar.I64("startup_ms", "start-up time of the starts, ms", func(s *sl) *int64 { return &s.StartupMs }),
	columnar.I64("exits_before_start", "attempts given up before the first frame without failure", func(s *sl) *int64 { return &s.ExitBefore }),
	columnar.I64("start_failures", "attempts that failed before the first frame", func(s *sl) *int64 { return &s.StartFails }),
	columnar.I64("playback_failures", "failures after the first frame", func(s *sl) *int64 { return &s.PlayFails }),
	columnar.I64("played_ms", "time in state playing, ms", func(s *sl) *int64 { return &s.PlayedMs }),
	columnar.I64("stalled_ms", "waiting after the first frame outside seeks, ms", func(s *sl) *int64 { return &s.StalledMs }),
	columnar.I64("stalls", "stalls begun", func(s *sl) *int64 { return &s.Stalls }),
	columnar.I64("seek_ms", "waiting caused by seeks, ms", func(s *sl) *int64 { return &s.SeekMs }),
	columnar.I64("paused_ms", "time paused, ms", func(s *sl) *int64 { return &s.PausedMs }),
	columnar.I64("switches", "bitrate changes", func(s *sl) *int64 { return &s.Switches }),
	columnar.I64("cdn_moves", "changes of the serving CDN", func(s *sl) *int64 { return &s.CDNMoves }),
	columnar.I64("latency_ms_sum", "live latency x played time, ms x ms", func(s *sl) *int64 { return &s.LatencyMsSum }),
	columnar.I64("latency_weight_ms", "played time with a known latency, ms", func(s *sl) *int64 { return &s.LatencyWeightMs }),
	columnar.I64("bitrate_kbps_ms_sum", "bitrate x played time, kbit/s x ms", func(s *sl) *int64 { return &s.BitrateKbpsMsSum }),
	columnar.I64("bitrate_weight_ms", "played time with a known bitrate, ms", func(s *sl) *int64 { return &s.BitrateWeightMs }),
	columnar.I64("dropped_frames", "frames dropped", func(s *sl) *int64 { return &s.DroppedFrames }),
	columnar.I64("requests", "media requests seen by edges", func(s *sl) *int64 { return &s.Requests }),
	columnar.I64("request_errors", "of those, answered 400 or above, or not at all", func(s *sl) *int64 { return &s.RequestErrors }),
	columnar.I64("request_bytes", "bytes edges sent", func(s *sl) *int64 { return &s.RequestBytes }),
	columnar.I64("reports", "telemetry rows accounted for", func(s *sl) *int64 { return &s.Reports }),
	columnar.I64("lost_reports", "reports missing by sequence number", func(s *sl) *int64 { return &s.LostReports }),
	columnar.I64("stalled_network_ms", "of the stalled time, what slow answers or throughput below the bitrate explain, ms", func(s *sl) *int64 { return &s.StalledNetworkMs }),
	columnar.I64("stalled_cdn_ms", "of the stalled time, what failed requests explain, ms", func(s *sl) *int64 { return &s.StalledCDNMs }),
	columnar.I64("stalled_background_ms", "of the stalled time, that of pages in the background, ms", func(s *sl) *int64 { return &s.StalledBackgroundMs }),
	columnar.I64("frames_weight_ms", "played time of sessions that tell their dropped frames, ms", func(s *sl) *int64 { return &s.FramesWeightMs }),
	columnar.I64("numbered_reports", "telemetry rows that carry a sequence number, repeats apart", func(s *sl) *int64 { return &s.NumberedReports }),
	columnar.I64("throughput_kbps_sum", "throughput that players measured, summed over the reports that tell it, each at most 100 Mbit/s; kbit/s", func(s *sl) *int64 { return &s.ThroughputKbpsSum }),
	columnar.I64("throughput_reports", "reports that tell a measured throughput", func(s *sl) *int64 { return &s.ThroughputReports }),
	columnar.I64List("first_screen_bins", "log-histogram bins of start-up times (failed starts in bin 1073741824)", func(s *sl) *[]int64 { return &s.FirstScreenBins }),
	columnar.I64List("first_screen_counts", "counts of those bins", func(s *sl) *[]int64 { return &s.FirstScreenCounts }),
	columnar.I64List("latency_bins", "log-histogram bins of live latency", func(s *sl) *[]int64 { return &s.LatencyBins }),
	columnar.I64List("latency_counts", "counts of those bins, one a sample", func(s *sl) *[]int64 { return &s.LatencyCounts }),
)

// EncodeSlices gives the payload of a slices message.
func EncodeSlices(rows []Slice) ([]byte, error) { return sliceTable.Encode(rows) }

// DecodeSlices reads the payload of a slices message.
func DecodeSlices(data []byte) ([]Slice, error) { return sliceTable.Decode(data) }
