package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// Position is what the ledger says of a lane: its last block, recorded before
// it is inserted, and the lane's sums up to and including that block. It is the
// JSON value of the lane's key in the bucket ledger.
type Position struct {
	// From and To bound the block: stream sequences of its first and last message.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	// Rows of the block; 0 for a block of messages without rows, which is not inserted.
	Rows int `json:"rows"`
	// Sum is the checksum of the block's messages, CRC-32C over sequence and payload.
	Sum uint32 `json:"sum"`
	// Done is set when the block is known to be inserted and nothing follows;
	// a block that is followed by another is in, too.
	Done bool `json:"done"`

	// Sums of the lane over all blocks.
	TotalRows        int64 `json:"total_rows"`
	DuplicateRows    int64 `json:"duplicate_rows"`    // left out: the producer's counter was seen
	DuplicateBatches int64 `json:"duplicate_batches"` // messages with those rows
	DeadMessages     int64 `json:"dead_messages"`     // could not be read

	// Loaded is up to which sequence a lane of an earlier version loaded a subject that is this lane's now, as far as
	// that is beyond this block's beginning.
	Loaded map[string]uint64 `json:"loaded,omitempty"`

	// Producers holds the last counter of each producer and partition: before this block, or, once Done, after it.
	Producers map[string]producerState `json:"producers,omitempty"`
}

type producerState struct {
	Seq    uint64 `json:"n"`
	SeenMs int64  `json:"t"` // time of the message on the bus, Unix ms
}

// producerKeepMs is how long a producer that sends nothing is remembered.
const producerKeepMs = 24 * 60 * 60 * 1000

// Ledger reads the position of every lane that has one, by its name.
func Ledger(ctx context.Context, js jetstream.JetStream) (map[string]Position, error) {
	kv, err := js.KeyValue(ctx, schemas.BucketLedger)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", schemas.BucketLedger, err)
	}
	out := map[string]Position{}
	for _, l := range laneSpecs() {
		p, _, err := readPosition(ctx, kv, l.name)
		if err != nil {
			return nil, err
		}
		if p.To > 0 {
			out[l.name] = p
		}
	}
	return out, nil
}

// readPosition gives the zero Position and revision 0 where there is none.
func readPosition(ctx context.Context, kv jetstream.KeyValue, name string) (p Position, rev uint64, err error) {
	e, err := kv.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return p, 0, nil
	}
	if err != nil {
		return p, 0, fmt.Errorf("read ledger key %s: %w", name, err)
	}
	if err := json.Unmarshal(e.Value(), &p); err != nil {
		return p, 0, fmt.Errorf("ledger key %s holds no position: %w", name, err)
	}
	return p, e.Revision(), nil
}
