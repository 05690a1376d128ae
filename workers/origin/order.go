package origin

import "time"

// maxPending bounds parts that wait for an earlier one: a segment of single frames.
const maxPending = 256

// expect notes that MEDIA holds a chunk with this part. It reports whether the
// part is still to come.
func (t *track) expect(id partID, start bool, chunk string) bool {
	if id.epoch < t.mediaEpoch || !t.begun && !start && len(t.waiting) == 0 {
		return false
	}
	t.mediaEpoch = id.epoch
	if t.announced == (partID{}) {
		t.announcedFrom = id
	}
	if id.after(t.announced) {
		t.announced = id
	}
	if t.has(id) {
		return false
	}
	t.waiting[id] = chunk
	return true
}

// has reports whether a part is here, or too late to be of use.
func (t *track) has(id partID) bool {
	if _, ok := t.pending[id]; ok {
		return true
	}
	return t.begun && !id.after(t.last)
}

// sawEpoch notes that an epoch was opened on MEDIA: lower ones have ended.
func (t *track) sawEpoch(epoch uint32, now time.Time) {
	t.mediaEpoch = max(t.mediaEpoch, epoch)
	t.advance(now)
}

// sawEnd notes that the publisher left: nothing follows in this epoch.
func (t *track) sawEnd(epoch uint32, now time.Time) {
	was := t.over()
	t.ended = max(t.ended, epoch)
	t.advance(now)
	if !was && t.over() {
		t.announce()
	}
}

// offer takes a part that arrived, in whatever order.
func (t *track) offer(p *piece, now time.Time) {
	_, expected := t.waiting[p.id]
	delete(t.waiting, p.id)
	switch {
	case t.has(p.id):
	case p.id.epoch < t.mediaEpoch && !expected && t.begun:
		// A publisher that lost the stream and does not know it.
	case len(t.pending) >= maxPending && !t.makeRoom(p.id):
	default:
		t.pending[p.id] = p
	}
	t.advance(now)
}

// makeRoom drops the latest pending part if id comes before it. Before the
// first segment start everything goes: nothing can be shown without it.
func (t *track) makeRoom(id partID) bool {
	if !t.begun {
		clear(t.pending)
		return true
	}
	var latest partID
	for k := range t.pending {
		if k.after(latest) {
			latest = k
		}
	}
	if !latest.after(id) {
		return false
	}
	delete(t.pending, latest)
	return true
}

// next is the part that would follow the last one.
func (t *track) next() partID {
	if t.closed {
		return partID{t.last.epoch, t.last.msn + 1, 0}
	}
	return partID{t.last.epoch, t.last.msn, t.last.part + 1}
}

// How long a hole holds up what came after it.
const (
	epochPatience = time.Second     // MEDIA has not confirmed that the lower epoch is complete
	holePatience  = 3 * time.Second // a part never came and MEDIA cannot say why
)

// advance appends every pending part that is in turn.
func (t *track) advance(now time.Time) {
	appended := false
	for t.step(now) {
		appended = true
		t.stalledSince = time.Time{}
	}
	if t.ended >= t.last.epoch && t.begun && !t.closed && !t.outstanding(t.last.epoch+1) {
		t.close()
		appended = true
	}
	if len(t.pending) == 0 {
		t.stalledSince = time.Time{}
	} else if t.stalledSince.IsZero() {
		t.stalledSince = now
	}
	if appended {
		t.trim()
		t.announce()
	}
}

// announce wakes those who wait: the playlist changed.
func (t *track) announce() {
	t.full, t.delta, t.fullBefore, t.deltaBefore = nil, nil, nil, nil
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *track) step(now time.Time) bool {
	if len(t.pending) == 0 {
		return false
	}
	if t.begun {
		if p, ok := t.pending[t.next()]; ok {
			t.append(p, now)
			return true
		}
	}
	// The first segment start beyond the last part.
	var start *piece
	for _, p := range t.pending {
		if p.h.SegmentStart && (start == nil || start.id.after(p.id)) {
			start = p
		}
	}
	if start == nil {
		return false
	}
	if t.begun && t.holdBack(start, now) || !t.begun && t.outstandingBefore(start.id) && !t.stalledFor(holePatience, now) {
		return false
	}
	if t.begun {
		t.close()
		if start.id.msn != t.last.msn+1 {
			t.segs, t.first, t.oldest = nil, 0, 0 // numbers must be consecutive: start again
		}
	}
	t.append(start, now)
	return true
}

// holdBack reports whether a segment start that is not the next part has to
// wait for what is missing before it.
func (t *track) holdBack(start *piece, now time.Time) bool {
	switch {
	case t.outstandingBefore(start.id):
		return !t.stalledFor(holePatience, now)
	case start.id.epoch == t.last.epoch:
		// Ingest may send a segment's last part before it knows that it is the last
		// (the next frame was late). MEDIA tells it: nothing lies between.
		return !t.announcedBetween(start.id) && !t.stalledFor(holePatience, now)
	case t.mediaEpoch < start.id.epoch:
		return !t.stalledFor(epochPatience, now)
	default: // a new epoch, and all of the last one is here
		return false
	}
}

// announcedBetween reports whether MEDIA has announced all there is from the last part to this one.
func (t *track) announcedBetween(id partID) bool {
	return t.announced != (partID{}) && !t.announcedFrom.after(t.last) && !id.after(t.announced)
}

func (t *track) stalledFor(d time.Duration, now time.Time) bool {
	return !t.stalledSince.IsZero() && now.Sub(t.stalledSince) >= d
}

// outstanding reports whether a part of an epoch below this one is still to come.
func (t *track) outstanding(epoch uint32) bool {
	return t.outstandingBefore(partID{epoch: epoch})
}

func (t *track) outstandingBefore(id partID) bool {
	for k := range t.waiting {
		if id.after(k) {
			return true
		}
	}
	return false
}
