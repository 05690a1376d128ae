package schemas

import (
	"encoding/json"
	"fmt"
)

// SubjectWarm is where routers say which streams are about to spill to which CDN,
// and SubjectWarmed where it is said that a CDN's caches hold one: core NATS, JSON
// arrays of Warm. What was missed is said again within a second or two.
const (
	SubjectWarm   = "warm"
	SubjectWarmed = "warmed"
)

// MaxWarm is how many wishes one message may hold.
const MaxWarm = 50

// Warm is a stream at a CDN, for viewers of a region (empty: of any).
type Warm struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	CDN    string `json:"cdn"`
	Region string `json:"region,omitempty"`
}

// Key is the stream.
func (w *Warm) Key() StreamKey { return StreamKey{w.App, w.Stream} }

// DecodeWarm reads a message; what cannot be meant is refused as a whole.
func DecodeWarm(data []byte) ([]Warm, error) {
	var all []Warm
	if len(data) > MaxWarm*512 {
		return nil, fmt.Errorf("wishes to warm caches have %d bytes", len(data))
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("wishes to warm caches: %w", err)
	}
	if len(all) > MaxWarm {
		return nil, fmt.Errorf("%d wishes to warm caches: at most %d are allowed", len(all), MaxWarm)
	}
	for i := range all {
		w := &all[i]
		if err := w.Key().Check(); err != nil {
			return nil, err
		}
		if err := CheckName("CDN", w.CDN); err != nil {
			return nil, err
		}
		if len(w.Region) > 64 {
			return nil, fmt.Errorf("region has %d bytes: at most 64 are allowed", len(w.Region))
		}
	}
	return all, nil
}
