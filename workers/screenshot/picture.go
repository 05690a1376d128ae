package screenshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/screenshot/look"
)

// quality of the JPEGs: about 12 kB at 320 x 180.
const quality = 72

// picture makes the picture of a chunk's key frame. What cannot be pictured is
// told in an event; a stream must not stop for it.
func (h *Handler) picture(ctx context.Context, d *due) ([]workers.Output, error) {
	full := d.m
	if len(full.Data) == 0 {
		var err error
		if full, err = h.src.Chunk(ctx, d.m.Seq); errors.Is(err, ErrGone) {
			return nil, nil // too late
		} else if err != nil {
			return nil, fmt.Errorf("read chunk: %w", err)
		}
	}
	c, err := schemas.DecodeChunk([]byte(full.Header.Get(schemas.HeaderChunk)), full.Data)
	if err != nil {
		return nil, workers.Reject(err)
	}
	if want := schemas.MediaSubject(c.Key(), c.Rendition); full.Subject != want {
		return nil, workers.Reject(fmt.Errorf("chunk %s came on subject %s: its subject is %s", c.ContentID(), full.Subject, want))
	}
	i := keyOf(c)
	if i < 0 {
		return nil, workers.Reject(fmt.Errorf("chunk %s has another header than was announced", c.ContentID()))
	}
	f := &c.Fragments[i]
	init, err := h.src.Init(ctx, f.InitID)
	if errors.Is(err, ErrGone) && d.m.Attempt > 3 {
		return h.failed(c, f, d.interval, "its init segment "+f.InitID+" is not on the bus"), nil
	} else if err != nil {
		return nil, fmt.Errorf("read init segment %s: %w", f.InitID, err)
	}
	img, err := h.s.Decoder.Decode(ctx, init, full.Data[f.Offset:f.Offset+f.Size], d.width)
	switch {
	case errors.Is(err, ErrNoDecoder):
		return h.noDecoder(c, f, err), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("decode key frame: %w", ctx.Err())
	case err != nil:
		h.s.Logger.Warn("no picture", "chunk", c.ContentID(), "err", err)
		h.lost(d.key, time.Now(), errors.Is(err, ErrDecoderLost))
		return h.failed(c, f, d.interval, err.Error()), nil
	}
	h.lost(d.key, time.Now(), false)
	last, err := h.src.Last(ctx, c.Key())
	if err != nil {
		return nil, fmt.Errorf("read the picture before: %w", err)
	}
	if last != nil && d.near(last.WallUnixUs) { // another worker's, which counted in other intervals
		return nil, nil
	}
	p := describe(c, f, img)
	follow(p, last, d.apart)
	return h.output(p, img, d.interval)
}

// describe measures a picture.
func describe(c *schemas.Chunk, f *schemas.Fragment, img *image.YCbCr) *schemas.Picture {
	m, size := look.Of(img), img.Bounds().Size()
	return &schemas.Picture{
		Version: schemas.ChunkVersion, App: c.App, Stream: c.Stream, WallUnixUs: f.WallUnixUs,
		ContentID: c.ContentID(), Width: size.X, Height: size.Y, Epoch: c.Epoch,
		Hash: schemas.PictureHash(m.Hash), Cells: m.Cells[:], Luma: m.Luma, Black: m.Black,
	}
}

// maxGap is after how many intervals (of pictures, or of key frames where those are
// longer) a picture has nothing to do with the one before.
const maxGap = 4

// follow compares a picture with the one before it: how far they are apart, and
// since when nothing has changed, or nothing was to be seen.
func follow(p, last *schemas.Picture, apart time.Duration) {
	p.Distance = -1
	if last == nil || len(last.Cells) == 0 || last.Epoch != p.Epoch || last.WallUnixUs >= p.WallUnixUs ||
		p.WallUnixUs-last.WallUnixUs > maxGap*apart.Microseconds() {
		return
	}
	gapMs := (p.WallUnixUs - last.WallUnixUs) / 1000
	p.Distance, p.Change = look.Distance(uint64(p.Hash), uint64(last.Hash)), look.Change(p.Cells, last.Cells)
	if look.Same(uint64(p.Hash), uint64(last.Hash), p.Cells, last.Cells) {
		p.StillMs = last.StillMs + gapMs
	}
	if look.IsBlack(p.Black) && look.IsBlack(last.Black) {
		p.BlackMs = last.BlackMs + gapMs
	}
}

func (h *Handler) output(p *schemas.Picture, img *image.YCbCr, interval int64) ([]workers.Output, error) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		return nil, workers.Reject(fmt.Errorf("encode picture: %w", err))
	}
	head, err := json.Marshal(p)
	if err != nil {
		return nil, workers.Reject(fmt.Errorf("encode picture header: %w", err))
	}
	h.m.made.Inc()
	return []workers.Output{{
		Subject: schemas.PictureSubject(p.Key()), Data: b.Bytes(),
		Header: nats.Header{schemas.HeaderPicture: {string(head)}},
		MsgID:  "pic/" + p.Key().String() + "/" + strconv.FormatInt(interval, 10),
	}}, nil
}

func (h *Handler) failed(c *schemas.Chunk, f *schemas.Fragment, interval int64, why string) []workers.Output {
	h.m.failed.Inc()
	return event(c, f, "picture_failed/"+c.Key().String()+"/"+strconv.FormatInt(interval, 10), why)
}

// noDecoder says once that pictures cannot be made on this machine.
func (h *Handler) noDecoder(c *schemas.Chunk, f *schemas.Fragment, err error) []workers.Output {
	h.mu.Lock()
	said := h.refused
	h.refused = true
	h.mu.Unlock()
	if said {
		return nil
	}
	h.s.Logger.Error("no pictures will be made by this worker", "err", err)
	return event(c, f, "picture_failed/decoder/"+strconv.FormatInt(f.WallUnixUs/3_600_000_000, 10), err.Error())
}

func event(c *schemas.Chunk, f *schemas.Fragment, id, why string) []workers.Output {
	if len(why) > 512 {
		why = why[:512]
	}
	e := schemas.Event{
		ID: id, TimeUs: f.WallUnixUs, Kind: schemas.EventPictureFailed, App: c.App, Stream: c.Stream, CDN: c.CDN,
		Reason: why, Detail: map[string]string{"chunk": c.ContentID()},
	}
	b, err := schemas.EncodeRecord(&e)
	if err != nil {
		return nil // a chunk with an impossible time
	}
	return []workers.Output{{Subject: schemas.EventSubject(&e), Data: b, MsgID: e.ID}}
}

type metrics struct{ made, failed prometheus.Counter }

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: Role, Name: name, Help: help})
	}
	m := &metrics{
		made:   counter("pictures_total", "Pictures made."),
		failed: counter("pictures_failed_total", "Key frames that no picture could be made of; the event picture_failed says why."),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.made), reg.Register(m.failed))
}
