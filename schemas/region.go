package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// BucketLocations maps StreamKey.KVKey to Location: where the streams are that
// this region can get at. Each region has its own.
const BucketLocations = "locations"

// LocationKept is how long an entry of the bucket locations holds without being
// written again: what a dead relay said disappears.
const LocationKept = 10 * time.Second

// MaxRegionHops bounds the regions a stream goes through.
const MaxRegionHops = 8

// Headers of MEDIA messages that a relay took from another region.
const (
	// HeaderHome is <region>/<sequence> of the message in the MEDIA of the region
	// where it was published; it stays the same over all hops.
	HeaderHome = "Spillway-Home"
	// HeaderVia is <region>/<sequence> of the message in the MEDIA it was taken from.
	HeaderVia = "Spillway-Via"
)

// Location is one region's best way to a stream: an entry of its bucket locations.
type Location struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// Path is the regions from where the stream is published to this one, both
	// included: one region, where it is published here.
	Path []string `json:"path"`
	// Held: this region's MEDIA has the stream's chunks, so others may take them here.
	Held bool `json:"held"`
	// DelayUs is about how long a chunk takes over the links of Path, microseconds:
	// half of each link's round trip.
	DelayUs int64 `json:"delay_us"`
	// NearestUs is the same to the nearest region that has the chunks; 0 where Held.
	NearestUs int64 `json:"nearest_us"`
	// Watching is in how many regions the stream is watched, as far as is known here.
	Watching int `json:"watching"`
	// Viewers is how many sessions watch it at least, in all regions, as far as is known here.
	Viewers int `json:"viewers,omitempty"`
	// State is what the bucket streams holds where the stream is published.
	State StreamState `json:"state"`
	// Position is the numbering of the publisher's rendition, so that a publisher
	// who comes in another region continues it; nil: not known.
	Position *Position `json:"position,omitempty"`
	// Renditions are what is made of it now.
	Renditions []RenditionState `json:"renditions,omitempty"`
	// Offers are the neighbours' ways that this one was chosen from, for people; the first was taken.
	Offers []RegionOffer `json:"offers,omitempty"`
}

// RegionOffer is a neighbour's way to a stream, as its region was told.
type RegionOffer struct {
	Region  string `json:"region"`
	Held    bool   `json:"held"`
	RTTUs   int64  `json:"rtt_us"`
	DelayUs int64  `json:"delay_us"` // of the whole way through it
	Hops    int    `json:"hops"`
	Epoch   uint32 `json:"epoch"`
}

// Key gives the stream.
func (l *Location) Key() StreamKey { return StreamKey{l.App, l.Stream} }

// Home is the region where the stream is published.
func (l *Location) Home() string { return l.Path[0] }

// Region is whose entry it is.
func (l *Location) Region() string { return l.Path[len(l.Path)-1] }

// ParseLocation reads an entry of the bucket locations, which may be another region's.
func ParseLocation(key string, value []byte) (*Location, error) {
	var l Location
	if err := json.Unmarshal(value, &l); err != nil {
		return nil, err
	}
	if err := l.Key().Check(); err != nil {
		return nil, err
	}
	if l.Key().KVKey() != key {
		return nil, fmt.Errorf("the location under key %s is of %s", key, l.Key())
	}
	if len(l.Path) == 0 || len(l.Path) > MaxRegionHops {
		return nil, fmt.Errorf("path has %d regions: 1 to %d are allowed", len(l.Path), MaxRegionHops)
	}
	for i, r := range l.Path {
		if err := CheckRegion(r); err != nil {
			return nil, fmt.Errorf("path: %w", err)
		}
		if slices.Contains(l.Path[:i], r) {
			return nil, fmt.Errorf("path %v goes through %s twice", l.Path, r)
		}
	}
	if l.State.Key() != l.Key() {
		return nil, fmt.Errorf("the state is of %s", l.State.Key())
	}
	if l.DelayUs < 0 || l.NearestUs < 0 || l.Watching < 0 {
		return nil, errors.New("delay_us, nearest_us and watching cannot be negative")
	}
	if len(l.Renditions) > 32 {
		return nil, fmt.Errorf("%d renditions: at most 32 are allowed", len(l.Renditions))
	}
	return &l, nil
}

