package schemas

// Beacon is our own JSON report, POSTed to <collector>/v1/beacon?t=<token> by
// the page's script (ingest/beacon), or by any app: one object, or an array of
// them. It carries what no player puts into CMCD. Unknown members are kept as
// detail, as strings: end (why the view ended), downlink_mbps, rtt_ms, dpr and
// clock_jumps are the script's.
// Numbers left out are unknown; never send 0 for unknown.
type Beacon struct {
	// Kind is start, state, progress, end (end of view, on pagehide or when the player is closed), background,
	// foreground, viewport, network, error (of a step, or of playback: step play), or a name of the app's own.
	Kind      string `json:"kind"`
	SessionID string `json:"sid"`
	// Seq counts the session's beacons from 0; with SessionID it identifies a repeat.
	Seq      *int64 `json:"sn,omitempty"`
	TsUnixMs *int64 `json:"ts,omitempty"`
	App      string `json:"app,omitempty"`
	Stream   string `json:"stream,omitempty"`
	// State is a CMCD player state: s p k r a e f. It has just changed, but with kind progress, which repeats it. Who
	// says one says all: from the first on a session's states are the page's, and the player's CMCD is not asked.
	State   string `json:"sta,omitempty"`
	Client  string `json:"client,omitempty"`
	Version string `json:"client_version,omitempty"`
	Device  string `json:"device,omitempty"`
	OS      string `json:"os,omitempty"`
	Network string `json:"network,omitempty"`
	// E2ELatencyMs: corrected wall clock minus program date time at the playhead; with the clock's offset and bound.
	E2ELatencyMs  *float64 `json:"latency_ms,omitempty"`
	ClockOffsetMs *float64 `json:"clock_offset_ms,omitempty"`
	ClockBoundMs  *float64 `json:"clock_bound_ms,omitempty"`
	// Frames since the start of the session.
	DroppedFrames  *int64 `json:"dropped_frames,omitempty"`
	DecodedFrames  *int64 `json:"decoded_frames,omitempty"`
	ViewportWidth  *int32 `json:"viewport_w,omitempty"` // CSS pixels
	ViewportHeight *int32 `json:"viewport_h,omitempty"`
	VideoWidth     *int32 `json:"video_w,omitempty"`
	VideoHeight    *int32 `json:"video_h,omitempty"`
	Background     *bool  `json:"background,omitempty"`
	// What the page measured itself, cumulative.
	PageStartupMs  *int32 `json:"startup_ms,omitempty"`
	PageStallMs    *int64 `json:"stall_ms,omitempty"`
	PageStallCount *int32 `json:"stalls,omitempty"`
	PagePlayedMs   *int64 `json:"played_ms,omitempty"`
	// Step and ErrorCode name a failed SDK step, for example dispatch, login, licence. A step that failed before the
	// first frame makes the attempt a failed start unless it plays after all.
	Step      string `json:"step,omitempty"`
	ErrorCode string `json:"error,omitempty"`
}

// ClockAnswer is the JSON of GET /v1/clock: server receive and send time, Unix
// milliseconds with fraction. With t1, t4 the client's send and receive times:
// offset = ((ReceivedMs - t1) + (SentMs - t4)) / 2, error at most
// ((t4 - t1) - (SentMs - ReceivedMs)) / 2; take the sample with the least error.
type ClockAnswer struct {
	ReceivedMs float64 `json:"received_ms"`
	SentMs     float64 `json:"sent_ms"`
}
