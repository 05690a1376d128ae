package schemas

import (
	"fmt"
	"time"
)

// BucketPulls maps StreamKey.KVKey to PullState: who pulls which camera.
const BucketPulls = "pulls"

// PullHoldsFor is how long a pull is its puller's after the last word of it:
// then another takes the camera over.
const PullHoldsFor = 4 * time.Second

// PullState is what the bucket pulls holds for each camera somebody pulls or
// has pulled: the lease, so that of many pullers one opens the camera, and what
// the camera answered. Its puller writes it each second, by compare-and-set.
type PullState struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// Holder is the puller's id, random per process start; empty: nobody pulls it.
	Holder string `json:"holder,omitempty"`
	// UpdatedUnixUs is by the holder's clock. Other pullers do not compare it with
	// theirs: they wait for PullHoldsFor without a change.
	UpdatedUnixUs int64 `json:"updated_us"`
	// Playing: media comes.
	Playing bool `json:"playing,omitempty"`
	// Error is what the camera last answered, or why it could not be asked;
	// without address and password. Empty once media comes.
	Error string `json:"error,omitempty"`
	// Tries counts connections since media last came.
	Tries int `json:"tries,omitempty"`
}

// ParsePullState reads an entry of the bucket pulls.
func ParsePullState(key string, value []byte) (*PullState, error) {
	k, err := ParseKVKey(key)
	if err != nil {
		return nil, err
	}
	var s PullState
	if err := UnmarshalStrict(value, &s); err != nil {
		return nil, err
	}
	if s.App != k.App || s.Stream != k.Stream {
		return nil, fmt.Errorf("the pull under key %s is of %s/%s", key, s.App, s.Stream)
	}
	return &s, nil
}
