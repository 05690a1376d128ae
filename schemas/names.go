package schemas

import (
	"fmt"
	"hash/fnv"
)

// MaxNameLen bounds application, stream, rendition, CDN and experiment names, in bytes.
const MaxNameLen = 64

// MediaPartitions is the fixed number of partitions of media subjects; a
// stream's partition is a hash of its application and name.
const MediaPartitions = 16

// TelemetryPartitions is the fixed number of telemetry partitions; a session's
// partition is a hash of its id. It cannot change without draining the bus,
// because sessioniser state and the loader's ledger are per partition.
const TelemetryPartitions = 8

// SourceRendition is the rendition exactly as the publisher sent it.
const SourceRendition = "src"

// CheckName reports whether name may be used as one token of a subject and of
// a URL path: 1 to MaxNameLen bytes of A-Z a-z 0-9 _ and -. what says in the
// error which name was wrong.
func CheckName(what, name string) error {
	if name == "" {
		return fmt.Errorf("%s is empty: give 1 to %d characters of A-Z a-z 0-9 _ -", what, MaxNameLen)
	}
	if len(name) > MaxNameLen {
		return fmt.Errorf("%s %.16q... has %d characters: at most %d are allowed", what, name, len(name), MaxNameLen)
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return fmt.Errorf("%s %q has %q at position %d: only A-Z a-z 0-9 _ - are allowed", what, name, c, i)
		}
	}
	return nil
}

// StreamKey identifies one live stream: the unit that is published, packaged,
// watched and charged for.
type StreamKey struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
}

// String gives "app/stream", which is also the CMCD content id (cid) of the stream.
func (k StreamKey) String() string { return k.App + "/" + k.Stream }

// Check validates both names.
func (k StreamKey) Check() error {
	if err := CheckName("application name", k.App); err != nil {
		return err
	}
	return CheckName("stream name", k.Stream)
}

// KVKey gives the key of the stream in KV buckets.
func (k StreamKey) KVKey() string { return k.App + "." + k.Stream }

// MediaPartition is the partition of the stream's media subjects.
func (k StreamKey) MediaPartition() int {
	h := fnv.New32a()
	h.Write([]byte(k.App))
	h.Write([]byte{'/'})
	h.Write([]byte(k.Stream))
	return int(h.Sum32() % MediaPartitions)
}

// TelemetryPartition is the partition of a playback session's telemetry.
func TelemetryPartition(sessionID string) int {
	h := fnv.New32a()
	h.Write([]byte(sessionID))
	return int(h.Sum32() % TelemetryPartitions)
}

// Track names one elementary stream inside a rendition.
type Track string

// The tracks of a rendition. Each is packaged on its own, as CMAF asks.
const (
	Video Track = "video"
	Audio Track = "audio"
)

// Check refuses anything but the known tracks.
func (t Track) Check() error {
	if t != Video && t != Audio {
		return fmt.Errorf("track %q is unknown: video and audio exist", string(t))
	}
	return nil
}

// Headers between edges, origins and routers.
const (
	// HeaderEdgeKey carries the secret that edges share with origin, router and collector.
	HeaderEdgeKey = "X-Spillway-Edge-Key"
	// HeaderPrivate is 1 on every answer of an origin about a private stream: a
	// cache gives such an object only to a request with the token of a session
	// that was opened with a play key.
	HeaderPrivate = "Spillway-Private"
)