// CheckRegion reports whether name may name a region.
func CheckRegion(name string) error { return CheckName("region name", name) }

// Subjects between neighbouring regions: region.<to>.<verb>.<from>. They are core
// NATS and the only ones, beside the JetStream API of the other's domain as far as
// [RegionAllows] goes, that cross a link.

// RegionPing is asked to measure a link's round trip; a region's relay answers.
func RegionPing(to, from string) string { return "region." + to + ".ping." + from }

// RegionWant is said once a second: from wants the stream from to. The payload is a [RegionWanted].
func RegionWant(to, from string, k StreamKey) string {
	return "region." + to + ".want." + from + "." + k.App + "." + k.Stream
}

// RegionWanted is the payload of [RegionWant].
type RegionWanted struct {
	// NearestUs is the same to the nearest region that has the chunks; 0 where Held.
	NearestUs int64 `json:"nearest_us"`
	// Watching is in how many regions the stream is watched: the one that asks and
	// those that ask it. 0: it is pulled ahead.
	Watching int `json:"watching"`
	// Viewers is how many sessions watch it there at least.
	Viewers int `json:"viewers,omitempty"`
}

// RegionUp carries a message of from's telemetry, events or decisions to be stored in to under subject.
func RegionUp(to, from, subject string) string { return "region." + to + ".up." + from + "." + subject }

// RegionInbox is the prefix of the subjects on which a region's relay is answered.
func RegionInbox(region string) string { return "region." + region + ".inbox" }

// RegionBuckets are the settings that a region copies from its parent.
func RegionBuckets() []string {
	return []string{BucketApps, BucketShares, BucketPolicies, BucketExperiments}
}

// RegionCDNBuckets are what a region copies beside that where it has its parent's CDNs: the
// registry, and what they delivered, which their prices go by.
func RegionCDNBuckets() []string { return []string{BucketCDNs, BucketUsage} }

// RegionConsumer begins the names of the consumers that region from has in others' streams.
func RegionConsumer(from string) string { return "relay-" + from + "-" }

// RegionAllows gives the subjects on which a region's messages may go to a
// neighbour: its relay's own, reads of MEDIA, of the registry of streams, of init
// segments, of session slices, of decisions, of the settings and of the registry of CDNs. No stream can be written, changed or deleted with them.
func RegionAllows(to, from string) []string {
	api := "$JS." + to + ".API."
	out := []string{
		"region." + to + ".ping." + from, "region." + to + ".want." + from + ".>", "region." + to + ".up." + from + ".>",
		RegionInbox(to) + ".>",
		api + "CONSUMER.CREATE." + StreamMedia + ".*.media.>", api + "CONSUMER.MSG.NEXT." + StreamMedia + ".*", api + "CONSUMER.DELETE." + StreamMedia + ".*",
		api + "DIRECT.GET.KV_" + BucketInits + ".>",
	}
	for _, s := range [][2]string{{StreamSlices, "slices.*"}, {StreamDecisions, "decisions.>"}, {StreamElsewhere, "elsewhere.*"}} {
		out = append(out, api+"CONSUMER.CREATE."+s[0]+".*."+s[1], api+"CONSUMER.MSG.NEXT."+s[0]+".*", api+"CONSUMER.DELETE."+s[0]+".*")
	}
	for _, b := range append(append(RegionBuckets(), RegionCDNBuckets()...), BucketLocations) {
		out = append(out, api+"CONSUMER.CREATE.KV_"+b+".*.$KV."+b+".>", api+"CONSUMER.MSG.NEXT.KV_"+b+".*", api+"CONSUMER.DELETE.KV_"+b+".*")
	}
	return out
}

// RegionDenies gives the subjects of a region that no other one hears or sends to,
// for the side of a link that can only deny.
func RegionDenies() []string {
	return []string{
		"media.>", "chunks.>", "parts.>", "partsdemand.>", "demand.>", "telemetry.>", "slices.>", "events.>", "decisions.>", "elsewhere.>", "exposures.>",
		"pictures.>", "dead.>", "leasealive.>", "hops.>", SubjectProbes, SubjectPublishProbes, SubjectSynthetic, SubjectRouterQueue, SubjectWarm, SubjectWarmed, SubjectRouterHealth, "_INBOX.>", "$KV.>", "$OBJ.>", "$JS.API.>",
	}
}
