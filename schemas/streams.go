package schemas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// BusSettings size the streams. The zero value is for one machine.
type BusSettings struct {
	Replicas       int           // copies of every stream; default 1
	MediaRetention time.Duration // how long chunks are kept; default 90 s
	MediaMaxBytes  int64         // cap of MEDIA; default 4 GiB
	// TelemetryMaxBytes caps TELEMETRY; when full, new batches are refused and the collector spools. Default 8 GiB.
	TelemetryMaxBytes int64
	PictureRetention  time.Duration // default 1 h
}

func (s BusSettings) withDefaults() BusSettings {
	if s.Replicas == 0 {
		s.Replicas = 1
	}
	if s.MediaRetention == 0 {
		s.MediaRetention = 90 * time.Second
	}
	if s.MediaMaxBytes == 0 {
		s.MediaMaxBytes = 4 << 30
	}
	if s.TelemetryMaxBytes == 0 {
		s.TelemetryMaxBytes = 8 << 30
	}
	if s.PictureRetention == 0 {
		s.PictureRetention = time.Hour
	}
	return s
}

// StreamConfigs gives every JetStream stream of Spillway.
//
// MEDIA refuses new chunks when full (ingest then holds its publishers back).
// What it has stored it announces under chunks.>, payload included, to whoever
// listens at that moment; parts are made of chunks and kept nowhere.
// TELEMETRY refuses new when full and is purged only behind what ClickHouse
// holds. Media dedupe windows are short because the server rebuilds the window
// by reading every message in it at start (reference: stream.go rebuildDedupe).
func StreamConfigs(s BusSettings) []jetstream.StreamConfig {
	s = s.withDefaults()
	base := func(name, subjects string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Subjects: []string{subjects}, Storage: jetstream.FileStorage,
			Retention: jetstream.LimitsPolicy, Replicas: s.Replicas, AllowDirect: true,
		}
	}
	media := base(StreamMedia, "media.>")
	media.Description = "chunks and epoch marks from ingest"
	media.MaxAge, media.MaxBytes, media.Discard = s.MediaRetention, s.MediaMaxBytes, jetstream.DiscardNew
	media.Duplicates = 15 * time.Second
	media.MaxMsgSize = MaxBusPayload
	media.RePublish = &jetstream.RePublish{Source: "media.>", Destination: "chunks.>"}

	pictures := base(StreamPictures, "pictures.>")
	pictures.Description = "screenshots, JPEG"
	pictures.MaxAge, pictures.MaxMsgsPerSubject, pictures.Discard = s.PictureRetention, 720, jetstream.DiscardOld
	pictures.MaxBytes = 2 << 30
	pictures.Duplicates = 30 * time.Second

	telemetry := base(StreamTelemetry, "telemetry.*")
	telemetry.Description = "telemetry batches, Arrow"
	telemetry.MaxBytes, telemetry.Discard = s.TelemetryMaxBytes, jetstream.DiscardNew
	telemetry.Duplicates = 2 * time.Minute
	telemetry.MaxMsgSize = MaxBusPayload

	slices := base(StreamSlices, "slices.*")
	slices.Description = "session slices, Arrow"
	slices.MaxBytes, slices.Discard = s.TelemetryMaxBytes, jetstream.DiscardNew
	slices.Duplicates = 2 * time.Minute
	slices.MaxMsgSize = MaxBusPayload

	events := base(StreamEvents, "events.>")
	events.Description = "what happened to streams, CDNs, workers"
	events.MaxAge, events.MaxBytes, events.Discard = 7*24*time.Hour, 1<<30, jetstream.DiscardOld

	verdicts := base(StreamVerdicts, "verdicts.*.*")
	verdicts.Description = "what review operators say of pictures"
	verdicts.MaxAge, verdicts.MaxBytes, verdicts.Discard = 24*time.Hour, 256<<20, jetstream.DiscardOld
	verdicts.MaxMsgSize = 64 << 10

	decisions := base(StreamDecisions, "decisions.>")
	decisions.Subjects = append(decisions.Subjects, "exposures.*")
	decisions.Description = "routing decisions and experiment exposures"
	decisions.MaxAge, decisions.MaxBytes, decisions.Discard = 7*24*time.Hour, 2<<30, jetstream.DiscardOld

	elsewhere := base(StreamElsewhere, "elsewhere.*")
	elsewhere.Description = "where routers of other regions sent sessions"
	elsewhere.MaxAge, elsewhere.MaxBytes, elsewhere.Discard = 5*time.Minute, 256<<20, jetstream.DiscardOld
	elsewhere.MaxMsgSize = MaxBusPayload

	dead := base(StreamDead, "dead.*")
	dead.Description = "messages no handler could take, with the reason"
	dead.MaxAge, dead.MaxBytes, dead.Discard = 7*24*time.Hour, 1<<30, jetstream.DiscardOld

	return []jetstream.StreamConfig{media, pictures, telemetry, slices, events, verdicts, decisions, elsewhere, dead}
}

