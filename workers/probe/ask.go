package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/schemas/token/scheme"
)

// UserAgent begins that of probes: collectors know edges' lines about them by it.
const UserAgent = schemas.ProbeUserAgent + "1"

const (
	tokenFor = time.Minute
	// maxPart bounds a part that is read, bytes.
	maxPart = 16 << 20
	// sampleGap is the longest time between two sampled parts of a stream that flows.
	sampleGap = 4500 * time.Millisecond
)

// answer is what one request gave.
type answer struct {
	code        int
	body        []byte
	first, last time.Duration // to the first and the last byte
}

// probe asks for the playlist and its newest part, and gives the row about it.
func (p *Prober) probe(ctx context.Context, c *schemas.CDN, k schemas.StreamKey) schemas.Telemetry {
	row := schemas.Telemetry{
		Source: schemas.SourceProbe, Hop: schemas.HopProbe, Event: "probe", App: k.App, Stream: k.Stream, ContentID: k.String(),
		CDN: c.Name, Region: p.Region, Client: "spillway-probe", Protocol: "h",
	}
	err := p.measure(ctx, c, k, &row)
	now := time.Now()
	row.ReceivedUnixUs, row.TsUnixMs = now.UnixMicro(), now.UnixMilli()
	if err != nil {
		row.ErrorCode = err.Error()
	}
	return row
}

// Errors of a probe are few words, for they are a column.
var (
	errSign     = errors.New("no token")
	errPlaylist = errors.New("playlist")
	errPart     = errors.New("part")
)

func (p *Prober) measure(ctx context.Context, c *schemas.CDN, k schemas.StreamKey, row *schemas.Telemetry) error {
	s, ok := p.streams.Get(k.KVKey())
	if !ok || len(s.Epoch.Tracks) == 0 {
		return errPlaylist
	}
	base, err := p.base(c, k)
	if err != nil {
		p.Logger.Warn("probe cannot sign its address", "cdn", c.Name, "err", err)
		return errSign
	}
	track := s.Epoch.Tracks[0].Track
	for _, t := range s.Epoch.Tracks {
		if t.Track == schemas.Video {
			track = t.Track
		}
	}
	list, err := url.Parse(base + "/" + k.App + "/" + k.Stream + "/" + schemas.SourceRendition + "/" + string(track) + "/playlist.m3u8")
	if err != nil {
		return errSign
	}
	row.Server, row.Rendition, row.Track = list.Host, schemas.SourceRendition, string(track)
	a, err := p.get(ctx, list, maxPlaylist)
	row.ResponseCode = columnar.Some(int32(a.code))
	if err != nil || a.code != http.StatusOK {
		return refusal("playlist", a.code)
	}
	row.FirstByteMs = columnar.Some(int32(a.first.Milliseconds()))
	n, err := readPlaylist(string(a.body))
	if err != nil {
		return fmt.Errorf("%w: %w", errPlaylist, err)
	}
	row.StalenessMs = columnar.Some(staleness(time.Now(), n.end, p.heardOf(k)).Milliseconds())
	part, err := list.Parse(n.uri)
	if err != nil || part.Host != list.Host {
		return errPart
	}
	if a, err = p.get(ctx, part, maxPart); err != nil || a.code != http.StatusOK {
		row.ResponseCode = columnar.Some(int32(a.code))
		return refusal("part", a.code)
	}
	row.FirstByteMs.V = max(row.FirstByteMs.V, int32(a.first.Milliseconds()))
	row.LastByteMs = columnar.Some(int32(a.last.Milliseconds()))
	row.Bytes = columnar.Some(int64(len(a.body)))
	row.ThroughputKbps = columnar.Some(throughputKbps(len(a.body), a.last-a.first))
	if bps := rateBps(s, track); bps > 0 {
		row.BitrateKbps = columnar.Some(int32(min((bps+999)/1000, 1e9)))
	}
	return nil
}

// throughputKbps is that of bytes which came within took, from the first to the last: how
// long the first was waited for is judged by itself, and would outweigh a short part's way.
func throughputKbps(bytes int, took time.Duration) int32 {
	return int32(min(float64(bytes*8)/max(took, time.Millisecond).Seconds()/1000, 1e9))
}

// rateBps is the bitrate of a track of the publisher's over the last second; 0: not known.
func rateBps(s *schemas.StreamState, track schemas.Track) int64 {
	if track == schemas.Video {
		return s.Stats.VideoBps
	}
	return s.Stats.AudioBps
}

func refusal(what string, code int) error {
	if code == 0 {
		return errors.New(what + ": no answer")
	}
	return fmt.Errorf("%s: HTTP %d", what, code)
}

// base is what stands before /<app>/<stream>/ at the CDN. The token is for this
// stream alone, and has no session, so that nobody takes a probe for a viewer.
func (p *Prober) base(c *schemas.CDN, k schemas.StreamKey) (string, error) {
	claims := token.Session{App: k.App, Stream: k.Stream, CDN: c.Name, Pinned: true, ExpiresUnix: time.Now().Add(tokenFor).Unix(),
		Keyed: p.access.Of(k, time.Now()).Private}
	t, err := p.Signer.SignSession(claims)
	if err != nil {
		return "", err
	}
	s, err := scheme.ForPlaylists(c.TokenScheme)
	if err != nil {
		return "", err
	}
	return scheme.Base(s, c.BaseURL, scheme.Grant{Dir: "/" + k.App + "/" + k.Stream + "/", Session: t, ExpiresUnix: claims.ExpiresUnix}, p.CDNKeys[c.TokenKey])
}

// get reads at most limit bytes of an answer.
func (p *Prober) get(ctx context.Context, u *url.URL, limit int64) (answer, error) {
	var a answer
	began := time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { a.first = time.Since(began) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return a, errSign
	}
	req.Header.Set("User-Agent", UserAgent)
	resp, err := p.client.Do(req)
	if err != nil {
		p.Logger.Debug("probe has no answer", "host", u.Host) // the error repeats the token
		return answer{}, errors.New("no answer")
	}
	defer resp.Body.Close()
	a.code = resp.StatusCode
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, limit)); err != nil {
		a.code = 0
		return a, errors.New("the answer was cut off")
	}
	a.last = time.Since(began)
	return a, nil
}

// staleness is how long ago ingest had the newest part that is listed. end is the
// wall-clock at the part's end, of capture where the publisher tells it. What
// ingest itself has waited for its publisher is not the CDN's.
func staleness(now, end time.Time, h heard) time.Duration {
	age := now.Sub(end) - h.capture
	if idle := now.Sub(h.ingest) - sampleGap; !h.ingest.IsZero() && idle > 0 {
		age -= idle
	}
	return max(age, 0)
}
