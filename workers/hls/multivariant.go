package hls

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// DefaultPathwayID is the id of a pathway that has none (content-steering section 4).
const DefaultPathwayID = "."

// Pathway is one way to the stream: one CDN.
type Pathway struct {
	// ID is the CDN's name. It is left out of the playlist when it is empty.
	ID string
	// BaseURL goes before /<app>/<stream>/..., without trailing slash, with the
	// session's path prefix if there is one ("http://host:port/t/<token>"). Empty
	// makes the URIs relative to the multivariant playlist.
	BaseURL string
}

// Variant is one rendition of the stream.
type Variant struct {
	Rendition string
	// PeakBps and AverageBps are BANDWIDTH and AVERAGE-BANDWIDTH, bits per second,
	// audio included. 0 means not measured yet.
	PeakBps, AverageBps int64
	// Video and Audio are nil where the rendition has no such track.
	Video, Audio *schemas.TrackInfo
	// AudioOf is the rendition whose audio is played with it; empty: its own.
	AudioOf string
}

// unmeasuredBps is the BANDWIDTH, a required attribute, of a variant in its
// first second, before there is a measurement. It only orders variants.
const unmeasuredBps = 2_500_000

// Multivariant is a multivariant playlist: every variant on every pathway.
type Multivariant struct {
	Key      schemas.StreamKey
	Variants []Variant
	// Pathways in order of preference. Players that cannot steer take the first
	// and fall back in this order (redundant variants, RFC 8216bis 6.2.4).
	// Empty means one relative pathway without an id.
	Pathways []Pathway
	// Redundant is for players that know no pathways: the variants of the second
	// and further Pathways are written as backups of the first's, without ids, and
	// no steering is named.
	Redundant bool
	// SteeringURI is the content-steering server's; empty writes no steering tag.
	// It must be absolute when BaseURLs are: shaka does not resolve relative ones.
	SteeringURI string
	// Playlist is the file name of the media playlists; default [PlaylistName]. Not used over MPEG-TS.
	Playlist string
	// IndependentSegments: every segment starts with a key frame.
	IndependentSegments bool
	// Encrypted: there are no playlists of key frames, which are made of clear samples.
	Encrypted bool
	// TS: the variants are muxed MPEG-TS, for players that know nothing else.
	TS bool
}

// FromState gives the multivariant playlist of a stream without pathways:
// set Pathways and SteeringURI as needed. made is what the pipeline makes of it
// now (schemas/renditions); it plays with the publisher's audio.
func FromState(s *schemas.StreamState, made ...*schemas.RenditionState) Multivariant {
	v := Variant{Rendition: s.Epoch.Rendition, PeakBps: s.Stats.PeakBps, AverageBps: s.Stats.VideoBps + s.Stats.AudioBps}
	if v.Rendition == "" {
		v.Rendition = schemas.SourceRendition
	}
	v.Video, v.Audio = trackOf(&s.Epoch, schemas.Video), trackOf(&s.Epoch, schemas.Audio)
	variants := []Variant{v}
	for _, r := range made {
		if t := trackOf(&r.Epoch, schemas.Video); t != nil {
			variants = append(variants, Variant{
				Rendition: r.Rendition, PeakBps: r.PeakBps + s.Stats.AudioBps, AverageBps: r.AverageBps + s.Stats.AudioBps,
				Video: t, Audio: v.Audio, AudioOf: v.Rendition,
			})
		}
	}
	return Multivariant{
		Key: s.Key(), Variants: inOrder(variants), Encrypted: s.Epoch.Encrypted != "",
		// A publisher with key frames further apart than the longest segment has
		// segments that start without one.
		IndependentSegments: s.Stats.KeyframeMs <= schemas.SegmentMaxUs/1000,
	}
}

// Cap leaves out the variants above a bitrate, but never the lowest; 0: none.
func (m *Multivariant) Cap(bps int64) {
	if bps <= 0 || len(m.Variants) < 2 {
		return
	}
	lowest := slices.MinFunc(m.Variants, func(a, b Variant) int { return cmp.Compare(a.bandwidth(), b.bandwidth()) })
	limit := max(bps, lowest.bandwidth())
	m.Variants = slices.DeleteFunc(m.Variants, func(v Variant) bool { return v.bandwidth() > limit })
}

func trackOf(e *schemas.EpochOpen, kind schemas.Track) *schemas.TrackInfo {
	for i := range e.Tracks {
		if e.Tracks[i].Track == kind {
			return &e.Tracks[i]
		}
	}
	return nil
}

// startBps: players begin with the first variant, and those that cannot change
// stay with it; a higher one would make many wait.
const startBps = 3_000_000

