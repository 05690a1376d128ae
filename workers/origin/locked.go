package origin

import (
	"errors"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cenc"
	"github.com/spillway-live/spillway/workers/packager"
)

// lockedPart is a fragment that is to be encrypted and cannot be yet.
type lockedPart struct {
	c    *schemas.Chunk
	data []byte
	i    int
	at   time.Time
	why  error
}

// maxLocked bounds the parts that wait for a key; the oldest become gaps.
const maxLocked = 2048

// keyPatience is how long a playlist waits for a key before it is refused with the reason.
const keyPatience = 2 * time.Second

// seal packages a fragment encrypted, or puts it by until there is a key. It is
// never offered clear. The lock is held.
func (f *feed) seal(c *schemas.Chunk, data []byte, i int) {
	err := f.trySeal(c, data, i)
	if err == nil {
		return
	}
	for len(f.locked) >= maxLocked {
		l := f.locked[0]
		f.locked = f.locked[1:]
		f.gap(l.c, &l.c.Fragments[l.i])
	}
	f.locked = append(f.locked, lockedPart{c, data, i, time.Now(), err})
}

// trySeal fails where there is no key; what can never be encrypted becomes a gap.
func (f *feed) trySeal(c *schemas.Chunk, data []byte, i int) error {
	t, err := f.o.sealer.Track(c, i)
	if err != nil {
		return err
	}
	p, b, err := packager.Sealed(c, data, i, t)
	if err != nil {
		f.o.m.lost.Inc()
		f.o.Logger.Warn("part cannot be encrypted; it is listed as a gap", "chunk", c.ContentID(), "fragment", i, "err", err)
		f.gap(c, &c.Fragments[i])
		return nil
	}
	f.offer(&p, b, false)
	return nil
}

// unlock tries what waits again, each stream's tracks in order. The lock is held.
func (f *feed) unlock() {
	if len(f.locked) == 0 {
		return
	}
	keep := f.locked[:0]
	for _, l := range f.locked {
		if err := f.trySeal(l.c, l.data, l.i); err != nil {
			l.why = err
			keep = append(keep, l)
		}
	}
	clear(f.locked[len(keep):])
	f.locked = keep
}

// lockedFor says why the playlist of a track cannot go on for want of a key;
// empty: it can, or has waited too short a time to tell. The lock is held.
func (f *feed) lockedFor(t target) string {
	for i := range f.locked {
		l := &f.locked[i]
		if l.c.Rendition != t.rendition || l.c.Fragments[l.i].Track != t.track {
			continue
		}
		if time.Since(l.at) < keyPatience && !errors.Is(l.why, cenc.ErrUnsupported) {
			return ""
		}
		return "the stream is encrypted and cannot be packaged: " + l.why.Error()
	}
	return ""
}
