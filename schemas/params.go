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
	// ParamPolicy: routing policy of the session. To compare two versions of a policy give one of them another name.
	ParamPolicy = "policy"
	// ParamOverflowAt: share of a CDN's capacity from which on new sessions spill to others, in place of the
	// policy's pad_from.
	ParamOverflowAt = "overflow_at"
	// ParamPartTargetMs: longest part made of the stream, ms; obeyed by ingest when an epoch opens, so the
	// experiment's unit must be stream.
	ParamPartTargetMs = "part_target_ms"
)

// paramRanges bounds the parameters that are numbers.
var paramRanges = map[string]struct{ min, max float64 }{
	ParamLiveSyncSec: {0.2, 120}, ParamMaxCatchupRate: {1, 2}, ParamStartBufferSec: {0, 30},
	ParamPreloadNeighbours: {0, 4}, ParamOverflowAt: {0.1, 1}, ParamPartTargetMs: {100, 2000},
}

// checkParam says what is wrong with one parameter of an arm.
func checkParam(name, value, unit string) error {
	if name == ParamPolicy {
		return CheckName("policy", value)
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
