package schemas

import "fmt"

// CDNLogLine is one request as an edge answered it. Edges post batches to the
// collector's /v1/cdnlog as NDJSON (application/x-ndjson): one line's JSON
// object per LF-ended line, in the order in which the answers ended. Fields
// that are unknown or do not apply are left out.
//
// A batch is repeated until the collector answers 2xx, so a line may arrive
// twice; (CDN, Server, Boot, Seq) identifies it.
type CDNLogLine struct {
	// TsMs is when the edge had read the request's header, Unix milliseconds, edge's clock.
	TsMs int64 `json:"ts_ms"`
	// CDN is the edge's name in the registry, Server the host:port that answered.
	CDN    string `json:"cdn"`
	Server string `json:"server"`
	// Boot is random for each start of an edge; Seq counts its lines from 1 without gaps,
	// so that a gap shows lines the edge had to drop.
	Boot string `json:"boot"`
	Seq  uint64 `json:"seq"`

	Method string `json:"method"`
	Host   string `json:"host,omitempty"`
	// Path has neither token prefix nor query.
	Path string `json:"path"`
	// CMCD is the value of the CMCD query parameter, URL-decoded; it is left out
	// when a CMCD header was sent, because headers outrank the query (CTA-5004-B).
	CMCD string `json:"cmcd,omitempty"`
	// CMCDHeaders are CMCD-Request, -Object, -Status and -Session as sent, joined by a comma.
	CMCDHeaders string `json:"cmcd_headers,omitempty"`
	UserAgent   string `json:"ua,omitempty"`

	// Status is the HTTP status sent; 0 when the connection was closed without an answer.
	Status int `json:"status"`
	// Bytes of body sent.
	Bytes int64 `json:"bytes"`
	// FirstByteMs and TotalMs run from TsMs to the first byte of the answer and to the last byte written.
	FirstByteMs float64 `json:"ttfb_ms"`
	TotalMs     float64 `json:"total_ms"`
	// CacheHit: the edge had the object. A request that waited for another's fetch is not a hit.
	CacheHit bool `json:"hit"`
	// Coalesced: the answer came from a fetch that another request had begun.
	Coalesced bool `json:"coalesced,omitempty"`
	// Aborted: the viewer closed the connection before the answer was complete. That is not an error of the CDN.
	Aborted bool `json:"aborted,omitempty"`
	// Reason says why the edge itself refused or failed the request; empty otherwise.
	Reason string `json:"reason,omitempty"`

	// From the session token; empty without one.
	SessionID string `json:"sid,omitempty"`
	ViewerID  string `json:"vid,omitempty"`
	App       string `json:"app,omitempty"`
	Stream    string `json:"stream,omitempty"`
	Arms      string `json:"arms,omitempty"`
	// Region and ISP are the token's, or else what the edge found out itself.
	Region string `json:"region,omitempty"`
	ISP    string `json:"isp,omitempty"`
}

// Limits of the edges' request log; the collector refuses what is beyond them.
const (
	MaxCDNLogLineBytes  = 16 << 10
	MaxCDNLogBatchBytes = 8 << 20
)

// Check names the field that is wrong.
func (l *CDNLogLine) Check() error {
	if err := CheckName("cdn", l.CDN); err != nil {
		return fmt.Errorf("cdn log line: %w", err)
	}
	if l.Status != 0 && (l.Status < 100 || l.Status > 999) {
		return fmt.Errorf("cdn log line: status %d is not an HTTP status, nor 0 for no answer", l.Status)
	}
	if l.Bytes < 0 {
		return fmt.Errorf("cdn log line: bytes %d is negative", l.Bytes)
	}
	return checkTime("cdn log line", l.TsMs*1000)
}
