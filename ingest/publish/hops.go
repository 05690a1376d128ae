package publish

import (
	"os"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/hops"
)

// nodeName tells processes that take publishers apart.
func nodeName() string {
	host, _ := os.Hostname() // without one the process's number must do
	return host + ":" + strconv.Itoa(os.Getpid())
}

// notTaken is the error of parts that MEDIA did not take until the publication was given up.
const notTaken = "not taken"

// hopRows tells of a chunk that MEDIA has just acknowledged, or never will: when the sampled
// ones of its parts were captured, if the publisher's clock tells, had here, and stored. Of
// a chunk that is lost all parts are told: it is the last that its publication had.
func (s *Service) hopRows(c *schemas.Chunk, at time.Time, stored bool) []schemas.Telemetry {
	var rows []schemas.Telemetry
	for i := range c.Fragments {
		f := &c.Fragments[i]
		if f.DoneUnixUs <= 0 || stored && !schemas.HopSampled(f.Track, f.MSN, int(f.Part)) {
			continue
		}
		n := schemas.PartName{Key: c.Key(), Rendition: c.Rendition, Track: f.Track, Epoch: c.Epoch, MSN: f.MSN, Part: int(f.Part)}
		// What the last sample lasts is still to come when it has been captured.
		captured := f.WallUnixUs + f.DurationUs() - f.DurationUs()/int64(max(f.Samples, 1))
		for _, hop := range []struct {
			name string
			us   int64
		}{{schemas.HopPublish, captured}, {schemas.HopIngest, f.DoneUnixUs}, {schemas.HopStored, at.UnixMicro()}} {
			if hop.name == schemas.HopPublish && c.Clock == schemas.ClockArrival {
				continue // when it was captured is not told
			}
			row := hops.At(n, hop.name, s.node, hop.us, f.DoneUnixUs)
			row.ReceivedUnixUs, row.CDN = at.UnixMicro(), c.CDN
			if hop.name == schemas.HopPublish {
				row.ClockBoundMs = columnar.Some(float64(c.ClockBoundUs) / 1000)
			}
			if hop.name == schemas.HopStored && !stored {
				row.ErrorCode, row.HopDelayMs = notTaken, schemas.OptFloat64{}
			}
			rows = append(rows, row)
		}
	}
	return rows
}