// formerStreamParts is the stream in which parts were stored once.
const formerStreamParts = "PARTS"

// BucketConfigs gives every KV bucket.
func BucketConfigs(s BusSettings) []jetstream.KeyValueConfig {
	s = s.withDefaults()
	kv := func(name, what string) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{Bucket: name, Description: what, Storage: jetstream.FileStorage, Replicas: s.Replicas, History: 1}
	}
	inits := kv(BucketInits, "init segments by content hash")
	inits.TTL = 7 * 24 * time.Hour
	experiments := kv(BucketExperiments, "experiments")
	experiments.History = 64
	policies := kv(BucketPolicies, "routing policies")
	policies.History = 64
	cdns := kv(BucketCDNs, "CDN registry")
	cdns.History = 64
	apps := kv(BucketApps, "settings of applications and streams")
	apps.History = 64
	publishers := kv(BucketPublishers, "publishers that report, and commands to them")
	publishers.TTL = 24 * time.Hour
	reviews := kv(BucketReviews, "streams that verdicts on their pictures hide")
	reviews.TTL = 30 * 24 * time.Hour
	pushes := kv(BucketPushes, "targets that streams are pushed to")
	pushes.History = 64
	pushStates := kv(BucketPushStates, "what pushes do, and who does them")
	pushStates.TTL = time.Hour
	erasures := kv(BucketErasures, "viewers whose rows are deleted as they arrive")
	erasures.TTL = ErasureKept
	locations := kv(BucketLocations, "where this region gets streams from")
	locations.TTL = LocationKept
	alerts := kv(BucketAlerts, "alerts that are open, or were until lately")
	alerts.TTL = AlertKept
	return []jetstream.KeyValueConfig{
		alerts, kv(BucketAlertRules, "what operators changed of alert rules"),
		locations, apps, erasures, reviews, kv(BucketHot, "streams that are not on the hot list"), publishers, pushes, pushStates, kv(BucketSources, "cameras that are pulled"), kv(BucketShares, "public addresses of private streams"),
		kv(BucketPulls, "who pulls which camera"),
		kv(BucketRenditions, "renditions made by the pipeline"), inits, kv(BucketStreams, "live streams"), kv(BucketPositions, "numbering of each rendition"),
		cdns, policies, kv(BucketUsage, "what CDNs delivered, by month"), kv(BucketFaults, "faults of test edges"), experiments,
		kv(BucketChecks, "newest check of each running experiment"), kv(BucketLedger, "loader ledger"),
	}
}

// EnsureBus creates the streams, buckets and object stores that do not exist
// and updates those whose settings differ. Roles call it at start, so the order
// in which they start does not matter.
func EnsureBus(ctx context.Context, js jetstream.JetStream, s BusSettings) error {
	// Earlier versions stored parts. The stream would go on taking them.
	if err := patiently(ctx, func(ctx context.Context) error { return js.DeleteStream(ctx, formerStreamParts) }); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s, which is no longer used: %w", formerStreamParts, err)
	}
	for _, c := range StreamConfigs(s) {
		if err := patiently(ctx, func(ctx context.Context) error { _, err := js.CreateOrUpdateStream(ctx, c); return err }); err != nil {
			return fmt.Errorf("create stream %s: %w", c.Name, err)
		}
	}
	for _, c := range BucketConfigs(s) {
		if err := patiently(ctx, func(ctx context.Context) error { _, err := js.CreateOrUpdateKeyValue(ctx, c); return err }); err != nil {
			return fmt.Errorf("create bucket %s: %w", c.Bucket, err)
		}
	}
	o := jetstream.ObjectStoreConfig{
		Bucket: BucketSnapshots, Description: "sessioniser snapshots",
		Storage: jetstream.FileStorage, Replicas: s.withDefaults().Replicas,
	}
	err := patiently(ctx, func(ctx context.Context) error { _, err := js.CreateOrUpdateObjectStore(ctx, o); return err })
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
		return fmt.Errorf("create object store %s: %w", o.Bucket, err)
	}
	return nil
}

// OpenBucket gives a KV bucket that EnsureBus made. It waits until the bus answers
// or ctx ends: a role that has just started does not end because the bus restarts
// in that moment. Errors wrap jetstream.ErrBucketNotFound, those of ctx, or the bus's.
func OpenBucket(ctx context.Context, js jetstream.JetStream, name string) (jetstream.KeyValue, error) {
	var kv jetstream.KeyValue
	err := patiently(ctx, func(ctx context.Context) (err error) { kv, err = js.KeyValue(ctx, name); return err })
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	return kv, nil
}

// askAgain is when a request to the bus that got no answer is made again: a server that ends with the request in
// hand answers never, and one that starts in its place answers at once.
const askAgain = 4 * time.Second

// patiently repeats what gets no answer until ctx ends.
func patiently(ctx context.Context, ask func(ctx context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, askAgain)
		err := ask(once)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}
