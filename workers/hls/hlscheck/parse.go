// Package hlscheck tells whether low-latency media playlists keep the rules of
// draft-pantos-hls-rfc8216bis-22 and, where they are stricter, Apple's authoring
// rules: each playlist in itself and each against the one fetched before it,
// delta updates included.
//
// It promises to name the rule and the place of every violation it finds. It
// has its own reader, independent of package hls, and leaves out what a
// playlist alone cannot show: timing, caching and the media.
package hlscheck

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Playlist is a media playlist as read.
type Playlist struct {
	Version, TargetDuration           int
	MediaSequence, DiscontinuitySeq   uint64
	CanBlock                          bool
	PartHoldBack, HoldBack, SkipUntil float64 // seconds; 0 when absent
	PartTarget                        float64
	Skipped                           int
	Segments                          []Segment
	IFramesOnly                       bool
	Hint                              string // URI of TYPE=PART
	Hints, MapHints                   int    // EXT-X-PRELOAD-HINT of TYPE=PART, of TYPE=MAP
	Reports                           []Report
	EndList                           bool
	problems                          []string // found while reading
}

// Segment is one segment; the last may be incomplete (URI empty).
type Segment struct {
	MSN           uint64
	URI, Map      string
	Duration      float64
	DateTime      time.Time
	Discontinuity bool
	Gap           bool
	Parts         []Part
}

// Part is one EXT-X-PART.
type Part struct {
	URI              string
	Duration         float64
	Independent, Gap bool
}

// Report is one EXT-X-RENDITION-REPORT.
type Report struct {
	URI      string
	LastMSN  int64 // -1 when absent
	LastPart int64 // -1 when absent
}

// Parse reads a playlist.
func Parse(text []byte) (*Playlist, error) {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if lines[0] != "#EXTM3U" {
		return nil, errors.New("the first line is not #EXTM3U")
	}
	r := reader{p: &Playlist{MediaSequence: 0}, seen: map[string]int{}}
	for i, line := range lines[1:] {
		if err := r.line(strings.TrimSuffix(line, "\r")); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
	}
	if r.begun() {
		r.flush()
	}
	return r.p, nil
}

type reader struct {
	p       *Playlist
	cur     Segment
	touched bool // cur has tags
	extinf  bool
	mapURI  string
	msn     uint64
	seen    map[string]int
}

func (r *reader) begun() bool { return len(r.cur.Parts) > 0 || r.touched }

func (r *reader) flush() {
	r.cur.MSN, r.cur.Map = r.p.MediaSequence+uint64(r.p.Skipped)+r.msn, r.mapURI
	r.msn++
	r.p.Segments = append(r.p.Segments, r.cur)
	r.cur, r.touched, r.extinf = Segment{}, false, false
}

func (r *reader) problem(format string, a ...any) {
	r.p.problems = append(r.p.problems, fmt.Sprintf(format, a...))
}

func (r *reader) line(line string) error {
	if line == "" {
		return nil
	}
	if line[0] != '#' {
		if !r.extinf {
			return fmt.Errorf("URI %q without EXTINF", line)
		}
		r.cur.URI = line
		r.flush()
		return nil
	}
	tag, value, _ := strings.Cut(line, ":")
	r.seen[tag]++
	switch tag {
	case "#EXT-X-VERSION", "#EXT-X-I-FRAMES-ONLY", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY-SEQUENCE",
		"#EXT-X-SERVER-CONTROL", "#EXT-X-PART-INF", "#EXT-X-SKIP", "#EXT-X-ENDLIST":
		if r.seen[tag] > 1 {
			r.problem("%s appears twice", tag)
		}
		if tag != "#EXT-X-ENDLIST" && (len(r.p.Segments) > 0 || r.begun()) {
			r.problem("%s comes after the first segment", tag)
		}
		return r.header(tag, value)
	}
	return r.segmentTag(tag, value)
}

