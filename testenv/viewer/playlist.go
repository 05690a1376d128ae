package viewer

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxLines bounds the lines of a playlist that are read.
const maxLines = 20_000

// multivariant is what a viewer needs of a multivariant playlist.
type multivariant struct {
	steeringURI string
	first       string // pathway to start with
	order       []string
	paths       map[string]*pathway
}

// pathway is the first variant of one pathway: a simulated viewer does not adapt.
type pathway struct {
	id           string
	host         string
	video, audio string // absolute playlist URLs; one may be empty
	kbps         int64  // average bitrate, or else the peak
	// STABLE-VARIANT-ID and STABLE-RENDITION-ID, by which clones name them.
	stableVideo, stableAudio string
}

// parseMultivariant is tolerant: unknown lines are passed over.
func parseMultivariant(text string, base *url.URL) (*multivariant, error) {
	if !strings.HasPrefix(text, "#EXTM3U") {
		return nil, errors.New("not a playlist: it does not start with #EXTM3U")
	}
	m := &multivariant{paths: map[string]*pathway{}}
	groups, stable := map[string]string{}, map[string]string{}
	var variants []map[string]string
	var uris []string
	var pending map[string]string
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxLines {
			return nil, fmt.Errorf("more than %d lines", maxLines)
		}
		line = strings.TrimSpace(line)
		tag, value, _ := strings.Cut(line, ":")
		switch {
		case tag == "#EXT-X-CONTENT-STEERING":
			a := attributes(value)
			m.steeringURI, m.first = resolve(base, a["SERVER-URI"]), a["PATHWAY-ID"]
		case tag == "#EXT-X-MEDIA":
			if a := attributes(value); a["TYPE"] == "AUDIO" && a["URI"] != "" {
				groups[a["GROUP-ID"]], stable[a["GROUP-ID"]] = resolve(base, a["URI"]), a["STABLE-RENDITION-ID"]
			}
		case tag == "#EXT-X-STREAM-INF":
			pending = attributes(value)
		case line == "" || strings.HasPrefix(line, "#"):
		case pending != nil:
			variants, uris, pending = append(variants, pending), append(uris, resolve(base, line)), nil
		}
	}
	for i, a := range variants {
		id := a["PATHWAY-ID"]
		if id == "" {
			id = "."
		}
		if m.paths[id] != nil {
			continue
		}
		p := &pathway{id: id, audio: groups[a["AUDIO"]], stableVideo: a["STABLE-VARIANT-ID"], stableAudio: stable[a["AUDIO"]]}
		if a["RESOLUTION"] == "" && p.audio == "" && !strings.Contains(a["CODECS"], "avc") && !strings.Contains(a["CODECS"], "hvc") {
			p.audio = uris[i]
		} else {
			p.video = uris[i]
		}
		u, err := url.Parse(uris[i])
		if err != nil {
			return nil, fmt.Errorf("variant address: %w", err)
		}
		p.host = u.Host
		bps, _ := strconv.ParseInt(a["AVERAGE-BANDWIDTH"], 10, 64)
		if bps == 0 {
			bps, _ = strconv.ParseInt(a["BANDWIDTH"], 10, 64)
		}
		p.kbps = bps / 1000
		m.paths[id] = p
		m.order = append(m.order, id)
	}
	if len(m.order) == 0 {
		return nil, errors.New("the multivariant playlist has no variant")
	}
	if m.paths[m.first] == nil {
		m.first = m.order[0]
	}
	return m, nil
}

// media is a media playlist.
type media struct {
	base               *url.URL // that addresses are relative to
	target, partTarget time.Duration
	holdBack, partHold time.Duration
	canBlock, ended    bool
	segments           []segment
	skipped            int
	lastMSN            int64
	partsOfLast        int // parts of the last segment, if it is incomplete; otherwise 0
	lastComplete       bool
	edge               time.Time // program date time at the end
}

type segment struct {
	msn      int64
	uri      string // as listed; empty while incomplete
	at       time.Time
	dur      time.Duration
	parts    []part
	complete bool
}

type part struct {
	uri         string
	dur         time.Duration
	independent bool
	gap         bool
}

