package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spillway-live/spillway/schemas/token/scheme"
)

// Names of the KV buckets. See [BucketConfigs].
const (
	// BucketInits maps InitID to the bytes of an init segment.
	BucketInits = "inits"
	// BucketStreams maps StreamKey.KVKey to StreamState: what is live now.
	BucketStreams = "streams"
	// BucketPositions maps StreamKey.KVKey + "." + rendition to Position; it outlives media retention.
	BucketPositions = "positions"
	// BucketCDNs maps a CDN's name to its CDN record.
	BucketCDNs = "cdns"
	// BucketFaults maps a CDN's name to the Fault its test edge shows.
	BucketFaults = "faults"
	// BucketExperiments maps an experiment's name to Experiment.
	BucketExperiments = "experiments"
	// BucketApps maps <app> or <app>.<stream> to AppSettings.
	BucketApps = "apps"
	// BucketSources maps StreamKey.KVKey to Source: cameras that are pulled.
	BucketSources = "sources"
	// BucketShares maps the public address's StreamKey.KVKey to Share.
	BucketShares = "shares"
	// BucketRenditions maps StreamKey.KVKey + "." + rendition to RenditionState.
	BucketRenditions = "renditions"
	// BucketLedger maps <table>.<partition> to the loader's last block.
	BucketLedger = "ledger"
	// BucketSnapshots holds sessioniser snapshots as objects (an object store, not a KV bucket).
	BucketSnapshots = "snapshots"
)

// StreamState is what the bucket streams holds for each stream: ingest writes
// it when an epoch opens, every second while media flows, and when it ends.
type StreamState struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// Live is false once the publisher has left. Readers also treat a state not
	// updated for 15 s as not live, since ingest may have died.
	Live          bool   `json:"live"`
	UpdatedUnixUs int64  `json:"updated_us"`
	EndReason     string `json:"end_reason,omitempty"`
	// Region is where it is published, in the buses of other regions; empty: here.
	// A relay writes it then, every two seconds.
	Region string `json:"region,omitempty"`
	// Epoch describes the current (or last) publication of the source rendition.
	Epoch EpochOpen      `json:"epoch"`
	Stats PublisherStats `json:"stats"`
}

// Key gives the stream.
func (s *StreamState) Key() StreamKey { return StreamKey{s.App, s.Stream} }

// ParseStreamState reads an entry of the bucket streams. Fields that a later
// ingest has added are passed over.
func ParseStreamState(key string, value []byte) (*StreamState, error) {
	var s StreamState
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	if err := s.Key().Check(); err != nil {
		return nil, err
	}
	if s.Key().KVKey() != key {
		return nil, fmt.Errorf("the stream under key %s is %s", key, s.Key())
	}
	return &s, nil
}

// PublisherStats are measured by ingest over the last second.
type PublisherStats struct {
	FPS            float64 `json:"fps"`
	VideoBps       int64   `json:"video_bps"`
	AudioBps       int64   `json:"audio_bps"`
	KeyframeMs     int64   `json:"keyframe_ms"`
	Chunks         uint64  `json:"chunks"`
	TimestampJumps uint64  `json:"timestamp_jumps"`
	// StallMs is how far the publisher has fallen behind real time in all, milliseconds.
	StallMs int64 `json:"stall_ms"`
	// PeakVideoBps is the highest second of the epoch: BANDWIDTH of the multivariant playlist.
	PeakBps int64 `json:"peak_bps"`
	// RTTMs is the smoothed round-trip time to the publisher, milliseconds; PacketsLost counts
	// packets that were missing at first, PacketsRetransmitted those that came again, since the
	// publication began. Absent where the protocol does not tell (RTMP).
	RTTMs                float64 `json:"rtt_ms,omitempty"`
	PacketsLost          uint64  `json:"packets_lost,omitempty"`
	PacketsRetransmitted uint64  `json:"packets_retransmitted,omitempty"`
}

// Position is where a rendition's numbering stands, so that a later epoch continues it.
type Position struct {
	Epoch            uint32 `json:"epoch"`
	DiscontinuitySeq uint32 `json:"dseq"`
	// HadContent: the epoch published at least one chunk.
	HadContent bool `json:"had_content"`
	// NextMSN is the first media sequence number not used yet, by track.
	NextMSN map[Track]uint64 `json:"next_msn"`
	// PartTargetUs is each track's part target, which may not change later.
	PartTargetUs map[Track]int64 `json:"part_target_us"`
}

