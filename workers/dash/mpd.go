package dash

import (
	"encoding/xml"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
)

// MPD is one version of a stream's presentation.
type MPD struct {
	// WindowUs is timeShiftBufferDepth, microseconds.
	WindowUs int64
	// ClockURL is where players read the time of day (UTCTiming, http-xsdate);
	// default ClockName beside the MPD.
	ClockURL string
	// Session is what belongs to one session; nil: none.
	Session *Session
	// Periods in order; the last one may go on. At least one is required.
	Periods []Period
}

// Session is what the router adds to a stream's MPD.
type Session struct {
	// Location is where the MPD is fetched again.
	Location string
	// Bases are the ways to the stream, best first.
	Bases []Base
	// SteeringURI is the content-steering server's (ETSI TS 103 998); empty: none.
	SteeringURI string
	// ClearKeyURL is where ClearKey licences are given; empty: nowhere.
	ClearKeyURL string
	// MaxBps leaves out pictures above a bitrate, but never the lowest of a Period; 0: none.
	MaxBps int64
}

// Base is one CDN: URL is what stands before <rendition>/<track>/..., with a slash at its end.
type Base struct{ ID, URL string }

// Period is a run of segments on one line.
type Period struct {
	Epoch uint32
	Line  schemas.Line
	// Ended: no segment follows in this run; EndUs is then its end in media time, microseconds.
	Ended bool
	EndUs int64
	Sets  []Representation
}

// Representation is one track of one rendition in a Period.
type Representation struct {
	Rendition string
	Track     schemas.Track
	// Epoch is the one in the segments' names.
	Epoch  uint32
	InitID string
	// KID names the key of cbcs, 32 hexadecimal digits; empty: samples are clear.
	KID string
	// Codec is the RFC 6381 string; BandwidthBps the peak, bits per second.
	Codec                string
	BandwidthBps         int64
	Width, Height        int
	FPS                  float64
	SampleRate, Channels int
	Timescale            uint32
	// FirstMSN is the number of the run's first segment in this track.
	FirstMSN uint64
	// Reference is the kind of the prft boxes in front of the fragments.
	Reference cmaf.ReferenceKind
	// PartUs is the longest part, microseconds.
	PartUs int64
	// Segments are the complete ones in the window, in order.
	Segments []Segment
}

// Segment is one entry of a SegmentTimeline, in units of the timescale.
type Segment struct {
	MSN             uint64
	Start, Duration uint64
}

// LowLatency tells whether players may ask for the segment that is being made:
// where the length of segments is known, so that names and times are, too.
func (p *Period) LowLatency() bool { return p.Line.SegmentUs > 0 }

// firstPartUs is FirstPartUs for parts that are longer than by default; audio's are a frame longer at most.
func (r *Representation) firstPartUs() int64 {
	const usual = schemas.DefaultPartTargetUs * 5 / 4
	return FirstPartUs + 2*max(r.PartUs-usual, 0)
}

// lowLatencyUs is LowLatencyUs, or more where parts are longer than by default.
func (p *Period) lowLatencyUs() int64 {
	us := int64(LowLatencyUs)
	for i := range p.Sets {
		us = max(us, LowLatencyUs-FirstPartUs+p.Sets[i].firstPartUs())
	}
	return us
}

// StartUs is the Period's beginning on the wall-clock, Unix microseconds.
func (p *Period) StartUs() int64 { return p.Line.ZeroUnixUs + p.Line.StartUs }

// Delays that the ServiceDescription asks players for, microseconds.
const (
	// LowLatencyUs: what LL-HLS players hold back (1 s) behind the moment from
	// which a part can be had.
	LowLatencyUs = FirstPartUs + 1_000_000
	// TimelineUs: two target durations, so that it lies within the shortest window.
	TimelineUs = 2 * schemas.TargetDurationSec * 1_000_000
)

