package origin

import (
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/hops"
)

// hopTeller tells when sampled parts are listed and first answered here. A nil one is silent.
type hopTeller struct {
	report *hops.Reporter
	known  *hops.Known
	node   string
}

func newHopTeller(o *Origin) *hopTeller {
	host, _ := os.Hostname() // without one the port must do
	_, port, err := net.SplitHostPort(o.Listener.Addr().String())
	if err != nil { // a listener of another kind
		port = o.Listener.Addr().String()
	}
	return &hopTeller{report: hops.NewReporter(o.JetStream, Role, o.Logger), known: hops.NewKnown(1), node: host + ":" + port}
}

// packaged tells that a part is listed, or that it is listed as a gap.
func (h *hopTeller) packaged(p *schemas.Part, gap bool, now time.Time) {
	if h == nil || !schemas.HopSampled(p.Track, p.MSN, int(p.Part)) {
		return
	}
	n := schemas.PartName{Key: p.Key(), Rendition: p.Rendition, Track: p.Track, Epoch: p.Epoch, MSN: p.MSN, Part: int(p.Part)}
	h.known.Learn(n, p.DoneUnixUs, now)
	row := hops.At(n, schemas.HopPackaged, h.node, now.UnixMicro(), p.DoneUnixUs)
	if gap {
		row.ErrorCode, row.HopDelayMs = "gap", schemas.OptFloat64{}
	}
	h.report.Tell(row)
}

// served tells of the first answer about a part that is listed here. A name that is
// not is nobody's loss: whoever asks may have made it up.
func (h *hopTeller) served(t *target, code int) {
	if h == nil || t.kind != "part" || code == http.StatusNotModified || code >= 400 && code < 500 ||
		!schemas.HopSampled(t.track, t.id.msn, t.id.part) {
		return
	}
	n := schemas.PartName{Key: t.key, Rendition: t.rendition, Track: t.track, Epoch: t.id.epoch, MSN: t.id.msn, Part: t.id.part}
	now := time.Now()
	doneUs, wanted := h.known.Take(n, schemas.HopOrigin, "", code >= 400, now)
	if doneUs == 0 || !wanted {
		return
	}
	row := hops.At(n, schemas.HopOrigin, h.node, now.UnixMicro(), doneUs)
	row.ResponseCode = columnar.Some(int32(code))
	h.report.Tell(row)
}
