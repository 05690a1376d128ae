package schemas

import (
	"fmt"
	"strconv"
	"strings"
)

// Names of the JetStream streams. See [StreamConfigs] for what each holds and keeps.
const (
	StreamMedia     = "MEDIA"
	StreamPictures  = "PICTURES"
	StreamTelemetry = "TELEMETRY"
	StreamSlices    = "SLICES"
	StreamEvents    = "EVENTS"
	StreamDecisions = "DECISIONS"
	StreamElsewhere = "ELSEWHERE"
	StreamDead      = "DEAD"
)

// NATS message headers of Spillway. Standard ones (Nats-Msg-Id and so on) are used as they are.
const (
	// HeaderKind says what a MEDIA message is: KindChunk, KindEpoch or KindEnd.
	HeaderKind = "Spillway-Kind"
	// HeaderChunk carries the JSON of a [Chunk]; the payload is its CMAF bytes.
	HeaderChunk = "Spillway-Chunk"
	// HeaderPart carries the JSON of a [Part]; the payload is the part's CMAF bytes.
	HeaderPart = "Spillway-Part"
	// HeaderProducer and HeaderProducerSeq identify a telemetry batch: a reader
	// drops a batch whose producer it has seen with this or a higher counter in this partition.
	HeaderProducer    = "Spillway-Producer"
	HeaderProducerSeq = "Spillway-Producer-Seq"
	// HeaderRows is the number of rows in a columnar batch.
	HeaderRows = "Spillway-Rows"
	// HeaderInputSeq is, on a slices message, the last TELEMETRY stream sequence it accounts for.
	HeaderInputSeq = "Spillway-Input-Seq"
	// HeaderReason and HeaderOrigin describe a dead letter: why it was rejected and the subject and sequence it came from.
	HeaderReason = "Spillway-Reason"
	HeaderOrigin = "Spillway-Origin"
)

// SubjectRouterQueue carries who waits for a place, from each router to all,
// twice a second while somebody does: core NATS, not stored.
const SubjectRouterQueue = "routerqueue"

// Values of HeaderKind.
const (
	KindChunk = "chunk"
	KindEpoch = "epoch"
	KindEnd   = "end"
)

// MediaSubject is where a rendition's chunks and epoch marks are published:
// media.<partition>.<app>.<stream>.<rendition>.
func MediaSubject(k StreamKey, rendition string) string {
	return "media." + strconv.Itoa(k.MediaPartition()) + "." + k.App + "." + k.Stream + "." + rendition
}

// PartSubject is where a track's parts are published:
// parts.<partition>.<app>.<stream>.<rendition>.<track>.
func PartSubject(k StreamKey, rendition string, t Track) string {
	return "parts." + strconv.Itoa(k.MediaPartition()) + "." + k.App + "." + k.Stream + "." + rendition + "." + string(t)
}

// PartsFilter matches the parts of every rendition and track of one stream.
func PartsFilter(k StreamKey) string {
	return "parts." + strconv.Itoa(k.MediaPartition()) + "." + k.App + "." + k.Stream + ".>"
}

// ChunksFilter matches what the bus announces of every rendition of one stream
// as soon as MEDIA holds it: the same messages as [MediaFilter]'s, on subjects
// that begin with chunks instead of media, with the headers Nats-Subject,
// Nats-Sequence, Nats-Last-Sequence (of the message before it on its subject)
// and Nats-Time-Stamp. They are not stored under this name: a listener that sees
// a gap reads MEDIA.
func ChunksFilter(k StreamKey) string {
	return "chunks." + strconv.Itoa(k.MediaPartition()) + "." + k.App + "." + k.Stream + ".>"
}

// MediaFilter matches the chunks of every rendition of one stream.
func MediaFilter(k StreamKey) string {
	return "media." + strconv.Itoa(k.MediaPartition()) + "." + k.App + "." + k.Stream + ".>"
}

// ParseMediaSubject is the reverse of [MediaSubject].
func ParseMediaSubject(subject string) (k StreamKey, rendition string, err error) {
	f := strings.Split(subject, ".")
	if len(f) != 5 || f[0] != "media" {
		return k, "", fmt.Errorf("subject %q is not media.<partition>.<app>.<stream>.<rendition>", subject)
	}
	k = StreamKey{App: f[2], Stream: f[3]}
	if err := checkPartition(k, f[1], subject); err != nil {
		return StreamKey{}, "", err
	}
	if err := CheckName("rendition", f[4]); err != nil {
		return StreamKey{}, "", fmt.Errorf("subject %q: %w", subject, err)
	}
	return k, f[4], nil
}

