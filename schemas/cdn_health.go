package schemas

import (
	"encoding/json"
	"fmt"
)

// SubjectRouterHealth answers what a router knows of a CDN in a place: request and
// answer, core NATS; one of the routers answers. The request is a HealthQuery, the
// answer a CDNHealth or an ErrorAnswer.
const SubjectRouterHealth = "routerhealth"

// HealthQuery asks for a CDN; empty Region or ISP: of all.
type HealthQuery struct {
	CDN    string `json:"cdn"`
	Region string `json:"region,omitempty"`
	ISP    string `json:"isp,omitempty"`
}

// Measured is a value with its standard error: 95 % of such estimates are within
// about twice that of the truth.
type Measured struct {
	Value float64 `json:"value"`
	SE    float64 `json:"se"`
}

// CDNHealth is what a router knows of a CDN: counts of the moment, estimates fading
// with a time constant of a minute.
type CDNHealth struct {
	HealthQuery
	// Viewers are sessions on the CDN, RegionViewers those of the region; counted, not estimated.
	Viewers       int `json:"viewers"`
	RegionViewers int `json:"region_viewers,omitempty"`
	// BandwidthBps is viewers times mean bitrate: of each region by how many are there;
	// RegionBandwidthBps that of the region's. Growth is the factor by which viewers are
	// forecast to change within ten seconds.
	BandwidthBps       Measured `json:"bandwidth_bps"`
	RegionBandwidthBps Measured `json:"region_bandwidth_bps"`
	Growth             float64  `json:"growth"`
	// FlashCrowd: more come than the trend and the usual noise explain. Forecast is what is
	// expected 1, 3 and 5 minutes ahead; empty: nobody was counted on the CDN yet.
	FlashCrowd bool          `json:"flash_crowd,omitempty"`
	Forecast   []CDNForecast `json:"forecast,omitempty"`
	// StallRatio, StartFailRatio and ErrorRatio are shares of time played, of starts and
	// of media requests; FirstScreenMs, BitrateBps and ThroughputBps are means.
	StallRatio     Measured `json:"stall_ratio"`
	StartFailRatio Measured `json:"start_failure_ratio"`
	ErrorRatio     Measured `json:"error_ratio"`
	FirstScreenMs  Measured `json:"first_screen_ms"`
	BitrateBps     Measured `json:"bitrate_bps"`
	ThroughputBps  Measured `json:"throughput_bps"`
	// Samples is the number of reports behind the estimates, of the finest cell that has
	// any, which Cell names: isp, region or cdn; empty: nothing is known.
	Samples float64 `json:"samples"`
	Cell    string  `json:"cell,omitempty"`
	// AgeSec is how old the newest of them is, InputAgeMs the newest that the router has heard of at all.
	AgeSec     float64 `json:"age_s"`
	InputAgeMs int64   `json:"input_age_ms"`
	// Failing: it does not serve viewers of the place. FailingIn says what of it does not: isp, region
	// or cdn, as in Cell; empty: it serves. FailingParts are the regions, and providers as
	// region/isp, within the place in which it does not though it does in the place as a whole; 100 at most.
	Failing      bool     `json:"failing"`
	FailingIn    string   `json:"failing_in,omitempty"`
	FailingParts []string `json:"failing_parts,omitempty"`
	InDoubt      bool     `json:"in_doubt"`
}

// CDNForecast is what is expected of a CDN some time ahead if all goes on as in the last
// minutes. Errors are the roots of the mean squared errors of the router's forecasts of the last
// ten minutes or so: what nothing foretold, such as the first minute of a crowd, is not in them.
type CDNForecast struct {
	AheadSec     int      `json:"ahead_s"`
	Viewers      Measured `json:"viewers"`
	BandwidthBps Measured `json:"bandwidth_bps"`
}

// DecodeHealthQuery reads a request.
func DecodeHealthQuery(data []byte) (HealthQuery, error) {
	var q HealthQuery
	if len(data) > 1024 {
		return q, fmt.Errorf("the question has %d bytes: at most 1024 are allowed", len(data))
	}
	if err := json.Unmarshal(data, &q); err != nil {
		return q, fmt.Errorf("the question is no JSON of a HealthQuery: %w", err)
	}
	return q, CheckName("CDN", q.CDN)
}