// CDNState says whether a CDN takes viewers.
type CDNState string

// States of a CDN: active takes viewers, draining keeps those it has, off is in no answer.
const (
	CDNActive   CDNState = "active"
	CDNDraining CDNState = "draining"
	CDNOff      CDNState = "off"
)

// CDN is one entry of the CDN registry.
type CDN struct {
	// Name is also the pathway id.
	Name string `json:"name"`
	// BaseURL is where the CDN serves, scheme and host, no trailing slash.
	BaseURL string `json:"base_url"`
	Region  string `json:"region"`
	// CapacityViewers and CapacityBps are what it can serve at once; 0 means not limited.
	CapacityViewers int   `json:"capacity_viewers"`
	CapacityBps     int64 `json:"capacity_bps"`
	// RegionCapacity limits what it can serve in a region at once, by region.
	RegionCapacity map[string]Capacity `json:"region_capacity,omitempty"`
	// PricePerGB in micro-dollars.
	PricePerGBMicroUSD int64 `json:"price_per_gb_micro_usd"`
	// PriceTiers are prices from a monthly volume on, rising by volume; below the
	// first, PricePerGBMicroUSD holds.
	PriceTiers []PriceTier `json:"price_tiers,omitempty"`
	// CommitGB is the monthly volume that is paid for whether it is used or not.
	CommitGB int64 `json:"commit_gb,omitempty"`
	// StrongIn names where it serves better than others: a region, an internet
	// provider, or both as region/provider.
	StrongIn []string `json:"strong_in,omitempty"`
	State    CDNState `json:"state"`
	// Order ranks CDNs where nothing else decides; lower first.
	Order int `json:"order"`
	// SpillViewers is the number of viewers above which new sessions go to the next CDN; 0 means never.
	SpillViewers int `json:"spill_viewers"`
	// StreamViewers is how many viewers one stream may have on it at once: its edges cache a stream
	// in few places; 0 means not limited.
	StreamViewers int `json:"stream_viewers,omitempty"`
	// LogSample is the share of its requests that its logs tell, for CDNs that deliver
	// samples: volumes are scaled by it. 0: all of them.
	LogSample float64 `json:"log_sample,omitempty"`
	// TokenScheme is how play addresses of this CDN are signed, a name of package
	// token/scheme; empty: spillway.
	TokenScheme string `json:"token_scheme,omitempty"`
	// TokenKey names the key in the secrets of the routers; the key itself is
	// never in the registry. Needed by every scheme but spillway.
	TokenKey string `json:"token_key,omitempty"`
}

// NewCDN is what an entry of the registry begins as: active, with nothing else said.
func NewCDN(name string) *CDN { return &CDN{Name: name, State: CDNActive} }

// Capacity is what can be served at once; 0 means not limited.
type Capacity struct {
	Viewers int   `json:"viewers,omitempty"`
	Bps     int64 `json:"bps,omitempty"`
}

// PriceTier is the price of a gigabyte (10^9 bytes) from a monthly volume on.
type PriceTier struct {
	FromGB        int64 `json:"from_gb"`
	PerGBMicroUSD int64 `json:"per_gb_micro_usd"`
}

func (c *CDN) checkMoney() error {
	if err := errors.Join(notNegative("price_per_gb_micro_usd", c.PricePerGBMicroUSD), notNegative("commit_gb", c.CommitGB)); err != nil {
		return err
	}
	from := int64(0)
	for i, t := range c.PriceTiers {
		if t.FromGB <= from {
			return fmt.Errorf("price_tiers[%d].from_gb %d is not above %d: volumes must rise from above 0", i, t.FromGB, from)
		}
		if err := notNegative(fmt.Sprintf("price_tiers[%d].per_gb_micro_usd", i), t.PerGBMicroUSD); err != nil {
			return err
		}
		from = t.FromGB
	}
	return nil
}

