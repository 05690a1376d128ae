package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
)

// counts are rows by bin, of part of the data; failed starts are in loghist.InfBin. A session's slices correct each
// other (package qoe/session), and the correction may lie in another part: counts of a part may be below 0.
type counts map[int32]int64

// readHist reads what histSQL prints.
func readHist(s string) (counts, error) {
	h := make(counts, strings.Count(s, ":"))
	for s != "" {
		var entry string
		entry, s, _ = strings.Cut(s, ",")
		bin, count, ok := strings.Cut(entry, ":")
		b, err1 := strconv.ParseInt(bin, 10, 64)
		n, err2 := strconv.ParseInt(count, 10, 64)
		switch {
		case !ok || err1 != nil || err2 != nil:
			return h, fmt.Errorf("histogram entry %.40q is no pair of integers", entry)
		case n == 0:
		case b >= schemas.FailedStartBin:
			h[loghist.InfBin] += n
		case b < 0 || b > math.MaxInt32:
			return h, fmt.Errorf("histogram bin %d is out of range", b)
		default:
			h[int32(b)] = n
		}
	}
	return h, nil
}

// rows are the counts of all data until some time, of which none is below 0: else the slice that was corrected is
// missing.
func (h counts) rows() (stats.BucketHist, error) {
	out := stats.BucketHist{Bins: make(map[int32]uint64, len(h))}
	for b, n := range h {
		if n < 0 {
			return out, fmt.Errorf("histogram bin %d has the count %d: corrections exceed what was counted, so what they correct is missing", b, n)
		}
		if n > 0 {
			out.Bins[b] = uint64(n)
		}
	}
	return out, nil
}
