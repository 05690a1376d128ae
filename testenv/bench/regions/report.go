package regions

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bench"
)

// Report says what came over the regions, and how soon.
type Report struct {
	Machine bench.Machine `json:"machine"`
	Began   time.Time     `json:"began"`
	Streams int           `json:"streams"`
	Seconds float64       `json:"seconds"`
	Chunks  int           `json:"chunks"`  // stored in the first region in that time
	Missing int           `json:"missing"` // of them and of those during the cut and until it was healed, not in the last region
	Doubled int           `json:"doubled"` // stored twice in a region
	Hops    []Hop         `json:"hops"`
	Regions []Region      `json:"regions"`
	// MachineCPUSec is what all of the machine used: what is above the regions' sum are publishers, listeners and others' work.
	MachineCPUSec float64 `json:"machine_cpu_sec"`
	Cut           *Cut    `json:"cut,omitempty"`
}

// Hop is the way from one region's MEDIA to the next one's: from when the first bus
// stored a chunk to when the second did. The first hop is from the publisher: from
// when ingest had the last byte of a chunk's first sample, so a chunk's length is in it.
type Hop struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
	MaxMs float64 `json:"max_ms"`
	Bytes int64   `json:"bytes"` // of chunks
}

// Region is what its process used: bus and relay, and ingest in the first.
type Region struct {
	Region string  `json:"region"`
	CPUSec float64 `json:"cpu_sec"`
}

// Cut is what became of a link that was cut, from when it could pass again.
type Cut struct {
	Seconds float64 `json:"seconds"`
	Waiting int     `json:"waiting_chunks"` // before the link when it could pass again
	// FirstMs is when the first chunk was stored behind it, CaughtUpMs when all that had waited were.
	FirstMs    float64 `json:"first_ms"`
	CaughtUpMs float64 `json:"caught_up_ms"`
}

// chunk is one in a region.
type chunk struct {
	stored   time.Time
	seq      string // its sequence in MEDIA
	received time.Time
	bytes    int64
}

// heard are the chunks that a region's bus told it has stored, by message id.
type heard struct {
	mu      sync.Mutex
	at      map[string]chunk
	doubled int
}

// Headers by which the bus tells, of what it repeats on chunks.>, where and when it was stored (NATS, "Republish").
const (
	headerStored = "Nats-Time-Stamp"
	headerSeq    = "Nats-Sequence"
)

func (h *heard) take(m *nats.Msg) {
	id := m.Header.Get(jetstream.MsgIDHeader)
	stored, err := time.Parse(time.RFC3339Nano, m.Header.Get(headerStored))
	c, cerr := schemas.PeekChunk([]byte(m.Header.Get(schemas.HeaderChunk)))
	if m.Header.Get(schemas.HeaderKind) != schemas.KindChunk || id == "" || err != nil || cerr != nil {
		return // marks of epochs; a chunk that cannot be read is missing in the report
	}
	x := chunk{stored: stored, seq: m.Header.Get(headerSeq), received: time.UnixMicro(c.ReceivedUnixUs), bytes: int64(len(m.Data))}
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, there := h.at[id]; !there {
		h.at[id] = x
	} else if old.seq != x.seq {
		h.doubled++
	}
}

// streams counts those of which something was heard.
func (h *heard) streams() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	for id := range h.at { // c/app/stream/rendition/epoch/seq
		if f := strings.SplitN(id, "/", 4); len(f) == 4 {
			seen[f[2]] = true
		}
	}
	return len(seen)
}

// stored gives the ids of what was in that time.
func (h *heard) stored(from, to time.Time) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, c := range h.at {
		if !c.stored.Before(from) && c.stored.Before(to) {
			ids = append(ids, id)
		}
	}
	return ids
}

// missing counts those of ids that were not heard.
func (h *heard) missing(ids []string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if _, there := h.at[id]; !there {
			n++
		}
	}
	return n
}

func (h *heard) again() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.doubled
}

// after gives when the first and the last of ids were stored after a moment, milliseconds.
func (h *heard) after(moment time.Time, ids []string) (firstMs, lastMs float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var took []float64
	for _, id := range ids {
		if c := h.at[id]; c.stored.After(moment) {
			took = append(took, ms(c.stored.Sub(moment)))
		}
	}
	if len(took) == 0 {
		return 0, 0
	}
	return slices.Min(took), slices.Max(took)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// hops fills in what was stored in the first region in that time, and its way.
func (r *Report) hops(c *chain, from, to time.Time) {
	ids := c.first().heard.stored(from, to)
	r.Chunks = len(ids)
	hop := Hop{From: "publisher"}
	for i, x := range c.regions {
		hop.To = x.name
		var took []float64
		for _, id := range ids {
			here, there := x.heard.get(id)
			began := here.received
			if i > 0 {
				began = c.regions[i-1].heard.storedAt(id)
			}
			if there && !began.IsZero() {
				took, hop.Bytes = append(took, ms(here.stored.Sub(began))), hop.Bytes+here.bytes
			}
		}
		slices.Sort(took)
		if n := len(took); n > 0 {
			hop.P50Ms, hop.P99Ms, hop.MaxMs = took[n/2], took[n*99/100], took[n-1]
		}
		r.Hops = append(r.Hops, hop)
		hop = Hop{From: x.name}
	}
}

func (h *heard) get(id string) (chunk, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, there := h.at[id]
	return c, there
}

func (h *heard) storedAt(id string) time.Time {
	c, _ := h.get(id)
	return c.stored
}

func (r *Report) cpu(c *chain, before, after cpuSeconds) {
	for i, x := range c.regions {
		r.Regions = append(r.Regions, Region{x.name, hundredths(after.regions[i] - before.regions[i])})
	}
	r.MachineCPUSec = hundredths(after.machine - before.machine)
}

// hundredths leaves of a sum what the kernel counts in.
func hundredths(seconds float64) float64 { return math.Round(seconds*100) / 100 }