func (c *CDN) checkCapacity() error {
	all := []error{
		notNegative("capacity_viewers", int64(c.CapacityViewers)), notNegative("capacity_bps", c.CapacityBps), notNegative("spill_viewers", int64(c.SpillViewers)),
		notNegative("stream_viewers", int64(c.StreamViewers)),
	}
	for _, region := range slices.Sorted(maps.Keys(c.RegionCapacity)) { // the same complaint each time
		if region == "" {
			all = append(all, errors.New("region_capacity: a region's name is empty"))
			continue
		}
		x := c.RegionCapacity[region]
		field := fmt.Sprintf("region_capacity[%.64q]", region)
		all = append(all, notNegative(field+".viewers", int64(x.Viewers)), notNegative(field+".bps", x.Bps))
	}
	return errors.Join(all...)
}

func notNegative(field string, v int64) error {
	if v < 0 {
		return fmt.Errorf("%s %d is negative", field, v)
	}
	return nil
}

// Check names the fields that are wrong.
func (c *CDN) Check() error {
	if err := CheckName("name: CDN name", c.Name); err != nil {
		return err
	}
	if !strings.HasPrefix(c.BaseURL, "http://") && !strings.HasPrefix(c.BaseURL, "https://") || strings.HasSuffix(c.BaseURL, "/") {
		return fmt.Errorf("CDN %s: base_url %q must be http(s)://host[:port] without a trailing slash", c.Name, c.BaseURL)
	}
	switch c.State {
	case CDNActive, CDNDraining, CDNOff:
	default:
		return fmt.Errorf("CDN %s: state %q is not active, draining or off", c.Name, c.State)
	}
	if err := c.checkMoney(); err != nil {
		return fmt.Errorf("CDN %s: %w", c.Name, err)
	}
	if err := c.checkCapacity(); err != nil {
		return fmt.Errorf("CDN %s: %w", c.Name, err)
	}
	if c.LogSample != 0 && !(c.LogSample >= 1e-6 && c.LogSample <= 1) {
		return fmt.Errorf("CDN %s: log_sample %v is not a share of requests within 0.000001 and 1", c.Name, c.LogSample)
	}
	s, err := scheme.ForPlaylists(c.TokenScheme)
	if err != nil {
		return fmt.Errorf("CDN %s: token_scheme: %w", c.Name, err)
	}
	if s == (scheme.Spillway{}) {
		if c.TokenKey != "" {
			return fmt.Errorf("CDN %s: token_key: the scheme spillway uses the token key that all roles share; leave it empty", c.Name)
		}
		return nil
	}
	if err := CheckName("token_key", c.TokenKey); err != nil {
		return fmt.Errorf("CDN %s: %w: it names a key in the routers' secrets", c.Name, err)
	}
	return nil
}

// ParseCDN reads an entry of the bucket cdns.
func ParseCDN(key string, value []byte) (*CDN, error) {
	var c CDN
	if err := UnmarshalStrict(value, &c); err != nil {
		return nil, err
	}
	if c.Name != key {
		return nil, fmt.Errorf("the CDN under key %s is named %q", key, c.Name)
	}
	return &c, c.Check()
}

// Fault is what a test edge does wrong. The zero value is a healthy edge.
type Fault struct {
	// RateBps limits the whole edge's downstream, bits per second; 0 is unlimited.
	RateBps int64 `json:"rate_bps,omitempty"`
	// ConnectionRateBps limits each answer by itself, bits per second, as a long or lossy way does; 0 is unlimited.
	ConnectionRateBps int64 `json:"connection_rate_bps,omitempty"`
	// Region is the only one whose viewers meet ConnectionRateBps, LatencyMs and ErrorRate; empty: all. It goes with
	// none of the others, which are of the edge itself.
	Region string `json:"region,omitempty"`
	// LatencyMs is added before each answer.
	LatencyMs int64 `json:"latency_ms,omitempty"`
	// ErrorRate is the share of requests answered 503, 0 to 1.
	ErrorRate float64 `json:"error_rate,omitempty"`
	// FreezePlaylists answers each media playlist as it was when it was first asked for, as a cache does that
	// does not look whether there is a newer one.
	FreezePlaylists bool `json:"freeze_playlists,omitempty"`
	// Down closes every connection without an answer.
	Down bool `json:"down,omitempty"`
}

// UnmarshalStrict decodes JSON and refuses unknown fields and trailing data, so
// that a mistyped field in a registry entry is an error and not a default.
func UnmarshalStrict(data []byte, v any) error {
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("more data after the JSON value at byte %d", d.InputOffset())
	}
	return nil
}