// ParsePartSubject is the reverse of [PartSubject].
func ParsePartSubject(subject string) (k StreamKey, rendition string, t Track, err error) {
	f := strings.Split(subject, ".")
	if len(f) != 6 || f[0] != "parts" {
		return k, "", "", fmt.Errorf("subject %q is not parts.<partition>.<app>.<stream>.<rendition>.<track>", subject)
	}
	k = StreamKey{App: f[2], Stream: f[3]}
	if err := checkPartition(k, f[1], subject); err != nil {
		return StreamKey{}, "", "", err
	}
	if err := CheckName("rendition", f[4]); err != nil {
		return StreamKey{}, "", "", fmt.Errorf("subject %q: %w", subject, err)
	}
	t = Track(f[5])
	if err := t.Check(); err != nil {
		return StreamKey{}, "", "", fmt.Errorf("subject %q: %w", subject, err)
	}
	return k, f[4], t, nil
}

func checkPartition(k StreamKey, token, subject string) error {
	if err := k.Check(); err != nil {
		return fmt.Errorf("subject %q: %w", subject, err)
	}
	if token != strconv.Itoa(k.MediaPartition()) {
		return fmt.Errorf("subject %q: partition %s is not that of %s, which is %d", subject, token, k, k.MediaPartition())
	}
	return nil
}

// PictureSubject is where a stream's screenshots are published: pictures.<app>.<stream>.
func PictureSubject(k StreamKey) string { return "pictures." + k.App + "." + k.Stream }

// ParsePictureSubject is the reverse of [PictureSubject].
func ParsePictureSubject(subject string) (StreamKey, error) {
	f := strings.Split(subject, ".")
	if len(f) != 3 || f[0] != "pictures" {
		return StreamKey{}, fmt.Errorf("subject %q is not pictures.<app>.<stream>", subject)
	}
	k := StreamKey{App: f[1], Stream: f[2]}
	if err := k.Check(); err != nil {
		return StreamKey{}, fmt.Errorf("subject %q: %w", subject, err)
	}
	return k, nil
}

// TelemetrySubject is where telemetry batches of a partition are published: telemetry.<partition>.
func TelemetrySubject(partition int) string { return "telemetry." + strconv.Itoa(partition) }

// SlicesSubject is where session slices of a partition are published: slices.<partition>.
func SlicesSubject(partition int) string { return "slices." + strconv.Itoa(partition) }

// ParsePartitionSubject gives the partition of a telemetry.<p> or slices.<p> subject.
func ParsePartitionSubject(prefix, subject string) (int, error) {
	rest, ok := strings.CutPrefix(subject, prefix+".")
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 0 || n >= TelemetryPartitions || strconv.Itoa(n) != rest {
		return 0, fmt.Errorf("subject %q is not %s.<partition 0 to %d>", subject, prefix, TelemetryPartitions-1)
	}
	return n, nil
}

// EventSubject is where an event is published: events.<kind>.<app>.<stream>,
// with "_" where there is no application or stream.
func EventSubject(e *Event) string {
	return "events." + string(e.Kind) + "." + orNone(e.App) + "." + orNone(e.Stream)
}

// DecisionSubject is where a decision is published: decisions.<kind>.<app>.<stream>.
func DecisionSubject(d *Decision) string {
	return "decisions." + string(d.Kind) + "." + orNone(d.App) + "." + orNone(d.Stream)
}

// ParseDecisionSubject gives the stream that the decisions of a subject are about; empty: that is not said.
func ParseDecisionSubject(subject string) (k StreamKey) {
	rest, ok := strings.CutPrefix(subject, "decisions.")
	_, rest, ok2 := strings.Cut(rest, ".")
	app, stream, ok3 := strings.Cut(rest, ".")
	if !ok || !ok2 || !ok3 || app == orNone("") || stream == orNone("") {
		return StreamKey{}
	}
	return StreamKey{app, stream}
}

// ExposureSubject is where an exposure is published: exposures.<experiment>.
func ExposureSubject(x *Exposure) string { return "exposures." + x.Experiment }

// DeadSubject is where messages a role rejected are kept: dead.<role>.
func DeadSubject(role string) string { return "dead." + role }

func orNone(s string) string {
	if CheckName("", s) != nil {
		return "_"
	}
	return s
}