// parseMedia reads a media playlist; without parts it only adds up how long those
// of the segment that is not complete are. Addresses stay as they are listed: of
// hundreds one is asked for.
func parseMedia(text string, base *url.URL, parts bool) (*media, error) {
	if !strings.HasPrefix(text, "#EXTM3U") {
		return nil, errors.New("not a playlist: it does not start with #EXTM3U")
	}
	m := &media{base: base}
	var cur segment
	listed := 0         // parts of cur
	var clock time.Time // program date time of the next segment, if known
	var extinf time.Duration
	msn := int64(0)
	n := 0
	for line := range strings.Lines(text) {
		if n++; n > maxLines {
			return nil, fmt.Errorf("more than %d lines", maxLines)
		}
		line = strings.TrimSpace(line)
		tag, value, _ := strings.Cut(line, ":")
		switch tag {
		case "#EXT-X-TARGETDURATION":
			m.target = seconds(value)
		case "#EXT-X-MEDIA-SEQUENCE":
			msn, _ = strconv.ParseInt(value, 10, 64)
		case "#EXT-X-PART-INF":
			m.partTarget = seconds(attribute(value, "PART-TARGET"))
		case "#EXT-X-SERVER-CONTROL":
			a := attributes(value)
			m.canBlock = a["CAN-BLOCK-RELOAD"] == "YES"
			m.holdBack, m.partHold = seconds(a["HOLD-BACK"]), seconds(a["PART-HOLD-BACK"])
		case "#EXT-X-SKIP":
			k, _ := strconv.ParseInt(attribute(value, "SKIPPED-SEGMENTS"), 10, 32)
			m.skipped, msn = int(k), msn+k
		case "#EXT-X-PROGRAM-DATE-TIME":
			if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
				clock = t
			}
		case "#EXT-X-PART":
			listed++
			if !parts {
				cur.dur += seconds(attribute(value, "DURATION"))
				continue
			}
			var p part
			eachAttribute(value, func(name, v string) {
				switch name {
				case "URI":
					p.uri = v
				case "DURATION":
					p.dur = seconds(v)
				case "INDEPENDENT":
					p.independent = v == "YES"
				case "GAP":
					p.gap = v == "YES"
				}
			})
			cur.parts, cur.dur = append(cur.parts, p), cur.dur+p.dur
		case "#EXTINF":
			d, _, _ := strings.Cut(value, ",")
			extinf = seconds(d)
		case "#EXT-X-ENDLIST":
			m.ended = true
		default:
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			cur.msn, cur.at, cur.uri, cur.dur, cur.complete = msn, clock, line, extinf, true
			m.segments = append(m.segments, cur)
			if !clock.IsZero() {
				clock = clock.Add(extinf)
			}
			msn, cur, listed = msn+1, segment{}, 0
		}
	}
	if listed > 0 {
		cur.msn, cur.at = msn, clock
		m.partsOfLast = listed
		m.segments = append(m.segments, cur)
	}
	if len(m.segments) == 0 {
		return nil, errors.New("the media playlist has no segment")
	}
	last := &m.segments[len(m.segments)-1]
	m.lastMSN, m.lastComplete = last.msn, last.complete
	m.edge = last.at.Add(last.dur)
	return m, nil
}

// next is what a blocking reload asks for: the part (or segment) after the last one listed.
func (m *media) next(parts bool) (msn int64, part int) {
	if m.lastComplete {
		return m.lastMSN + 1, 0
	}
	if !parts {
		return m.lastMSN, 0
	}
	return m.lastMSN, m.partsOfLast
}

func seconds(s string) time.Duration {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(f >= 0 && f < 1e6) {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

func resolve(base *url.URL, ref string) string {
	if ref == "" {
		return ""
	}
	u, err := base.Parse(ref)
	if err != nil {
		return ""
	}
	return u.String()
}

// attributes reads an attribute list; quotes are taken off.
func attributes(s string) map[string]string {
	out := map[string]string{}
	eachAttribute(s, func(name, value string) { out[name] = value })
	return out
}

// attribute is one of a list; empty where it is not there.
func attribute(s, name string) (value string) {
	eachAttribute(s, func(n, v string) {
		if n == name {
			value = v
		}
	})
	return value
}

func eachAttribute(s string, f func(name, value string)) {
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, rest, ok = strings.Cut(rest[1:], `"`)
			if !ok {
				break
			}
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		f(strings.TrimSpace(name), value)
		s = rest
	}
}
