package publish

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

// openEpoch begins the epoch p.num says, with the tracks configured now. mu is held.
func (p *Publication) openEpoch() error {
	n := p.num
	p.in = p.now
	p.open = &schemas.EpochOpen{
		Version: schemas.ChunkVersion, App: p.req.Key.App, Stream: p.req.Key.Stream, Rendition: schemas.SourceRendition,
		Epoch: n.epoch, DiscontinuitySeq: n.dseq, CDN: p.req.CDN, OpenedUnixUs: time.Now().UnixMicro(),
		Encoder: p.start.encoder, Protocol: p.req.Protocol,
	}
	// What the settings say now holds for the whole epoch: no reader has to know when they changed.
	secret := schemas.SettingsOf(p.req.Key, p.s.apps.Get).Encryption
	if secret != nil {
		p.open.Encrypted = secret.Scheme
	}
	inits := map[string][]byte{}
	for _, t := range []*cut.Track{p.in.video, p.in.audio} {
		if t == nil {
			continue
		}
		if t == p.in.audio && p.in.video != nil {
			t.BesideVideo(p.in.video.Info.PartTargetUs)
		}
		t.Info.FirstMSN = n.firstMSN(t.Info.Track)
		if us, ok := n.targetUs[t.Info.Track]; ok && us > 0 {
			t.Info.PartTargetUs = us
		}
		inits[t.Info.InitID] = t.Init
		p.open.Tracks = append(p.open.Tracks, t.Info)
	}
	c, err := cut.New(cut.Settings{
		App: p.req.Key.App, Stream: p.req.Key.Stream, Rendition: schemas.SourceRendition, CDN: p.req.CDN,
		Epoch: n.epoch, DiscontinuitySeq: n.dseq, Discontinuity: n.continues,
		Video: p.in.video, Audio: p.in.audio, PartUs: p.partUs, GrainUs: p.req.GrainUs,
		Emit: func(ch *schemas.Chunk, data []byte) {
			ch.Encryption = secret
			p.out.push(item{kind: schemas.KindChunk, chunk: ch, data: data})
		},
		Buffer: p.buffer,
	})
	if err != nil {
		return err
	}
	c.SetRoundTrip(p.tripUs)
	p.cutter, p.fixed, p.unclear = c, 0, 0
	p.stats.newEpoch()
	open := *p.open // the outlet has its own copy
	p.out.push(item{kind: schemas.KindEpoch, open: &open, inits: inits})
	return nil
}

// buffer gives a pooled payload; the outlet returns it when the bus has it.
func (p *Publication) buffer(n int) []byte {
	b := *p.s.pool.Get().(*[]byte)
	if cap(b) < n {
		b = make([]byte, 0, n+n/4)
	}
	return b[:0]
}

// reopen ends the epoch and begins the next one. mu is held.
func (p *Publication) reopen(why string) error {
	if !p.jumps.Allow() {
		return Refuse("unsteady", "the stream changes too often: "+why)
	}
	old := p.cutter
	old.Finish()
	next := &numbering{epoch: p.num.epoch + 1, dseq: p.num.dseq, continues: p.num.continues, nextMSN: p.num.nextMSN, targetUs: p.num.targetUs}
	for t, v := range old.NextMSN() {
		next.nextMSN[t] = v
	}
	for _, t := range p.open.Tracks {
		next.targetUs[t.Track] = t.PartTargetUs
	}
	if old.Seq() > 0 {
		next.dseq++
		next.continues = true
	}
	p.num = next
	p.keyless = time.Now()
	p.log.Info("new epoch", "reason", why, "epoch", next.epoch)
	return p.openEpoch()
}

// opened is called when an epoch's opening is on the bus.
func (p *Publication) opened(e *schemas.EpochOpen) {
	p.count.epochs.Inc()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	epoch := strconv.FormatUint(uint64(e.Epoch), 10)
	detail := map[string]string{"epoch": epoch, "protocol": e.Protocol, "encoder": e.Encoder, "peer": p.req.Peer.String()}
	for _, t := range e.Tracks {
		detail[string(t.Track)] = t.Codec
	}
	p.log.Info("epoch opened", "epoch", e.Epoch, "dseq", e.DiscontinuitySeq, "cdn", e.CDN, "encoder", e.Encoder)
	p.s.report.Event(schemas.Event{
		ID: fmt.Sprintf("started/%s/%s", p.req.Key, epoch), Kind: schemas.EventStreamStarted,
		App: p.req.Key.App, Stream: p.req.Key.Stream, CDN: p.req.CDN, Detail: detail,
	})
}

// trapped reports that the bus does not take media; once for each incident.
func (p *Publication) trapped(cause error) {
	p.count.traps.Inc()
	p.log.Error("the bus does not take media: the publisher is held back", "cause", cause.Error())
	p.s.report.Event(schemas.Event{
		Kind: schemas.EventBackPressure, App: p.req.Key.App, Stream: p.req.Key.Stream, CDN: p.req.CDN, Reason: cause.Error(),
		Detail: map[string]string{"protocol": p.req.Protocol},
	})
}
