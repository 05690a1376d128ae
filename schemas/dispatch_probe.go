package schemas

import (
	"crypto/sha256"
	"fmt"
	"math"
	"sync"
)

// Names of [DispatchTransport]: play, then publish.
const (
	TransportLLHLS = "ll-hls"
	TransportDASH  = "dash"
	TransportTS    = "hls-ts"

	TransportRTMP  = "rtmp"
	TransportRTMPS = "rtmps"
	TransportSRT   = "srt"
	TransportWHIP  = "whip"
)

// What the media of a transport goes over.
const (
	OverTCP = "tcp"
	OverUDP = "udp"
)

// DispatchTransport is one way to play or publish a stream through a CDN.
type DispatchTransport struct {
	Name string `json:"name"`
	// Over is tcp or udp.
	Over string `json:"over"`
	URL  string `json:"url"`
}

// ProbeName is the name of the object in a stream's folder that clients measure
// a CDN by: ProbeBytes bytes, never kept by a cache, readable by any page.
const (
	ProbeName  = "probe"
	ProbeBytes = 1024
)

// ProbeBody is the object's content, the same everywhere: bytes that nothing on
// the way makes smaller. It must not be changed.
var ProbeBody = sync.OnceValue(func() []byte {
	b := make([]byte, 0, ProbeBytes)
	for block := sha256.Sum256([]byte(ProbeName)); len(b) < ProbeBytes; block = sha256.Sum256(block[:]) {
		b = append(b, block[:]...)
	}
	return b[:ProbeBytes]
})

// SubjectProbes carries what clients measured from the router that took it to the
// others: core NATS, nothing is stored.
const SubjectProbes = "probes"

// Limits of a [ProbeReport].
const (
	MaxProbeResults = 16
	MaxProbeMs      = 60_000
)

// ProbeReport is what a client measured of the candidates of its dispatch
// answer: the body of POST <Dispatch.Probes>.
type ProbeReport struct {
	Results []ProbeResult `json:"results"`
}

// ProbeResult is one measurement.
type ProbeResult struct {
	CDN string `json:"cdn"`
	// FirstByteMs is from the request to the first byte, milliseconds; TotalMs to the last.
	FirstByteMs float64 `json:"first_byte_ms"`
	TotalMs     float64 `json:"total_ms"`
	// Failed: nothing, or not the probe, was answered.
	Failed bool `json:"failed,omitempty"`
}

// Check names the field that is wrong.
func (p *ProbeReport) Check() error {
	if len(p.Results) == 0 || len(p.Results) > MaxProbeResults {
		return fmt.Errorf("results has %d entries: 1 to %d are allowed", len(p.Results), MaxProbeResults)
	}
	seen := map[string]bool{}
	for i := range p.Results {
		r := &p.Results[i]
		if err := CheckName(fmt.Sprintf("results[%d].cdn", i), r.CDN); err != nil {
			return err
		}
		if seen[r.CDN] {
			return fmt.Errorf("results[%d].cdn %s is there twice", i, r.CDN)
		}
		seen[r.CDN] = true
		for name, v := range map[string]float64{"first_byte_ms": r.FirstByteMs, "total_ms": r.TotalMs} {
			if math.IsNaN(v) || v < 0 || v > MaxProbeMs {
				return fmt.Errorf("results[%d].%s %v is not from 0 to %d", i, name, v, MaxProbeMs)
			}
		}
		if !r.Failed && r.TotalMs < r.FirstByteMs {
			return fmt.Errorf("results[%d].total_ms %v is less than first_byte_ms %v", i, r.TotalMs, r.FirstByteMs)
		}
	}
	return nil
}
