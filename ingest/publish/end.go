package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// End publishes what is held and tells state, log and event of the end. It must be
// called once for every publication, and waits for the bus: as long as a write
// would, at shutdown two seconds.
//
// cause says why: [ErrEnded] where the publisher said that it is done (then the
// stream's end is written to the bus), a [*Refused], or any error whose text is the
// reason, such as a lost connection. Where the publication was stopped before, that
// cause holds instead. End gives the one that holds, to be told to the peer.
func (p *Publication) End(cause error) error {
	p.once.Do(func() {
		defer func() { // even after a panic in what a publisher made of us
			p.abandon()
			close(p.ended)
			p.s.leave(p)
		}()
		p.stop(cause)
		p.unwatch()
		p.waiting.Stop()
		p.finish(p.Err())
	})
	return p.Err()
}

func (p *Publication) finish(cause error) {
	p.mu.Lock()
	p.over = true
	p.timer.Stop()
	var epoch uint32
	if p.cutter != nil {
		p.cutter.Finish()
		epoch = p.open.Epoch
	}
	p.mu.Unlock()
	reason := cause.Error()
	if p.out != nil {
		p.close(cause, epoch)
		p.log.Info("publisher left", "reason", reason, "epoch", epoch, "seconds", int(time.Since(p.begun).Seconds()))
		p.tellEnd(reason, epoch)
		p.settle(reason)
	} else {
		p.log.Info("publisher left before media began", "reason", reason)
	}
	var r *Refused
	if errors.As(cause, &r) {
		p.s.Refuse(p.req, r, false)
	}
}

// close publishes what the cutter gave, and the stream's end where the publisher said so.
func (p *Publication) close(cause error, epoch uint32) {
	if errors.Is(cause, ErrEnded) {
		if data, err := json.Marshal(&endMark{Epoch: epoch, Reason: cause.Error()}); err == nil {
			p.out.push(item{kind: schemas.KindEnd, data: data})
		}
	}
	p.out.close()
	<-p.out.done
	<-p.kept
	p.s.release(p)
}

func (p *Publication) tellEnd(reason string, epoch uint32) {
	n := strconv.FormatUint(uint64(epoch), 10)
	p.s.report.Event(schemas.Event{
		ID: fmt.Sprintf("ended/%s/%s", p.req.Key, n), Kind: schemas.EventStreamEnded,
		App: p.req.Key.App, Stream: p.req.Key.Stream, CDN: p.req.CDN, Reason: reason,
		Detail: map[string]string{"epoch": n, "protocol": p.req.Protocol},
	})
}

// settle writes the last position and state, unless the stream is another's now.
func (p *Publication) settle(reason string) {
	if p.taken.Load() || p.s.replaced(p) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := p.out.savePosition(ctx); err != nil {
		p.log.Warn("position not saved", "err", err)
	}
	p.putState(ctx, false, reason)
}
