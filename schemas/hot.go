package schemas

import (
	"encoding/json"
	"fmt"
)

// BucketHot maps StreamKey.KVKey to HotState: the streams that are, or of late
// were, not on the hot list. Live streams without an entry are on it.
const BucketHot = "hot"

// Events of the hot list, detail: reasons, separated by commas.
const (
	EventHotLeft EventKind = "hot_left" // the stream is worth showing no more
	EventHotBack EventKind = "hot_back" // it is again
)

// Reasons for which a stream is not on the hot list.
const (
	HotBackground = "background" // its publisher reports that its app is in the background
	HotBlack      = "black"      // its pictures are black
	HotFrozen     = "frozen"     // its video has stopped, or its pictures do not change
	HotHidden     = "hidden"     // a verdict on its pictures hides it
)

// HotState says whether a live stream is worth showing to viewers who choose.
type HotState struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// Off: it is not on the hot list, for Reasons.
	Off     bool     `json:"off"`
	Reasons []string `json:"reasons,omitempty"`
	// SinceUs is when it left or came back, GoodUs since when nothing is wrong
	// though it is still off (0: something is), Unix microseconds.
	SinceUs int64  `json:"since_us"`
	GoodUs  int64  `json:"good_us,omitempty"`
	Epoch   uint32 `json:"epoch"`
	// Told: the event of SinceUs is out.
	Told bool `json:"told,omitempty"`
}

// Key gives the stream.
func (h *HotState) Key() StreamKey { return StreamKey{h.App, h.Stream} }

// ParseHotState reads an entry of the bucket hot.
func ParseHotState(key string, value []byte) (*HotState, error) {
	var h HotState
	if err := json.Unmarshal(value, &h); err != nil {
		return nil, err
	}
	if err := h.Key().Check(); err != nil {
		return nil, err
	}
	if h.Key().KVKey() != key {
		return nil, fmt.Errorf("the stream under key %s is %s", key, h.Key())
	}
	if len(h.Reasons) > 8 {
		return nil, fmt.Errorf("%d reasons: at most 8 are allowed", len(h.Reasons))
	}
	return &h, nil
}

// HotList is the answer of GET <router>/v1/hot.
type HotList struct {
	App string `json:"app"`
	// Streams are live and worth showing, by name.
	Streams []HotStream `json:"streams"`
	// Left are live and not; only with all=1.
	Left []HotStream `json:"left,omitempty"`
}

// HotStream is one stream of a [HotList].
type HotStream struct {
	Stream string `json:"stream"`
	// LiveUnixMs is since when it is published.
	LiveUnixMs int64    `json:"live_ms"`
	Reasons    []string `json:"reasons,omitempty"`
	// LeftUnixMs is since when it is not on the list.
	LeftUnixMs int64 `json:"left_ms,omitempty"`
}
