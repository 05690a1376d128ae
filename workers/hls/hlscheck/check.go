package hlscheck

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Tolerances: playlists have five decimals at most, and Apple's own sample is a
// hair under its rule for PART-HOLD-BACK.
const (
	epsilon    = 0.0005 // seconds
	sumEpsilon = 0.01   // seconds, EXTINF against the sum of its parts
	// DateTimeTolerance is how far EXT-X-PROGRAM-DATE-TIME may be off the time
	// that the durations before it give, within one discontinuity.
	DateTimeTolerance = 250 * time.Millisecond
)

// Checker checks the playlists that one client fetches from one URL, in order.
// The zero value is ready.
type Checker struct {
	// Kind is what the playlists list.
	Kind Kind
	last *Playlist
}

// Last is the last playlist, with delta updates applied; nil before the first.
func (c *Checker) Last() *Playlist { return c.last }

// Add checks the next snapshot and gives what is wrong with it, empty if nothing.
func (c *Checker) Add(text []byte) []string {
	p, err := Parse(text)
	if err != nil {
		return []string{"cannot be read: " + err.Error()}
	}
	v := &violations{p: p, kind: c.Kind, list: p.problems}
	if p.Skipped > 0 && c.Kind.deltas() {
		if !c.apply(v) {
			return v.list
		}
	}
	v.header()
	v.segments()
	if c.Kind == LowLatency {
		v.ends()
	} else {
		v.noParts()
	}
	if c.last != nil {
		v.after(c.last)
	}
	c.last = p
	return v.list
}

// apply puts the segments that a delta update left out back in their place.
func (c *Checker) apply(v *violations) bool {
	p := v.p
	if c.last == nil {
		v.add("a delta update came first: nothing to apply it to")
		return false
	}
	if p.Version < 9 {
		v.add("EXT-X-SKIP needs EXT-X-VERSION 9, not %d", p.Version)
	}
	if p.SkipUntil == 0 {
		v.add("EXT-X-SKIP without CAN-SKIP-UNTIL")
	}
	var skipped []Segment
	for _, s := range c.last.Segments {
		if s.MSN >= p.MediaSequence && s.MSN < p.MediaSequence+uint64(p.Skipped) {
			s.Parts = nil // they are out of reach by now
			skipped = append(skipped, s)
		}
	}
	if len(skipped) != p.Skipped {
		v.add("EXT-X-SKIP skips %d segments from %d, of which the playlist before had %d", p.Skipped, p.MediaSequence, len(skipped))
		return false
	}
	after := 0.0
	for _, s := range p.Segments {
		after += s.length()
	}
	if after < p.SkipUntil-epsilon {
		v.add("skipped segments end %.3f s from the end: the skip boundary is %.3f s", after, p.SkipUntil)
	}
	p.Segments = append(skipped, p.Segments...)
	return true
}

type violations struct {
	p    *Playlist
	kind Kind
	list []string
}

func (v *violations) add(format string, a ...any) { v.list = append(v.list, fmt.Sprintf(format, a...)) }

func (s *Segment) length() float64 {
	if s.URI != "" {
		return s.Duration
	}
	d := 0.0
	for _, p := range s.Parts {
		d += p.Duration
	}
	return d
}

func (v *violations) header() {
	p := v.p
	if least, why := v.kind.version(); p.Version < least {
		v.add("EXT-X-VERSION %d: %s needs %d", p.Version, why, least)
	}
	if p.TargetDuration <= 0 {
		v.add("EXT-X-TARGETDURATION is missing")
	}
	if v.kind.deltas() && !p.CanBlock {
		v.add("CAN-BLOCK-RELOAD=YES is missing")
	}
	if p.IFramesOnly != (v.kind == KeyFrames) {
		v.add("EXT-X-I-FRAMES-ONLY stands in a list of whole segments, or is missing in one of key frames")
	}
	if v.kind == LowLatency {
		if p.PartTarget <= 0 {
			v.add("EXT-X-PART-INF with PART-TARGET is missing")
		}
		if p.PartHoldBack < 3*p.PartTarget-epsilon {
			v.add("PART-HOLD-BACK %.5f is below 3 x PART-TARGET %.5f", p.PartHoldBack, p.PartTarget)
		}
	}
	if p.HoldBack != 0 && p.HoldBack < float64(3*p.TargetDuration)-epsilon {
		v.add("HOLD-BACK %.3f is below 3 x TARGETDURATION %d", p.HoldBack, p.TargetDuration)
	}
	if p.SkipUntil != 0 && p.SkipUntil < float64(6*p.TargetDuration)-epsilon {
		v.add("CAN-SKIP-UNTIL %.3f is below 6 x TARGETDURATION %d", p.SkipUntil, p.TargetDuration)
	}
	if len(p.Segments) == 0 {
		v.add("no segment and no part")
	}
}