// Append writes the MPD.
func (m *MPD) Append(b []byte) []byte {
	w := writer{b: b}
	last := &m.Periods[len(m.Periods)-1]
	target := int64(TimelineUs)
	if last.LowLatency() {
		target = last.lowLatencyUs()
	}
	w.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"`)
	w.attr("profiles", "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019")
	w.attr("availabilityStartTime", "1970-01-01T00:00:00Z")
	w.attr("publishTime", dateTime(m.publishedUs()))
	w.attr("minimumUpdatePeriod", "PT2S")
	w.attr("timeShiftBufferDepth", duration(m.WindowUs))
	w.attr("suggestedPresentationDelay", duration(target))
	w.attr("maxSegmentDuration", "PT4.5S")
	w.attr("minBufferTime", "PT0.5S")
	w.raw(">\n")
	m.session(&w)
	w.raw("<ServiceDescription id=\"0\"><Latency")
	w.attr("referenceId", "0")
	w.attr("target", strconv.FormatInt(target/1000, 10))
	w.attr("min", strconv.FormatInt(target*3/4/1000, 10))
	w.attr("max", strconv.FormatInt(target*3/1000, 10))
	w.raw("/><PlaybackRate min=\"0.96\" max=\"1.04\"/></ServiceDescription>\n")
	for i := range m.Periods {
		m.Periods[i].append(&w, i, m)
	}
	m.utcTiming(&w)
	w.raw("</MPD>\n")
	return w.b
}

func (m *MPD) clock() string {
	if m.ClockURL == "" {
		return ClockName
	}
	return m.ClockURL
}

func (m *MPD) utcTiming(w *writer) {
	w.raw(`<UTCTiming schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014"`)
	w.attr("value", m.clock())
	w.raw("/>\n")
}

func (m *MPD) session(w *writer) {
	s := m.Session
	if s == nil {
		return
	}
	for _, c := range s.Bases {
		w.raw("<BaseURL")
		w.attr("serviceLocation", c.ID)
		w.raw(">")
		w.text(c.URL)
		w.raw("</BaseURL>\n")
	}
	if s.Location != "" {
		w.raw("<Location>")
		w.text(s.Location)
		w.raw("</Location>\n")
	}
	if s.SteeringURI != "" && len(s.Bases) > 0 {
		w.raw("<ContentSteering")
		w.attr("defaultServiceLocation", s.Bases[0].ID)
		w.attr("queryBeforeStart", "false")
		w.raw(">")
		w.text(s.SteeringURI)
		w.raw("</ContentSteering>\n")
	}
}

// publishedUs is the moment at which this version could first be written: what
// is newest in it, by the stream's own times.
func (m *MPD) publishedUs() int64 {
	var us int64
	for i := range m.Periods {
		p := &m.Periods[i]
		us = max(us, p.StartUs())
		if p.Ended {
			us = max(us, p.Line.ZeroUnixUs+p.EndUs)
		}
		for j := range p.Sets {
			r := &p.Sets[j]
			if n := len(r.Segments); n > 0 && !p.LowLatency() {
				us = max(us, p.Line.ZeroUnixUs+usOf(r.Segments[n-1].Start+r.Segments[n-1].Duration, r.Timescale))
			}
		}
	}
	return us
}

func (p *Period) append(w *writer, i int, m *MPD) {
	w.raw("<Period")
	w.attr("id", "e"+strconv.FormatUint(uint64(p.Epoch), 10)+"."+strconv.FormatUint(p.Line.ID, 10))
	w.attr("start", duration(p.StartUs()))
	if p.Ended {
		w.attr("duration", duration(max(0, p.EndUs-p.Line.StartUs)))
	}
	w.raw(">\n")
	for _, track := range []schemas.Track{schemas.Video, schemas.Audio} {
		p.set(w, track, m)
	}
	w.raw("</Period>\n")
}

