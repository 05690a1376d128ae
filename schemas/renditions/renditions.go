// Package renditions tells what the pipeline makes of a stream besides the
// publisher's own rendition. It follows the bucket renditions; whoever writes
// lists of renditions (multivariant playlists, MPDs) asks it.
package renditions

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Table knows what is made. Safe for concurrent use.
type Table struct {
	all      *mirror.Table[*schemas.RenditionState]
	byStream *mirror.Groups
}

// New makes a table; Run must be called. logger may be nil.
func New(logger *slog.Logger) *Table {
	all := mirror.New(schemas.BucketRenditions, schemas.ParseRenditionState, logger)
	return &Table{all, mirror.Group(all, func(key string) string { return key[:max(0, strings.LastIndexByte(key, '.'))] })}
}

// Run follows the bucket until ctx ends, and then returns nil.
func (t *Table) Run(ctx context.Context, js jetstream.JetStream) error { return t.all.Run(ctx, js) }

// Ready is closed once the bucket has been read.
func (t *Table) Ready() <-chan struct{} { return t.all.Ready() }

// Of gives what is made of the stream's current epoch now, highest picture first.
func (t *Table) Of(s *schemas.StreamState, now time.Time) []*schemas.RenditionState {
	var out []*schemas.RenditionState
	for _, key := range t.byStream.Keys(s.Key().KVKey()) {
		if r, ok := t.all.Get(key); ok && r.LiveIn(s, now) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *schemas.RenditionState) int {
		return cmp.Or(cmp.Compare(b.Epoch.Tracks[0].Height, a.Epoch.Tracks[0].Height), cmp.Compare(b.PeakBps, a.PeakBps), cmp.Compare(a.Rendition, b.Rendition))
	})
	return out
}

// Retired reports whether a rendition that was made is made no more. Of one that
// never was it knows nothing: false.
func (t *Table) Retired(k schemas.StreamKey, rendition string, now time.Time) bool {
	r, ok := t.all.Get(k.KVKey() + "." + rendition)
	return ok && !r.Fresh(now)
}
