// Package access tells what an address is: which stream plays there, and who
// may have it. It follows the buckets apps and shares; whoever answers viewers
// asks it for each request.
//
// It promises that a change is known within about a second, and that doubt
// shuts: an entry of apps that cannot be read makes its streams private, and an
// entry of shares that cannot be read plays nothing that it did not play before.
package access

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Access is what an address is.
type Access struct {
	// Key is the stream that plays there: the address itself, or what it shares.
	Key schemas.StreamKey
	// Private: only for those who show a play key. The address of a share is
	// public, whatever the application it lies in says.
	Private bool
	// Shared: the address is a [schemas.Share].
	Shared bool
	// Ended says why the share plays no more; empty while it does.
	Ended string
	// UntilUnix is when the share ends by itself, Unix seconds; 0: open.
	UntilUnix int64
}

// Table knows all addresses. Safe for concurrent use.
type Table struct {
	apps   *mirror.Table[bool]
	shares *mirror.Table[*schemas.Share]
}

// New makes a table; Run must be called, and Ready waited for.
func New(logger *slog.Logger) *Table {
	return &Table{
		apps:   mirror.New(schemas.BucketApps, private, logger),
		shares: mirror.New(schemas.BucketShares, schemas.ParseShare, logger),
	}
}

// private reads the one setting that matters here, also from an entry whose
// other settings are unknown to this version.
func private(_ string, value []byte) (bool, error) {
	var s struct {
		Private bool `json:"private"`
	}
	if json.Unmarshal(value, &s) != nil {
		return true, nil
	}
	return s.Private, nil
}

// Run follows the buckets until ctx ends, and then returns nil.
func (t *Table) Run(ctx context.Context, js jetstream.JetStream) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.apps.Run(ctx, js) })
	g.Go(func() error { return t.shares.Run(ctx, js) })
	return g.Wait()
}

// Wait blocks until both buckets have been read once. Before that nobody may be answered.
func (t *Table) Wait(ctx context.Context) error {
	for _, c := range []<-chan struct{}{t.apps.Ready(), t.shares.Ready()} {
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Of says what the address is at now.
func (t *Table) Of(address schemas.StreamKey, now time.Time) Access {
	k := address.KVKey()
	if s, ok := t.shares.Get(k); ok {
		return Access{Key: s.Key(), Shared: true, Ended: s.Ended(now), UntilUnix: s.UntilUnix}
	}
	p, ok := t.apps.Get(k)
	if !ok {
		p, _ = t.apps.Get(address.App)
	}
	return Access{Key: address, Private: p}
}

// SharesChanged is closed at the next change of a share after this call.
func (t *Table) SharesChanged() <-chan struct{} { return t.shares.Changed() }
