package origin

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests                         *prometheus.CounterVec
	bytes                            *prometheus.CounterVec
	conns                            prometheus.Gauge
	turnedAway, slow                 prometheus.Counter
	storeReads, storeFails, past     prometheus.Counter
	storeReading, storeAway          prometheus.Gauge
	held                             prometheus.Gauge
	watched                          prometheus.Gauge
	received, covered, lost, corrupt prometheus.Counter
	refetched, dropped               prometheus.Counter
	delay, holding                   prometheus.Histogram

	// The counters of what is answered most, which are found without a lookup of labels.
	playlists, parts answeredOK
}

// answeredOK counts answers of one object with status 200.
type answeredOK struct{ requests, bytes prometheus.Counter }

func (m *metrics) answered(kind string, code, bytes int) {
	if code == http.StatusOK {
		var c *answeredOK
		switch kind {
		case "playlist":
			c = &m.playlists
		case "part":
			c = &m.parts
		}
		if c != nil {
			c.requests.Inc()
			c.bytes.Add(float64(bytes))
			return
		}
	}
	m.requests.WithLabelValues(kind, strconv.Itoa(code)).Inc()
	m.bytes.WithLabelValues(kind).Add(float64(bytes))
}

func (m *metrics) frequent() {
	of := func(kind string) answeredOK {
		return answeredOK{m.requests.WithLabelValues(kind, "200"), m.bytes.WithLabelValues(kind)}
	}
	m.playlists, m.parts = of("playlist"), of("part")
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "origin", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "spillway", Subsystem: "origin", Name: name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "origin", Name: "requests_total",
			Help: "HTTP requests answered, by object and status code."}, []string{"object", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "origin", Name: "sent_bytes_total",
			Help: "Bytes of answers' bodies, by object."}, []string{"object"}),
		conns:        gauge("connections", "Open HTTP connections."),
		turnedAway:   counter("turned_away_total", "Requests answered 503 because the origin, or their peer, had too many connections."),
		slow:         counter("slow_readers_total", "Answers cut off because their reader took too little for too long."),
		held:         gauge("held_requests", "Requests held until a part exists."),
		watched:      gauge("watched_streams", "Streams read from the bus because somebody asks for them."),
		received:     counter("parts_received_total", "Parts received from packagers."),
		covered:      counter("chunks_covered_total", "Chunks packaged here because their parts did not come in time."),
		lost:         counter("chunks_lost_total", "Chunks that could not be packaged at all; their parts are listed as gaps."),
		corrupt:      counter("parts_corrupt_total", "Parts passed over because their bytes or header were damaged."),
		refetched:    counter("messages_refetched_total", "Messages read back from MEDIA because the bus's announcement of them did not come."),
		dropped:      counter("messages_dropped_total", "Messages dropped because too many waited to be taken; chunks among them are read back from MEDIA."),
		past:         counter("past_reads_total", "Parts and segments that were listed but no longer in memory, read back from MEDIA."),
		storeReads:   counter("store_reads_total", "Segments and init segments read from the object store."),
		storeFails:   counter("store_failures_total", "Reads and lists of the object store that failed."),
		storeReading: gauge("store_reading", "Objects being read from the object store."),
		storeAway:    gauge("store_away", "1 while the object store cannot be listed: what is further back than the window cannot be seen."),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "spillway", Subsystem: "origin", Name: "part_delay_seconds",
			Help: "Time from the arrival of a part's last frame at ingest to the part being listed here, seconds.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 13)}),
		holding: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "spillway", Subsystem: "origin", Name: "hold_seconds",
			Help: "Time a request was held, seconds.", Buckets: []float64{0.01, 0.05, 0.1, 0.2, 0.4, 1, 2, 4, 6, 12}}),
	}
	if reg == nil {
		m.frequent()
		return m, nil
	}
	var err error
	m.requests = shared(reg, m.requests, &err)
	m.bytes, m.held, m.watched = shared(reg, m.bytes, &err), shared(reg, m.held, &err), shared(reg, m.watched, &err)
	m.received, m.covered = shared(reg, m.received, &err), shared(reg, m.covered, &err)
	m.lost, m.corrupt = shared(reg, m.lost, &err), shared(reg, m.corrupt, &err)
	m.conns, m.turnedAway, m.slow = shared(reg, m.conns, &err), shared(reg, m.turnedAway, &err), shared(reg, m.slow, &err)
	m.refetched, m.dropped = shared(reg, m.refetched, &err), shared(reg, m.dropped, &err)
	m.storeReads, m.storeFails = shared(reg, m.storeReads, &err), shared(reg, m.storeFails, &err)
	m.past = shared(reg, m.past, &err)
	m.storeReading, m.storeAway = shared(reg, m.storeReading, &err), shared(reg, m.storeAway, &err)
	m.delay, m.holding = shared(reg, m.delay, &err), shared(reg, m.holding, &err)
	m.frequent()
	return m, err
}

// shared registers c, or gives the one that another origin of this process registered.
func shared[C prometheus.Collector](reg prometheus.Registerer, c C, err *error) C {
	e := reg.Register(c)
	if e == nil {
		return c
	}
	var have prometheus.AlreadyRegisteredError
	if errors.As(e, &have) {
		if old, ok := have.ExistingCollector.(C); ok {
			return old
		}
	}
	*err = errors.Join(*err, e)
	return c
}
