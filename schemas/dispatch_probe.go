package schemas

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
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

// PublishTransports are the names of transports to publish.
var PublishTransports = []string{TransportRTMP, TransportRTMPS, TransportSRT, TransportWHIP}

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
	// Probe says how a publisher measures this transport; nil: it cannot be measured,
	// or it is one to play, which is measured by the candidate's ProbeURL.
	Probe *TransportProbe `json:"probe,omitempty"`
	// Measured is what publishers of the asker's place, or the asker itself, measured of late; nil: nothing is known.
	Measured *TransportMeasured `json:"measured,omitempty"`
}

// Methods of a [TransportProbe].
const (
	// ProbeSRT sends SRT's first handshake packet (induction, draft-sharabayko-srt-01
	// section 4.3.1.1), which every listener answers before it looks at a stream id or passphrase.
	ProbeSRT = "srt-induction"
	// ProbeSTUN sends a STUN binding request (RFC 8489) to where WHIP's media goes.
	ProbeSTUN = "stun-binding"
	// ProbeRTMP connects and sends C0 and C1 (RTMP 1.0, section 5.2), answered by S0 and S1.
	ProbeRTMP = "rtmp-handshake"
	// ProbeRTMPS is the same inside TLS, whose certificate is verified.
	ProbeRTMPS = "rtmps-handshake"
	// ProbeHTTPOptions asks OPTIONS of the URL; it says nothing of UDP.
	ProbeHTTPOptions = "http-options"
)

// ProbeTimeoutMs is TransportProbe.TimeoutMs of a router's answers.
const ProbeTimeoutMs = 2000

// TransportProbe says how a transport is measured before anything is published.
type TransportProbe struct {
	// Method is one of ProbeSRT, ProbeSTUN, ProbeRTMP, ProbeRTMPS, ProbeHTTPOptions.
	Method string `json:"method"`
	// Over is what the probe itself goes over, tcp or udp.
	Over string `json:"over"`
	// Address is HOST:PORT; for ProbeHTTPOptions a URL.
	Address string `json:"address"`
	// TimeoutMs is after how long without an answer the probe has failed, milliseconds.
	TimeoutMs int `json:"timeout_ms"`
}

// TransportMeasured is what publishers measured of a transport through a CDN.
type TransportMeasured struct {
	// RTTMs is the median of the round trips, milliseconds; absent where none succeeded.
	RTTMs float64 `json:"rtt_ms,omitempty"`
	// FailedShare is the share of the probes that failed, 0 to 1.
	FailedShare float64 `json:"failed_share"`
	// Reports is how many reports of the last ten minutes say so; AgeSec is the age of the newest, seconds.
	Reports int   `json:"reports"`
	AgeSec  int64 `json:"age_s"`
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

// SubjectPublishProbes carries what publishers measured in the same way.
const SubjectPublishProbes = "publishprobes"

// Limits of a [ProbeReport]: results of a player, results of a publisher, which are
// by transport, and milliseconds.
const (
	MaxProbeResults   = 16
	MaxPublishResults = 64
	MaxProbeMs        = 60_000
)

// ProbeReport is what a client measured of the candidates of its dispatch
// answer: the body of POST <Dispatch.Probes>.
type ProbeReport struct {
	Results []ProbeResult `json:"results"`
}

// ProbeResult is one measurement.
type ProbeResult struct {
	CDN string `json:"cdn"`
	// Transport is the DispatchTransport.Name that a publisher measured; players have none.
	Transport string `json:"transport,omitempty"`
	// FirstByteMs is from the request to the first byte, milliseconds; TotalMs to the last.
	// Of a publisher: one round trip (a packet and its answer; TCP's connect), and from the
	// beginning to the end of the probe.
	FirstByteMs float64 `json:"first_byte_ms"`
	TotalMs     float64 `json:"total_ms"`
	// Failed: nothing, or not the probe, was answered.
	Failed bool `json:"failed,omitempty"`
}

// Check names the field that is wrong in a player's report.
func (p *ProbeReport) Check() error {
	return p.check(MaxProbeResults, func(r *ProbeResult) error {
		if r.Transport != "" {
			return fmt.Errorf("transport %.16q: only publishers measure by transport", r.Transport)
		}
		return nil
	})
}

// CheckPublish names the field that is wrong in a publisher's report.
func (p *ProbeReport) CheckPublish() error {
	return p.check(MaxPublishResults, func(r *ProbeResult) error {
		if slices.Contains(PublishTransports, r.Transport) {
			return nil
		}
		return fmt.Errorf("transport %.16q is not %s", r.Transport, strings.Join(PublishTransports, ", "))
	})
}

func (p *ProbeReport) check(most int, transport func(*ProbeResult) error) error {
	if len(p.Results) == 0 || len(p.Results) > most {
		return fmt.Errorf("results has %d entries: 1 to %d are allowed", len(p.Results), most)
	}
	type way struct{ cdn, transport string }
	seen := map[way]bool{}
	for i := range p.Results {
		r := &p.Results[i]
		if err := CheckName(fmt.Sprintf("results[%d].cdn", i), r.CDN); err != nil {
			return err
		}
		if err := transport(r); err != nil {
			return fmt.Errorf("results[%d].%w", i, err)
		}
		w := way{r.CDN, r.Transport}
		if seen[w] {
			return fmt.Errorf("results[%d].cdn %s is there twice", i, strings.TrimSpace(r.CDN+" "+r.Transport))
		}
		seen[w] = true
		if err := r.checkTimes(); err != nil {
			return fmt.Errorf("results[%d].%w", i, err)
		}
	}
	return nil
}

func (r *ProbeResult) checkTimes() error {
	for _, x := range []struct {
		name string
		ms   float64
	}{{"first_byte_ms", r.FirstByteMs}, {"total_ms", r.TotalMs}} {
		if math.IsNaN(x.ms) || x.ms < 0 || x.ms > MaxProbeMs {
			return fmt.Errorf("%s %v is not from 0 to %d", x.name, x.ms, MaxProbeMs)
		}
	}
	if !r.Failed && r.TotalMs < r.FirstByteMs {
		return fmt.Errorf("total_ms %v is less than first_byte_ms %v", r.TotalMs, r.FirstByteMs)
	}
	return nil
}