// inOrder puts the variants from high to low, but first the highest that most can play.
func inOrder(v []Variant) []Variant {
	slices.SortStableFunc(v, func(a, b Variant) int { return cmp.Compare(b.bandwidth(), a.bandwidth()) })
	first := slices.IndexFunc(v, func(v Variant) bool { return v.bandwidth() <= startBps })
	if first < 0 {
		first = len(v) - 1
	}
	out := append(make([]Variant, 0, len(v)), v[first])
	return append(append(out, v[:first]...), v[first+1:]...)
}

// bandwidth is the BANDWIDTH attribute.
func (v *Variant) bandwidth() int64 {
	if v.PeakBps <= 0 {
		return max(v.AverageBps, unmeasuredBps)
	}
	return max(v.PeakBps, v.AverageBps)
}

// audio is the rendition whose audio is played.
func (v *Variant) audio() string {
	if v.AudioOf != "" {
		return v.AudioOf
	}
	return v.Rendition
}

// Append writes the playlist.
func (m *Multivariant) Append(b []byte) []byte {
	paths := m.Pathways
	if len(paths) == 0 {
		paths = []Pathway{{}}
	}
	if m.TS {
		b = append(b, "#EXTM3U\n#EXT-X-VERSION:3\n"...)
	} else {
		b = append(b, "#EXTM3U\n#EXT-X-VERSION:9\n"...)
	}
	if m.IndependentSegments {
		b = append(b, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	if m.SteeringURI != "" && !m.Redundant {
		b = append(b, "#EXT-X-CONTENT-STEERING:SERVER-URI=\""...)
		b = append(b, quotable(m.SteeringURI)...)
		b = append(b, "\",PATHWAY-ID=\""...)
		if paths[0].ID == "" {
			b = append(b, DefaultPathwayID...)
		} else {
			b = append(b, paths[0].ID...)
		}
		b = append(b, "\"\n"...)
	}
	for i := range paths {
		for j := range m.Variants {
			if v := &m.Variants[j]; v.Video != nil && v.Audio != nil && v.audio() == v.Rendition && !m.TS {
				b = m.appendAudio(b, &paths[i], v)
			}
		}
	}
	for i := range paths {
		for j := range m.Variants {
			b = m.appendVariant(b, &paths[i], &m.Variants[j])
		}
	}
	for i := range paths {
		for j := range m.Variants {
			if v := &m.Variants[j]; v.Video != nil && !m.TS && !m.Encrypted {
				b = m.appendIFrames(b, &paths[i], v)
			}
		}
	}
	return b
}

// appendIFrames names the playlist of key frames. Its bandwidth is not measured:
// the variant's own is an upper bound.
func (m *Multivariant) appendIFrames(b []byte, p *Pathway, v *Variant) []byte {
	peak := v.PeakBps
	if peak <= 0 {
		peak = max(v.AverageBps, unmeasuredBps)
	}
	b = append(b, "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH="...)
	b = strconv.AppendInt(b, max(peak, v.AverageBps), 10)
	if v.Video.Codec != "" {
		b = append(b, ",CODECS=\""...)
		b = append(b, quotable(v.Video.Codec)...)
		b = append(b, '"')
	}
	if v.Video.Width > 0 && v.Video.Height > 0 {
		b = append(b, ",RESOLUTION="...)
		b = strconv.AppendInt(b, int64(v.Video.Width), 10)
		b = append(b, 'x')
		b = strconv.AppendInt(b, int64(v.Video.Height), 10)
	}
	b = m.appendIDs(b, p, v.Rendition+"-iframes")
	b = append(b, ",URI=\""...)
	b = m.appendBase(b, p, v.Rendition, schemas.Video)
	b = append(b, IFramesName...)
	return append(b, "\"\n"...)
}

// appendAudio writes the audio group of one variant on one pathway: a player
// that changes the pathway must change the audio's host with it.
func (m *Multivariant) appendAudio(b []byte, p *Pathway, v *Variant) []byte {
	b = append(b, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\""...)
	b = append(b, groupID(p, v)...)
	b = append(b, "\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES"...)
	if v.Audio.Channels > 0 {
		b = append(b, ",CHANNELS=\""...)
		b = strconv.AppendInt(b, int64(v.Audio.Channels), 10)
		b = append(b, '"')
	}
	b = append(b, ",STABLE-RENDITION-ID=\""...)
	b = append(b, v.Rendition...)
	b = append(b, "-audio\",URI=\""...)
	b = m.appendURI(b, p, v.Rendition, schemas.Audio)
	return append(b, "\"\n"...)
}

func (m *Multivariant) appendVariant(b []byte, p *Pathway, v *Variant) []byte {
	if v.Video == nil && v.Audio == nil {
		return b
	}
	if m.TS && v.audio() != v.Rendition {
		return b // muxed, it would have no sound
	}
	b = append(b, "#EXT-X-STREAM-INF:BANDWIDTH="...)
	b = strconv.AppendInt(b, v.bandwidth(), 10)
	if v.AverageBps > 0 {
		b = append(b, ",AVERAGE-BANDWIDTH="...)
		b = strconv.AppendInt(b, v.AverageBps, 10)
	}
	var codecs []string
	for _, t := range []*schemas.TrackInfo{v.Video, v.Audio} {
		if t != nil && t.Codec != "" {
			codecs = append(codecs, quotable(t.Codec))
		}
	}
	if len(codecs) > 0 {
		b = append(b, ",CODECS=\""...)
		b = append(b, strings.Join(codecs, ",")...)
		b = append(b, '"')
	}
	track := schemas.Audio
	if v.Video != nil {
		track = schemas.Video
		if v.Video.Width > 0 && v.Video.Height > 0 {
			b = append(b, ",RESOLUTION="...)
			b = strconv.AppendInt(b, int64(v.Video.Width), 10)
			b = append(b, 'x')
			b = strconv.AppendInt(b, int64(v.Video.Height), 10)
		}
		if v.Video.FPS > 0 && v.Video.FPS < 1000 {
			b = append(b, ",FRAME-RATE="...)
			b = strconv.AppendFloat(b, v.Video.FPS, 'f', 3, 64)
		}
		if v.Audio != nil && !m.TS {
			b = append(b, ",AUDIO=\""...)
			b = append(b, groupID(p, v)...)
			b = append(b, '"')
		}
	}
	b = m.appendIDs(b, p, v.Rendition)
	b = append(b, '\n')
	b = m.appendURI(b, p, v.Rendition, track)
	return append(b, '\n')
}

// appendIDs says which variant it is, on which pathway.
func (m *Multivariant) appendIDs(b []byte, p *Pathway, stable string) []byte {
	if m.Redundant {
		return b // a backup would repeat the id on one and the same pathway
	}
	b = append(b, ",STABLE-VARIANT-ID=\""...)
	b = append(b, stable...)
	b = append(b, '"')
	if p.ID != "" {
		b = append(b, ",PATHWAY-ID=\""...)
		b = append(b, p.ID...)
		b = append(b, '"')
	}
	return b
}

// PathwayURIs gives what the playlist names on a pathway: the variants' URIs by
// STABLE-VARIANT-ID, and the audio renditions' by STABLE-RENDITION-ID.
func (m *Multivariant) PathwayURIs(p *Pathway) (variants, renditions map[string]string) {
	variants, renditions = map[string]string{}, map[string]string{}
	for i := range m.Variants {
		v := &m.Variants[i]
		track := schemas.Audio
		if v.Video != nil {
			track = schemas.Video
		}
		variants[v.Rendition] = string(m.appendURI(nil, p, v.Rendition, track))
		if v.Video != nil && v.Audio != nil && v.audio() == v.Rendition && !m.TS {
			renditions[v.Rendition+"-audio"] = string(m.appendURI(nil, p, v.Rendition, schemas.Audio))
		}
	}
	return variants, renditions
}

func groupID(p *Pathway, v *Variant) string {
	if p.ID == "" {
		return "audio-" + v.audio()
	}
	return "audio-" + v.audio() + "-" + p.ID
}

func (m *Multivariant) appendURI(b []byte, p *Pathway, rendition string, t schemas.Track) []byte {
	b = m.appendBase(b, p, rendition, t)
	if m.Playlist != "" && !m.TS {
		return append(b, m.Playlist...)
	}
	return append(b, PlaylistName...)
}

// appendBase writes the folder of a track's playlist.
func (m *Multivariant) appendBase(b []byte, p *Pathway, rendition string, t schemas.Track) []byte {
	if p.BaseURL != "" {
		b = append(b, quotable(p.BaseURL)...)
		b = append(b, '/')
		b = append(b, m.Key.App...)
		b = append(b, '/')
		b = append(b, m.Key.Stream...)
		b = append(b, '/')
	}
	b = append(b, rendition...)
	b = append(b, '/')
	if m.TS {
		b = append(b, TSFolder...)
	} else {
		b = append(b, t...)
	}
	return append(b, '/')
}

// quotable removes what a quoted string or a line of a playlist cannot hold.
func quotable(s string) string {
	if strings.IndexFunc(s, badRune) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if badRune(r) {
			return -1
		}
		return r
	}, s)
}

func badRune(r rune) bool { return r < ' ' || r == '"' || r == 0x7f }