func (v *violations) segments() {
	p := v.p
	after := 0.0
	for i := range p.Segments {
		after += p.Segments[i].length()
	}
	uris := map[string]bool{}
	unique := func(uri string) {
		if uris[uri] {
			v.add("URI %s is listed twice", uri)
		}
		uris[uri] = true
	}
	for i := range p.Segments {
		s := &p.Segments[i]
		after -= s.length()
		last := i == len(p.Segments)-1
		if s.URI == "" && (!last || len(s.Parts) == 0) {
			v.add("segment %d has no URI", s.MSN)
		}
		if s.URI != "" {
			unique(s.URI)
			if int(math.Round(s.Duration)) > p.TargetDuration {
				v.add("segment %d lasts %.3f s: over TARGETDURATION %d", s.MSN, s.Duration, p.TargetDuration)
			}
		}
		if (s.Map == "") != (v.kind == TS) {
			v.add("segment %d has the EXT-X-MAP %q: fragments need one, MPEG-TS has none", s.MSN, s.Map)
		}
		v.dateTime(i)
		v.parts(s, unique)
		if v.kind != LowLatency {
			continue
		}
		window := float64(3 * p.TargetDuration)
		if s.URI != "" && len(s.Parts) > 0 && after > window+epsilon {
			v.add("segment %d ends %.3f s from the end and still lists parts", s.MSN, after)
		}
		if s.URI != "" && len(s.Parts) == 0 && after < window-epsilon && i >= p.Skipped {
			v.add("segment %d ends %.3f s from the end and lists no parts", s.MSN, after)
		}
	}
}

func (v *violations) dateTime(i int) {
	s := &v.p.Segments[i]
	if s.DateTime.IsZero() {
		v.add("segment %d has no EXT-X-PROGRAM-DATE-TIME", s.MSN)
		return
	}
	if i == 0 || s.Discontinuity {
		return
	}
	before := &v.p.Segments[i-1]
	want := before.DateTime.Add(time.Duration(before.length() * float64(time.Second)))
	if off := s.DateTime.Sub(want); off.Abs() > DateTimeTolerance {
		v.add("segment %d has a PROGRAM-DATE-TIME %v off the end of the segment before", s.MSN, off)
	}
}

func (v *violations) parts(s *Segment, unique func(string)) {
	sum, all := 0.0, true
	for _, p := range s.Parts {
		sum += p.Duration
		all = all && p.Independent
	}
	for j, part := range s.Parts {
		unique(part.URI)
		if part.Duration > v.p.PartTarget+epsilon {
			v.add("part %s lasts %.5f s: over PART-TARGET %.5f", part.URI, part.Duration, v.p.PartTarget)
		}
		// A part may be short when it is the segment's last (or may be), starts
		// independently, is a gap or stands before one. Where every part is
		// independent, as in audio, that alone excuses nothing.
		lastOne := j == len(s.Parts)-1
		excused := lastOne || part.Gap || s.Parts[j+1].Gap || part.Independent && !all
		if !excused && part.Duration < 0.85*v.p.PartTarget-epsilon {
			v.add("part %s lasts %.5f s: below 85 %% of PART-TARGET %.5f", part.URI, part.Duration, v.p.PartTarget)
		}
		if part.Gap && s.URI != "" && !s.Gap {
			v.add("segment %d has a part that is a gap, but is none itself", s.MSN)
		}
	}
	if s.URI != "" && len(s.Parts) > 0 && math.Abs(sum-s.Duration) > sumEpsilon {
		v.add("segment %d lasts %.5f s, its parts %.5f s", s.MSN, s.Duration, sum)
	}
}

func (v *violations) ends() {
	p := v.p
	if p.EndList {
		if p.Hints+p.MapHints > 0 {
			v.add("EXT-X-PRELOAD-HINT together with EXT-X-ENDLIST")
		}
		return
	}
	if p.Hints != 1 || p.MapHints > 1 {
		v.add("%d preload hints of TYPE=PART and %d of TYPE=MAP: one is expected, and at most one", p.Hints, p.MapHints)
	}
	for i := range p.Segments {
		for _, part := range p.Segments[i].Parts {
			if part.URI == p.Hint {
				v.add("the preload hint names %s, which is listed", p.Hint)
			}
		}
	}
	reported := map[string]bool{}
	for _, r := range p.Reports {
		if reported[r.URI] {
			v.add("%s has two rendition reports", r.URI)
		}
		reported[r.URI] = true
		if r.LastMSN < 0 || r.LastPart < 0 {
			v.add("rendition report of %s lacks LAST-MSN or LAST-PART", r.URI)
		}
		if strings.Contains(r.URI, "://") {
			v.add("rendition report %s is not relative", r.URI)
		}
	}
}

