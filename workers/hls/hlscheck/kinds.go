package hlscheck

import (
	"fmt"
	"path"
	"slices"
)

// Kind is what a playlist lists.
type Kind int

// Kinds of playlists.
const (
	// LowLatency lists segments and their parts (EXT-X-PART-INF).
	LowLatency Kind = iota
	// Whole lists segments alone, with blocking reload and delta updates.
	Whole
	// TS lists segments of MPEG-TS, for players that know no more than version 3.
	TS
	// KeyFrames lists key frames (EXT-X-I-FRAMES-ONLY).
	KeyFrames
)

// deltas reports whether such playlists have EXT-X-SERVER-CONTROL.
func (k Kind) deltas() bool { return k == LowLatency || k == Whole }

// version is the least EXT-X-VERSION, and why (RFC 8216bis, section 8).
func (k Kind) version() (least int, why string) {
	switch k {
	case TS:
		return 3, "a duration with decimals"
	case KeyFrames:
		return 5, "EXT-X-MAP among key frames"
	}
	return 6, "EXT-X-MAP"
}

// noParts checks that nothing of low latency stands where whole segments are listed.
func (v *violations) noParts() {
	p := v.p
	if v.kind == TS && p.Version != 3 {
		v.add("EXT-X-VERSION %d: MPEG-TS is for players that know no more than 3", p.Version)
	}
	if !v.kind.deltas() && (p.Skipped > 0 || p.CanBlock || p.HoldBack != 0 || p.SkipUntil != 0) {
		v.add("EXT-X-SERVER-CONTROL or EXT-X-SKIP in a playlist without them")
	}
	if p.PartTarget != 0 || p.PartHoldBack != 0 || p.Hints+p.MapHints > 0 || len(p.Reports) > 0 {
		v.add("EXT-X-PART-INF, PART-HOLD-BACK, a preload hint or a rendition report in a playlist without parts")
	}
	for i := range p.Segments {
		if s := &p.Segments[i]; len(s.Parts) > 0 || s.URI == "" {
			v.add("segment %d lists parts, or no URI", s.MSN)
		}
	}
}

// hinted checks that what comes after the old playlist's end is what it announced.
// The plan may change where the publisher does: behind a discontinuity, and where a
// segment ends before the part that was announced for it, at an early key frame.
func (v *violations) hinted(old *Playlist) {
	if v.kind != LowLatency || old.Hint == "" || len(old.Segments) == 0 {
		return
	}
	end := old.end()
	for i := range v.p.Segments {
		s := &v.p.Segments[i]
		if s.MSN < end[0] || s.MSN == end[0] && uint64(len(s.Parts)) <= end[1] {
			continue
		}
		j := 0
		if s.MSN == end[0] {
			j = int(end[1])
		}
		if len(s.Parts) > j && s.Parts[j].URI != old.Hint && !s.Discontinuity && (j > 0 || s.MSN == end[0]) {
			v.add("%s was hinted, and %s came", old.Hint, s.Parts[j].URI)
		}
		return
	}
}

// partsAfter counts the parts listed behind the reported one; many where it is not listed.
func (p *Playlist) partsAfter(r Report) int {
	n := 0
	for i := len(p.Segments) - 1; i >= 0; i-- {
		s := &p.Segments[i]
		if int64(s.MSN) == r.LastMSN && r.LastPart >= 0 && r.LastPart < int64(len(s.Parts)) {
			return n + len(s.Parts) - 1 - int(r.LastPart)
		}
		n += len(s.Parts)
	}
	return ReportLag + n + 1
}

// Same tells in what the playlist that delta updates have given differs from the
// whole one of the same version.
func (c *Checker) Same(whole []byte) []string {
	w, err := Parse(whole)
	if err != nil {
		return []string{"cannot be read: " + err.Error()}
	}
	var out []string
	p := c.last
	if p == nil || len(p.Segments) != len(w.Segments) || p.MediaSequence != w.MediaSequence || p.DiscontinuitySeq != w.DiscontinuitySeq || p.Hint != w.Hint {
		return []string{"the delta update gives other segments than the whole playlist has"}
	}
	for i := range w.Segments {
		a, b := &p.Segments[i], &w.Segments[i]
		if a.MSN != b.MSN || a.URI != b.URI || a.Map != b.Map || a.Duration != b.Duration || !a.DateTime.Equal(b.DateTime) ||
			a.Discontinuity != b.Discontinuity || a.Gap != b.Gap || !slices.Equal(a.Parts, b.Parts) {
			out = append(out, fmt.Sprintf("the delta update gives segment %d as %+v, the whole playlist has %+v", b.MSN, *a, *b))
		}
	}
	return out
}

// ReportLag is by how many parts a rendition report may be behind the playlist it
// is about: reports are as old as the playlist that they stand in.
const ReportLag = 2

// Reports checks the rendition reports of the playlist at path name against the
// stream's other playlists, by path, which were fetched when nothing came any
// more: one for each, none for itself, each of a part that is listed at that
// playlist's end or at most [ReportLag] parts before.
func Reports(name string, playlists map[string]*Playlist) []string {
	var out []string
	of := map[string]Report{}
	for _, r := range playlists[name].Reports {
		to := path.Join(path.Dir(name), r.URI)
		if of[to] = r; playlists[to] == nil || to == name {
			out = append(out, fmt.Sprintf("%s reports of %s, which is none of the other playlists", name, to))
		}
	}
	for other, p := range playlists {
		if other == name {
			continue
		}
		r, ok := of[other]
		if !ok {
			out = append(out, fmt.Sprintf("%s has no rendition report of %s", name, other))
			continue
		}
		s := &p.Segments[len(p.Segments)-1]
		if p.partsAfter(r) > ReportLag {
			out = append(out, fmt.Sprintf("%s reports %d.%d of %s, which ends in %d.%d", name, r.LastMSN, r.LastPart, other, s.MSN, len(s.Parts)-1))
		}
	}
	return out
}
