package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// known are init segments that are in this region, and when they were written.
type known struct {
	mu sync.Mutex
	at map[string]time.Time
}

// initAgain is when an init segment is written again: the bucket forgets what is a week old.
const initAgain = 24 * time.Hour

func (k *known) has(id string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.at[id]
	return ok && now.Sub(at) < initAgain
}

func (k *known) note(id string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.at) >= 16384 {
		clear(k.at)
	}
	if k.at == nil {
		k.at = map[string]time.Time{}
	}
	k.at[id] = now
}

// haveInit brings an init segment from a neighbour, if it was not brought before.
func (n *node) haveInit(ctx context.Context, region, id string) error {
	if n.known.has(id, time.Now()) {
		return nil
	}
	rctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	subject := "$JS." + region + ".API.DIRECT.GET.KV_" + schemas.BucketInits + ".$KV." + schemas.BucketInits + "." + id
	m, err := n.Conn.RequestWithContext(rctx, subject, nil)
	if err == nil && m.Header.Get("Status") != "" {
		err = errors.New(m.Header.Get("Description"))
	}
	if err == nil && schemas.InitID(m.Data) != id {
		err = errors.New("it is damaged")
	}
	if err != nil {
		return fmt.Errorf("get init segment %s from %s: %w", id, region, err)
	}
	if _, err := n.inits.Put(ctx, id, m.Data); err != nil {
		return fmt.Errorf("write init segment %s: %w", id, err)
	}
	n.known.note(id, time.Now())
	return nil
}
