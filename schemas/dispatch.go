package schemas

// Dispatch is the JSON answer of GET /v1/dispatch: everything a player needs to
// start and to report, with several candidates so that it can probe and choose.
type Dispatch struct {
	SessionID string `json:"session_id"`
	// Token is the session token; URLs below already carry it.
	Token     string `json:"token"`
	App       string `json:"app"`
	Stream    string `json:"stream"`
	ContentID string `json:"content_id"`
	// URL is the per-session multivariant playlist, with pathways and steering.
	URL string `json:"url"`
	// Telemetry takes CMCD v2 events, Beacon our JSON beacon, Clock answers the time.
	Telemetry string `json:"telemetry"`
	Beacon    string `json:"beacon"`
	Clock     string `json:"clock"`
	// Probes takes back what the client measured of the candidates (POST of ProbeReport;
	// a publisher's are by transport), and answers with a Dispatch whose order counts that in.
	Probes string `json:"probes,omitempty"`
	// ExpiresUnix is when Token ends, Unix seconds. FreshSec is how long the order of
	// the candidates is worth keeping: an answer kept longer is asked for anew.
	ExpiresUnix int64 `json:"expires_unix,omitempty"`
	FreshSec    int   `json:"fresh_sec,omitempty"`
	// ClearKey gives ClearKey licences (POST, W3C EME) where the stream is encrypted and the router has keys.
	ClearKey string `json:"clearkey,omitempty"`
	// InputAgeMs is how old the newest telemetry is that the router knows, milliseconds;
	// -1: none. It grows while bus or telemetry is away, and while nobody watches.
	InputAgeMs int64 `json:"input_age_ms"`
	// Candidates are ranked, best first: as many as ?candidates= asks for, or five.
	Candidates []DispatchCandidate `json:"candidates"`
	// Arms is "experiment=arm,..."; Params are the parameters of all arms merged.
	Arms   string            `json:"arms,omitempty"`
	Params map[string]string `json:"params,omitempty"`
	// Neighbours are answers for streams named in ?neighbours=, so that a swipe starts at once.
	Neighbours []Dispatch `json:"neighbours,omitempty"`
}

// DispatchCandidate is one CDN that can play the stream.
type DispatchCandidate struct {
	CDN string `json:"cdn"`
	// URL is the multivariant playlist through this CDN.
	URL   string  `json:"url"`
	Score float64 `json:"score"`
	// Tier comes before Score: room, full, failing, ..; see Candidate.
	Tier string `json:"tier,omitempty"`
	// Transports are all ways there are, the one of URL first.
	Transports []DispatchTransport `json:"transports,omitempty"`
	// ProbeURL is what to measure it by: a GET of ProbeBytes bytes that no cache keeps
	// (for publishers where the operator says; default the clock).
	ProbeURL string `json:"probe_url,omitempty"`
}

// ErrorAnswer is the JSON body of every refused API request: what was wrong and what to do.
type ErrorAnswer struct {
	Error string `json:"error"`
	// Wait is there where the answer is to wait for a place.
	Wait *Wait `json:"wait,omitempty"`
}

// Wait is a place in the queue of those for whom no CDN has room (status 503,
// with Retry-After): ask again with ?ticket= after RetryAfterSec.
type Wait struct {
	// Ticket keeps the place; any router takes it.
	Ticket string `json:"ticket"`
	// Position counts from 1.
	Position      int `json:"position"`
	RetryAfterSec int `json:"retry_after_s"`
	// SinceMs is when the viewer first asked, Unix milliseconds.
	SinceMs int64 `json:"since_ms"`
}
