package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// job pushes one stream to one target.
type job struct {
	p      *Pusher
	target string
	key    schemas.StreamKey
	log    *slog.Logger
	kick   chan struct{} // the state has changed
	last   struct {      // the last chunk that came, sent or not; the loop's alone
		epoch uint32 // 0: none
		seq   uint64
	}

	mu    sync.Mutex
	state schemas.PushState
}

// maxQueued bounds the chunks that wait for the target: about six seconds. What is beyond is left out.
const maxQueued = 32

// healthyAfter is how long media must have flowed for the next pause to be short again.
const healthyAfter = 10 * time.Second

// anewFirst is the pause before a stream that became another is connected again. One
// that does so all the time is given longer ones, for targets refuse who comes too often.
const anewFirst = 200 * time.Millisecond

func (j *job) run(ctx context.Context) error {
	j.state = schemas.PushState{Target: j.target, App: j.key.App, Stream: j.key.Stream, Holder: j.p.id}
	j.phase(schemas.PushWaiting, "")
	var telling sync.WaitGroup
	tctx, stop := context.WithCancel(ctx)
	telling.Go(func() { j.tell(tctx) })
	defer telling.Wait()
	defer stop()

	msgs := make(chan *nats.Msg, maxQueued)
	subject := "chunks." + strings.TrimPrefix(schemas.MediaSubject(j.key, schemas.SourceRendition), "media.")
	sub, err := j.p.JetStream.Conn().ChanSubscribe(subject, msgs)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", j.key, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	pause, anew := j.p.RetryFirst, anewFirst
	for ctx.Err() == nil {
		began := time.Now()
		secret, err := j.connectAndSend(ctx, msgs)
		if time.Since(began) > healthyAfter {
			pause, anew = j.p.RetryFirst, anewFirst
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errAnew):
			j.phase(schemas.PushWaiting, "")
			j.sit(ctx, msgs, anew)
			anew = min(2*anew, j.p.RetryMost)
			continue
		}
		why := withoutSecrets(err.Error(), secret)
		j.phase(schemas.PushBackingOff, why)
		j.p.m.reconnects.WithLabelValues(j.target).Inc()
		j.add(func(s *schemas.PushState) { s.Reconnects++ })
		wait := pause + rand.N(pause/4+1)
		j.log.Warn("push failed, trying again", "why", why, "in", wait)
		if !j.sit(ctx, msgs, wait) {
			return nil
		}
		pause = min(2*pause, j.p.RetryMost)
	}
	return nil
}

// sit lets time pass; frames that come meanwhile are dropped.
func (j *job) sit(ctx context.Context, msgs <-chan *nats.Msg, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case m := <-msgs:
			j.skip(m)
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// skip counts the frames of a message that is not sent.
func (j *job) skip(m *nats.Msg) {
	if m.Header.Get(schemas.HeaderKind) != schemas.KindChunk {
		return
	}
	if c, err := schemas.PeekChunk([]byte(m.Header.Get(schemas.HeaderChunk))); err == nil {
		j.came(c)
		j.drop(frames(c))
	}
}

// maxGap bounds the chunks that are taken for lost at once.
const maxGap = 100_000

// came notes a chunk and counts the frames of those before it that never came:
// while a connection is being made the queue overflows, and the bus drops what is
// beyond without a word. How many frames those had is taken from this one.
func (j *job) came(c *schemas.Chunk) {
	if j.last.epoch == c.Epoch && c.Seq > j.last.seq+1 {
		j.drop(int(min(c.Seq-j.last.seq-1, maxGap)) * frames(c))
	}
	if j.last.epoch != c.Epoch || c.Seq > j.last.seq {
		j.last.epoch, j.last.seq = c.Epoch, c.Seq
	}
}

// frames are those of pictures, or of sound where there are none.
func frames(c *schemas.Chunk) int {
	n := map[schemas.Track]int{}
	for i := range c.Fragments {
		n[c.Fragments[i].Track] += c.Fragments[i].Samples
	}
	if v := n[schemas.Video]; v > 0 {
		return v
	}
	return n[schemas.Audio]
}

func (j *job) drop(n int) {
	j.add(func(s *schemas.PushState) { s.DroppedFrames += int64(n) })
	j.p.m.dropped.WithLabelValues(j.target).Add(float64(n))
}

// withoutSecrets keeps what must not be shown out of a message that others made.
func withoutSecrets(text string, secrets []string) string {
	for _, s := range secrets {
		if len(s) > 0 {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	if len(text) > 300 {
		text = text[:300]
	}
	return strings.ToValidUTF8(text, "")
}

func (j *job) phase(p schemas.PushPhase, reason string) {
	j.mu.Lock()
	if j.state.Phase != p || j.state.Reason != reason {
		j.state.Phase, j.state.Reason, j.state.SinceUnixUs = p, reason, time.Now().UnixMicro()
	}
	j.mu.Unlock()
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

func (j *job) add(f func(*schemas.PushState)) {
	j.mu.Lock()
	f(&j.state)
	j.mu.Unlock()
}

// tell writes the state when it changes and every two seconds, and takes it away at the end.
func (j *job) tell(ctx context.Context) {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	key := schemas.PushStateKey(j.target, j.key)
	for {
		j.mu.Lock()
		j.state.UpdatedUnixUs = time.Now().UnixMicro()
		data, err := json.Marshal(&j.state)
		j.mu.Unlock()
		wctx, cancel := context.WithTimeout(ctx, time.Second)
		if err == nil {
			_, err = j.p.states.Put(wctx, key, data)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			j.log.Debug("state of a push not written", "err", err)
		}
		select {
		case <-j.kick:
		case <-t.C:
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = j.p.states.Delete(end, key) // it runs out by itself
			return
		}
	}
}