func (p *Period) set(w *writer, track schemas.Track, m *MPD) {
	begun := false
	for i := range p.Sets {
		r := &p.Sets[i]
		if r.Track != track || !p.LowLatency() && len(r.Segments) == 0 {
			continue
		}
		if !begun {
			begun = true
			w.raw("<AdaptationSet")
			if track == schemas.Video {
				w.raw(` id="1" contentType="video" mimeType="video/mp4"`)
			} else {
				w.raw(` id="2" contentType="audio" mimeType="audio/mp4" lang="und"`)
			}
			w.raw(` segmentAlignment="true" startWithSAP="1">` + "\n")
			protection(w, r.KID)
			p.reference(w, r, p.inband(track), m)
		}
		p.representation(w, r)
	}
	if begun {
		w.raw("</AdaptationSet>\n")
	}
}

// clearKey is the ClearKey scheme as DASH-IF registers it; a session's has the
// licence's address (IOP 7.6.2.4).
const clearKey = `<ContentProtection schemeIdUri="urn:uuid:e2719d58-a985-b3c9-781a-b030af78d30e" value="ClearKey1.0"/>` + "\n"

// protection says how samples are encrypted (ISO/IEC 23009-1, 5.8.4.1).
func protection(w *writer, kid string) {
	if len(kid) != 32 {
		return
	}
	w.raw(`<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011" value="cbcs" xmlns:cenc="urn:mpeg:cenc:2013"`)
	w.attr("cenc:default_KID", kid[:8]+"-"+kid[8:12]+"-"+kid[12:16]+"-"+kid[16:20]+"-"+kid[20:])
	w.raw("/>\n" + clearKey)
}

// inband gives the kind of producer reference times that every fragment of a
// track has; none where those of one rendition lack it or are of another kind.
func (p *Period) inband(track schemas.Track) cmaf.ReferenceKind {
	var kind cmaf.ReferenceKind
	first := true
	for i := range p.Sets {
		if r := &p.Sets[i]; r.Track == track && (p.LowLatency() || len(r.Segments) > 0) {
			if !first && r.Reference != kind {
				return ""
			}
			kind, first = r.Reference, false
		}
	}
	return kind
}

// reference says which wall-clock a picture has: by construction that of the
// Period's line, which fragments' prft boxes follow within its tolerance.
func (p *Period) reference(w *writer, r *Representation, inband cmaf.ReferenceKind, m *MPD) {
	kind := inband
	if kind == "" {
		kind = cmaf.ReferenceEncoder
	}
	w.raw("<ProducerReferenceTime")
	w.attr("id", "0")
	w.attr("type", string(kind))
	w.attr("wallClockTime", dateTime(p.StartUs()))
	w.attr("presentationTime", strconv.FormatUint(unitsOf(p.Line.StartUs, p.scale(r)), 10))
	w.attr("inband", strconv.FormatBool(inband != ""))
	w.raw(">")
	m.utcTiming(w)
	w.raw("</ProducerReferenceTime>\n")
}

func (p *Period) representation(w *writer, r *Representation) {
	w.raw("<Representation")
	w.attr("id", r.Rendition+"-"+string(r.Track))
	w.attr("bandwidth", strconv.FormatInt(max(r.BandwidthBps, 1000), 10))
	if r.Codec != "" {
		w.attr("codecs", r.Codec)
	}
	if r.Track == schemas.Video {
		if r.Width > 0 && r.Height > 0 {
			w.attr("width", strconv.Itoa(r.Width))
			w.attr("height", strconv.Itoa(r.Height))
		}
		if r.FPS > 0 && r.FPS < 1000 {
			w.attr("frameRate", frameRate(r.FPS))
		}
	} else if r.SampleRate > 0 {
		w.attr("audioSamplingRate", strconv.Itoa(r.SampleRate))
	}
	w.raw(">\n")
	if r.Track == schemas.Audio && r.Channels > 0 {
		w.raw(`<AudioChannelConfiguration schemeIdUri="urn:mpeg:dash:23003:3:audio_channel_configuration:2011"`)
		w.attr("value", strconv.Itoa(r.Channels))
		w.raw("/>\n")
	}
	p.template(w, r)
	w.raw("</Representation>\n")
}