// after checks what may not change from one snapshot to the next.
func (v *violations) after(old *Playlist) {
	p := v.p
	if p.TargetDuration != old.TargetDuration {
		v.add("TARGETDURATION changed from %d to %d", old.TargetDuration, p.TargetDuration)
	}
	if p.PartTarget != old.PartTarget {
		v.add("PART-TARGET changed from %v to %v", old.PartTarget, p.PartTarget)
	}
	if p.HoldBack != old.HoldBack || p.PartHoldBack != old.PartHoldBack || p.SkipUntil != old.SkipUntil || p.CanBlock != old.CanBlock {
		v.add("EXT-X-SERVER-CONTROL changed")
	}
	if old.EndList && !p.EndList {
		v.add("EXT-X-ENDLIST was taken back")
	}
	if p.MediaSequence < old.MediaSequence {
		v.add("MEDIA-SEQUENCE went back from %d to %d", old.MediaSequence, p.MediaSequence)
		return
	}
	v.removed(old)
	v.hinted(old)
	if m, n := old.end(), p.end(); n[0] < m[0] || n[0] == m[0] && n[1] < m[1] {
		v.add("the end went back from segment %d part %d to segment %d part %d", m[0], m[1], n[0], n[1])
	}
	for i := range old.Segments {
		was := &old.Segments[i]
		if was.MSN < p.MediaSequence || len(p.Segments) == 0 || was.MSN-p.MediaSequence >= uint64(len(p.Segments)) {
			continue
		}
		v.same(was, &p.Segments[was.MSN-p.MediaSequence])
	}
	for _, r := range p.Reports {
		for _, o := range old.Reports {
			if o.URI == r.URI && (r.LastMSN < o.LastMSN || r.LastMSN == o.LastMSN && r.LastPart < o.LastPart) {
				v.add("rendition report of %s went back from %d.%d to %d.%d", r.URI, o.LastMSN, o.LastPart, r.LastMSN, r.LastPart)
			}
		}
	}
}

// removed checks what left at the front.
func (v *violations) removed(old *Playlist) {
	p := v.p
	gone := p.MediaSequence - old.MediaSequence
	if gone > uint64(len(old.Segments)) {
		return // the client was away for too long to tell
	}
	tags := uint64(0)
	for _, s := range old.Segments[:gone] {
		if s.Discontinuity {
			tags++
		}
	}
	if want := old.DiscontinuitySeq + tags; p.DiscontinuitySeq != want {
		v.add("DISCONTINUITY-SEQUENCE is %d: %d before, and %d tags left", p.DiscontinuitySeq, old.DiscontinuitySeq, tags)
	}
	if gone > 0 {
		d := 0.0
		for i := range p.Segments {
			d += p.Segments[i].length()
		}
		if v.kind == LowLatency && d < float64(3*p.TargetDuration)-epsilon {
			v.add("segments were removed though only %.3f s are left: 3 x TARGETDURATION must stay", d)
		}
	}
}

// end is the last segment and the number of its parts; a complete one counts as beyond all parts.
func (p *Playlist) end() [2]uint64 {
	if len(p.Segments) == 0 {
		return [2]uint64{}
	}
	s := &p.Segments[len(p.Segments)-1]
	if s.URI != "" {
		return [2]uint64{s.MSN, math.MaxUint32}
	}
	return [2]uint64{s.MSN, uint64(len(s.Parts))}
}

func (v *violations) same(was, is *Segment) {
	if was.URI != "" && (was.URI != is.URI || math.Abs(was.Duration-is.Duration) > epsilon) {
		v.add("segment %d changed from %s (%.5f s) to %s (%.5f s)", was.MSN, was.URI, was.Duration, is.URI, is.Duration)
	}
	if was.Gap && !is.Gap {
		v.add("segment %d was a gap and is none", was.MSN)
	}
	if was.Map != is.Map || was.Discontinuity != is.Discontinuity || !was.DateTime.Equal(is.DateTime) {
		v.add("segment %d changed its EXT-X-MAP, EXT-X-DISCONTINUITY or EXT-X-PROGRAM-DATE-TIME", was.MSN)
	}
	if len(is.Parts) == 0 {
		return // removed
	}
	if len(is.Parts) < len(was.Parts) {
		v.add("segment %d had %d parts and has %d", was.MSN, len(was.Parts), len(is.Parts))
		return
	}
	for j := range was.Parts {
		if was.Parts[j] != is.Parts[j] {
			v.add("part %s changed to %+v", was.Parts[j].URI, is.Parts[j])
		}
	}
	if was.URI != "" && len(was.Parts) > 0 && len(is.Parts) != len(was.Parts) {
		v.add("segment %d was complete with %d parts and has %d", was.MSN, len(was.Parts), len(is.Parts))
	}
}
