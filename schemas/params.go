package schemas

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Arm parameters that play page, viewers, dispatch and router obey. All values are strings.
const (
	// ParamLiveSyncSec: how far behind the live edge the player stays, seconds (hls.js liveSyncDuration).
	ParamLiveSyncSec = "live_sync_duration_s"
	// ParamMaxCatchupRate: fastest playback rate used to catch up, e.g. 1.05.
	ParamMaxCatchupRate = "max_catchup_rate"
	// ParamStartBufferSec: media the player gathers before it starts to play, seconds; 0: it starts on the first
	// key frame.
	ParamStartBufferSec = "start_buffer_s"
	// ParamPreloadNeighbours: how many neighbouring streams the player asks for ahead of a swipe.
	ParamPreloadNeighbours = "preload_neighbours"
	// ParamPolicy: routing policy of the session, NAME for its newest version or NAME@VERSION for a stored one.
	ParamPolicy = "policy"
	// ParamOverflowAt: share of a CDN's capacity from which on it takes new sessions only when no other has room, in
	// place of its spill_viewers, and from which its score is made worse, in place of the policy's pad_from.
	ParamOverflowAt = "overflow_at"
	// ParamPartTargetMs: longest part made of the stream, ms; obeyed by ingest when a publisher comes, so the
	// experiment's unit must be stream. At most 500: of a segment of 2 s, DASH's players would have little left to be early by.
	ParamPartTargetMs = "part_target_ms"
)

// paramRanges bounds the parameters that are numbers.
var paramRanges = map[string]struct{ min, max float64 }{
	ParamLiveSyncSec: {0.2, 120}, ParamMaxCatchupRate: {1, 2}, ParamStartBufferSec: {0, 30},
	ParamPreloadNeighbours: {0, 4}, ParamOverflowAt: {0.1, 1}, ParamPartTargetMs: {100, 500},
}

// checkParam says what is wrong with one parameter of an arm.
func checkParam(name, value, unit string) error {
	if name == ParamPolicy {
		_, _, err := ParsePolicyRef(value)
		return err
	}
	r, ok := paramRanges[name]
	if !ok {
		known := []string{ParamPolicy}
		for k := range paramRanges {
			known = append(known, k)
		}
		sort.Strings(known)
		return fmt.Errorf("nobody obeys this parameter; known are %s", strings.Join(known, ", "))
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || !(v >= r.min && v <= r.max) {
		return fmt.Errorf("%q is not a number from %g to %g", value, r.min, r.max)
	}
	if name == ParamPartTargetMs && unit != UnitStream {
		return fmt.Errorf("parts are made once for all viewers of a stream: the experiment's unit must be stream, it is %s", unit)
	}
	return nil
}

// NumberParam gives a parameter that is a number; 0: it is not set, or none (nothing that was checked is).
func NumberParam(params map[string]string, name string) float64 {
	v, err := strconv.ParseFloat(params[name], 64)
	if err != nil {
		return 0
	}
	return v
}
