package schemas

import (
	"fmt"
	"strings"

	"github.com/spillway-live/spillway/schemas/columnar"
)

// Hops of a part, in its order of travel. Delays count from HopIngest, which is 0.
const (
	HopPublish  = "publish"  // capture of the part's last sample, by the publisher's corrected clock; before ingest, so below 0
	HopIngest   = "ingest"   // ingest has the part's last sample
	HopStored   = "stored"   // MEDIA has acknowledged the chunk
	HopPackaged = "packaged" // an origin lists the part
	HopOrigin   = "origin"   // an origin answered it for the first time
	HopEdge     = "edge"     // a CDN's edge began to answer it, from its request log
	HopPlayer   = "player"   // a player had its last byte, from CMCD response records, by the viewer's clock
	HopProbe    = "probe"    // a synthetic request through a CDN
)

// Hops gives the hops in order, without probes.
func Hops() []string {
	return []string{HopPublish, HopIngest, HopStored, HopPackaged, HopOrigin, HopEdge, HopPlayer}
}

// ProbeUserAgent begins the User-Agent of probes. Edges' lines about requests that
// have it and no session are about no viewer.
const ProbeUserAgent = "spillway-probe/"

// SubjectSynthetic is where probers tell what one probe showed, core NATS: a hop's
// note, for routers. Who missed one hears the next.
const SubjectSynthetic = "synthetic"

// hopEvery: of the parts that do not open a segment of pictures, one in so many is looked at.
const hopEvery = 16

// HopSampled says whether a part (-1: a whole segment) is reported at the hops.
// It depends on the name alone, so that every hop looks at the same parts: the
// first of each segment of pictures, which is its key frame, one in 16 others,
// and one in four whole segments.
func HopSampled(t Track, msn uint64, part int) bool {
	switch {
	case part < 0:
		return msn%4 == 0
	case part == 0 && t == Video:
		return true
	}
	return (msn*7+uint64(part))%hopEvery == 1
}

// PartName is what identifies a part from publisher to player: the names in its
// URL and the numbers in its chunk.
type PartName struct {
	Key       StreamKey
	Rendition string
	Track     Track
	Epoch     uint32
	MSN       uint64
	Part      int // -1: the whole segment
}

// Sampled is [HopSampled].
func (n PartName) Sampled() bool { return HopSampled(n.Track, n.MSN, n.Part) }

// String is the part's path.
func (n PartName) String() string {
	file := SegmentFileName(n.Epoch, n.MSN)
	if n.Part >= 0 {
		file = (&Part{Epoch: n.Epoch, MSN: n.MSN, Part: uint32(n.Part)}).FileName()
	}
	return "/" + n.Key.App + "/" + n.Key.Stream + "/" + n.Rendition + "/" + string(n.Track) + "/" + file
}

// ParsePartPath reads /<app>/<stream>/<rendition>/<track>/<epoch>-<msn>[.<part>].m4s;
// ok is false for every other path.
func ParsePartPath(path string) (n PartName, ok bool) {
	if !strings.HasSuffix(path, ".m4s") || path[0] != '/' {
		return n, false
	}
	f := strings.Split(path[1:], "/")
	if len(f) != 5 {
		return n, false
	}
	epoch, msn, part, err := ParseMediaFileName(f[4])
	n = PartName{StreamKey{f[0], f[1]}, f[2], Track(f[3]), epoch, msn, part}
	ok = err == nil && n.Key.Check() == nil && CheckName("rendition", n.Rendition) == nil && n.Track.Check() == nil
	return n, ok
}

// Mark makes the row one about the part at a hop.
func (n PartName) Mark(t *Telemetry, hop string) {
	t.Hop, t.App, t.Stream, t.Rendition, t.Track = hop, n.Key.App, n.Key.Stream, n.Rendition, string(n.Track)
	t.Epoch, t.MSN, t.Part = columnar.Some(int64(n.Epoch)), columnar.Some(int64(n.MSN)), columnar.Some(int32(n.Part))
}

// PartNameOf is the part that a hop's row is about; ok is false where it is about none.
func PartNameOf(t *Telemetry) (n PartName, ok bool) {
	n = PartName{StreamKey{t.App, t.Stream}, t.Rendition, Track(t.Track), uint32(t.Epoch.V), uint64(t.MSN.V), int(t.Part.V)}
	return n, t.Hop != "" && t.Epoch.OK && t.MSN.OK && t.Part.OK && t.MSN.V >= 0
}

// HopsSubject is hops.<app>.<stream>, core NATS: rows about hops of a stream's
// parts as they are made, in the columns of telemetry, for whoever listens now.
func HopsSubject(k StreamKey) string { return "hops." + k.App + "." + k.Stream }

// ParseHopsSubject is the reverse of [HopsSubject].
func ParseHopsSubject(subject string) (StreamKey, error) {
	f := strings.Split(subject, ".")
	if len(f) != 3 || f[0] != "hops" {
		return StreamKey{}, fmt.Errorf("subject %q is not hops.<app>.<stream>", subject)
	}
	k := StreamKey{f[1], f[2]}
	return k, k.Check()
}