func (r *reader) header(tag, value string) (err error) {
	p := r.p
	switch tag {
	case "#EXT-X-VERSION":
		p.Version, err = strconv.Atoi(value)
	case "#EXT-X-TARGETDURATION":
		p.TargetDuration, err = strconv.Atoi(value)
	case "#EXT-X-MEDIA-SEQUENCE":
		p.MediaSequence, err = strconv.ParseUint(value, 10, 64)
	case "#EXT-X-DISCONTINUITY-SEQUENCE":
		p.DiscontinuitySeq, err = strconv.ParseUint(value, 10, 64)
	case "#EXT-X-ENDLIST":
		p.EndList = true
	case "#EXT-X-I-FRAMES-ONLY":
		p.IFramesOnly = true
	default:
		var a map[string]string
		if a, err = Attributes(value); err != nil {
			return err
		}
		num := func(k string) float64 {
			if a[k] == "" {
				return 0
			}
			f, e := strconv.ParseFloat(a[k], 64)
			err = errors.Join(err, e)
			return f
		}
		switch tag {
		case "#EXT-X-SERVER-CONTROL":
			p.CanBlock = a["CAN-BLOCK-RELOAD"] == "YES"
			p.PartHoldBack, p.HoldBack, p.SkipUntil = num("PART-HOLD-BACK"), num("HOLD-BACK"), num("CAN-SKIP-UNTIL")
		case "#EXT-X-PART-INF":
			p.PartTarget = num("PART-TARGET")
		case "#EXT-X-SKIP":
			p.Skipped = int(num("SKIPPED-SEGMENTS"))
			if p.Skipped < 1 {
				r.problem("EXT-X-SKIP skips %d segments", p.Skipped)
			}
		}
	}
	return err
}

func (r *reader) segmentTag(tag, value string) error {
	early := func() {
		if len(r.cur.Parts) > 0 || r.extinf {
			r.problem("%s comes after the first part of its segment", tag)
		}
		r.touched = true
	}
	if len(r.p.Reports)+r.p.Hints+r.p.MapHints > 0 && tag != "#EXT-X-RENDITION-REPORT" && tag != "#EXT-X-PRELOAD-HINT" {
		r.problem("%s comes after the preload hint or a rendition report", tag)
	}
	switch tag {
	case "#EXTINF":
		d, _, _ := strings.Cut(value, ",")
		f, err := strconv.ParseFloat(d, 64)
		if err != nil {
			return err
		}
		r.cur.Duration, r.extinf, r.touched = f, true, true
	case "#EXT-X-DISCONTINUITY":
		early()
		r.cur.Discontinuity = true
	case "#EXT-X-KEY":
		early()
	case "#EXT-X-GAP":
		r.cur.Gap, r.touched = true, true
	case "#EXT-X-PROGRAM-DATE-TIME":
		early()
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return err
		}
		r.cur.DateTime = t
	case "#EXT-X-MAP", "#EXT-X-PART", "#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT":
		a, err := Attributes(value)
		if err != nil {
			return err
		}
		if a["URI"] == "" {
			return fmt.Errorf("%s without URI", tag)
		}
		return r.withURI(tag, a, early)
	}
	return nil
}

func (r *reader) withURI(tag string, a map[string]string, early func()) error {
	switch tag {
	case "#EXT-X-MAP":
		early()
		r.mapURI = a["URI"]
	case "#EXT-X-PART":
		f, err := strconv.ParseFloat(a["DURATION"], 64)
		if err != nil {
			return err
		}
		if r.extinf {
			r.problem("part %s comes after EXTINF", a["URI"])
		}
		r.cur.Parts = append(r.cur.Parts, Part{URI: a["URI"], Duration: f, Independent: a["INDEPENDENT"] == "YES", Gap: a["GAP"] == "YES"})
	case "#EXT-X-PRELOAD-HINT":
		switch a["TYPE"] {
		case "PART":
			r.p.Hints++
			r.p.Hint = a["URI"]
		case "MAP":
			r.p.MapHints++
		default:
			r.problem("preload hint of TYPE=%s: PART or MAP is expected", a["TYPE"])
		}
	case "#EXT-X-RENDITION-REPORT":
		rep := Report{URI: a["URI"], LastMSN: -1, LastPart: -1}
		for k, v := range map[string]*int64{"LAST-MSN": &rep.LastMSN, "LAST-PART": &rep.LastPart} {
			if a[k] != "" {
				n, err := strconv.ParseInt(a[k], 10, 64)
				if err != nil {
					return err
				}
				*v = n
			}
		}
		r.p.Reports = append(r.p.Reports, rep)
	}
	return nil
}

// Attributes reads an attribute list; quotes are removed.
func Attributes(s string) (map[string]string, error) {
	a := map[string]string{}
	for s != "" {
		k, rest, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("attribute list ends in %q", s)
		}
		var v string
		if strings.HasPrefix(rest, `"`) {
			if v, rest, ok = strings.Cut(rest[1:], `"`); !ok {
				return nil, fmt.Errorf("attribute %s: no closing quote", k)
			}
			if rest != "" && rest[0] != ',' {
				return nil, fmt.Errorf("attribute %s: %q after the quote", k, rest)
			}
			s = strings.TrimPrefix(rest, ",")
		} else {
			v, s, _ = strings.Cut(rest, ",")
		}
		if _, twice := a[k]; twice {
			return nil, fmt.Errorf("attribute %s appears twice", k)
		}
		a[k] = v
	}
	return a, nil
}