func (p *Period) template(w *writer, r *Representation) {
	base := r.Rendition + "/" + string(r.Track) + "/"
	scale := p.scale(r)
	w.raw("<SegmentTemplate")
	w.attr("timescale", strconv.FormatUint(uint64(scale), 10))
	w.attr("presentationTimeOffset", strconv.FormatUint(unitsOf(p.Line.StartUs, scale), 10))
	w.attr("initialization", base+"init-"+r.InitID+".mp4")
	w.attr("media", base+strconv.FormatUint(uint64(r.Epoch), 10)+"-$Number$.m4s")
	if p.LowLatency() {
		w.attr("startNumber", strconv.FormatUint(r.FirstMSN, 10))
		if n := len(r.Segments); p.Ended && n > 0 {
			w.attr("endNumber", strconv.FormatUint(r.Segments[n-1].MSN, 10))
		}
		w.attr("duration", strconv.FormatUint(unitsOf(p.Line.SegmentUs, scale), 10))
		if ahead := p.Line.SegmentUs - r.firstPartUs(); ahead > 0 {
			w.attr("availabilityTimeOffset", seconds(ahead))
			w.attr("availabilityTimeComplete", "false")
		}
		w.raw("/>\n")
		return
	}
	w.attr("startNumber", strconv.FormatUint(r.Segments[0].MSN, 10))
	w.raw(">\n<SegmentTimeline>")
	for i, s := range r.Segments {
		w.raw("<S")
		if i == 0 || r.Segments[i-1].Start+r.Segments[i-1].Duration != s.Start {
			w.attr("t", strconv.FormatUint(s.Start, 10))
		}
		w.attr("d", strconv.FormatUint(s.Duration, 10))
		w.raw("/>")
	}
	w.raw("</SegmentTimeline>\n</SegmentTemplate>\n")
}

// scale is the timescale that a template counts in: the track's own, unless a
// segment's duration is no whole number of its units, which would add up.
func (p *Period) scale(r *Representation) uint32 {
	if p.Line.SegmentUs*int64(r.Timescale)%1_000_000 != 0 {
		return 1_000_000
	}
	return r.Timescale
}

func unitsOf(us int64, scale uint32) uint64 {
	s, rest := uint64(max(us, 0))/1_000_000, uint64(max(us, 0))%1_000_000
	return s*uint64(scale) + (rest*uint64(scale)+500_000)/1_000_000
}

func usOf(units uint64, scale uint32) int64 {
	n := uint64(max(scale, 1))
	return int64(units/n*1_000_000 + units%n*1_000_000/n)
}

// frameRate writes whole rates as such and NTSC's as fractions (DASH allows no decimals).
func frameRate(fps float64) string {
	if n := int64(fps + 0.5); n > 0 && fps-float64(n) < 0.001 && float64(n)-fps < 0.001 {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(int64(fps*1001+0.5), 10) + "/1001"
}

func dateTime(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000Z") }

// DateTime is the xs:dateTime, to the microsecond, that a clock answers.
func DateTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func seconds(us int64) string {
	s := strconv.FormatInt(us/1_000_000, 10) + "." + strconv.FormatInt(1_000_000+us%1_000_000, 10)[1:]
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func duration(us int64) string { return "PT" + seconds(us) + "S" }

type writer struct{ b []byte }

func (w *writer) raw(s string) { w.b = append(w.b, s...) }

func (w *writer) attr(name, value string) {
	w.raw(" " + name + `="`)
	w.text(value)
	w.raw(`"`)
}

func (w *writer) text(s string) {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder takes everything
	w.raw(b.String())
}
