package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// AppSettings is what operators say of an application, or of one of its
// streams: bucket apps, key <app> or <app>.<stream>. A stream's own entry
// replaces its application's as a whole. The zero value holds where there is none.
type AppSettings struct {
	// Private: it plays only with a play key, or through a [Share].
	Private bool `json:"private,omitempty"`
	// SecondPublisher says who has the stream when a second publisher comes.
	SecondPublisher SecondPublisher `json:"second_publisher,omitempty"`
	// PublishHookURL is asked (HTTP POST) whether a publisher is admitted; empty: its key decides alone.
	PublishHookURL string `json:"publish_hook_url,omitempty"`
	// Policy names the routing policy of the stream or application, NAME or NAME@VERSION; empty: the router's.
	Policy string `json:"policy,omitempty"`
	// Steering says whether players are given content steering or backups of each
	// variant: SteeringOn, SteeringOff, or empty: as their user agent tells.
	Steering string `json:"steering,omitempty"`
	// Params are parameters of sessions that no experiment says otherwise of (see Param...; the policy has a field of
	// its own). Rolling out an experiment's winner writes them.
	Params map[string]string `json:"params,omitempty"`
	// Ladder lists the renditions made beside the publisher's own while the stream is watched.
	Ladder []Rung `json:"ladder,omitempty"`
	// Encryption of samples; nil: none.
	Encryption *Encryption `json:"encryption,omitempty"`
	// PublisherPolicy says when a publisher that reports is asked to send less; nil: never.
	PublisherPolicy *PublisherPolicy `json:"publisher_policy,omitempty"`
	// DVRSec is how far back a viewer may seek, seconds; 0: the live window only.
	DVRSec int64 `json:"dvr_sec,omitempty"`
	// WhenFull says what sessions get when all CDNs are nearly full; nil: [DefaultWhenFull].
	WhenFull *WhenFull `json:"when_full,omitempty"`
	// PackageAlways makes parts of streams that nobody watches, too.
	PackageAlways bool `json:"package_always,omitempty"`
	// Pictures says which screenshots are made; nil: as the worker does by itself.
	Pictures *PictureSettings `json:"pictures,omitempty"`
	// Review says what verdicts on pictures do; without rules they do nothing.
	Review []ReviewRule `json:"review,omitempty"`
}

// Values of AppSettings.Steering.
const (
	SteeringOn  = "on"
	SteeringOff = "off"
)

// SecondPublisher is a rule for two publishers on one stream.
type SecondPublisher string

// The newest publisher has the stream (default: a phone that changed its
// network comes back before its old connection is known to be dead), or the
// second one is refused while the first is there.
const (
	SecondWins    SecondPublisher = "newest"
	SecondRefused SecondPublisher = "refuse"
)

// Rung is one rendition of a ladder.
type Rung struct {
	// Name is the rendition's name, for example 480p.
	Name string `json:"name"`
	// Height in pixels, even; the width follows from the source's shape. A rung
	// that is not lower than the source is left out.
	Height int `json:"height"`
	// BitrateBps is the video bitrate aimed at, bits per second.
	BitrateBps int64 `json:"bitrate_bps"`
}

// Encryption says how samples are encrypted when they are packaged.
type Encryption struct {
	// Scheme is cbcs (ISO/IEC 23001-7).
	Scheme string `json:"scheme"`
	// KeyURL is where keys come from: file:///PATH, or http(s)://.
	KeyURL string `json:"key_url"`
	// RotateSegments is how many segments one key encrypts; 0: one key for ever.
	RotateSegments uint64 `json:"rotate_segments,omitempty"`
}

// maxKeyURL is the longest Encryption.KeyURL, bytes: it is in the header of each chunk.
const maxKeyURL = 1024

// Check names the field that is wrong. Its errors do not repeat the URL, which may hold a password.
func (e *Encryption) Check() error {
	if e.Scheme != "cbcs" {
		return fmt.Errorf("encryption.scheme %.20q is not known: cbcs is", e.Scheme)
	}
	if e.KeyURL == "" {
		return errors.New("encryption.key_url is empty")
	}
	if len(e.KeyURL) > maxKeyURL {
		return fmt.Errorf("encryption.key_url has %d bytes: at most %d are allowed", len(e.KeyURL), maxKeyURL)
	}
	if checkURL("encryption.key_url", e.KeyURL, "file", "http", "https") != nil {
		return errors.New("encryption.key_url must be file:///PATH, http:// or https://")
	}
	return nil
}

// Period is the key period of a segment: all segments of a period, of all
// tracks and renditions of a stream and in all its epochs, have one key.
func (e *Encryption) Period(msn uint64) uint64 {
	if e.RotateSegments == 0 {
		return 0
	}
	return msn / e.RotateSegments
}

// MaxDVRSec bounds AppSettings.DVRSec: a week.
const MaxDVRSec = 7 * 24 * 3600

// Check names the field that is wrong.
func (a *AppSettings) Check() error {
	switch a.SecondPublisher {
	case "", SecondWins, SecondRefused:
	default:
		return fmt.Errorf("second_publisher %q is neither %q nor %q", a.SecondPublisher, SecondWins, SecondRefused)
	}
	if a.Steering != "" && a.Steering != SteeringOn && a.Steering != SteeringOff {
		return fmt.Errorf("steering %q is neither %q nor %q, nor empty", a.Steering, SteeringOn, SteeringOff)
	}
	if a.Policy != "" {
		if _, _, err := ParsePolicyRef(a.Policy); err != nil {
			return err
		}
	}
	for name, v := range a.Params {
		if name == ParamPolicy {
			return errors.New("params.policy: the policy has a field of its own: policy")
		}
		if err := checkParam(name, v, UnitStream); err != nil {
			return fmt.Errorf("params.%.64s: %w", name, err)
		}
	}
	if err := checkURL("publish_hook_url", a.PublishHookURL, "http", "https"); err != nil {
		return err
	}
	if len(a.Ladder) > 8 {
		return fmt.Errorf("ladder has %d renditions: at most 8 are allowed", len(a.Ladder))
	}
	seen := map[string]bool{SourceRendition: true}
	for i, r := range a.Ladder {
		if err := CheckName(fmt.Sprintf("ladder[%d].name", i), r.Name); err != nil {
			return err
		}
		if seen[r.Name] {
			return fmt.Errorf("ladder[%d].name %q is used twice, or is the publisher's own rendition", i, r.Name)
		}
		seen[r.Name] = true
		if r.Height < 64 || r.Height > 4320 || r.Height%2 != 0 {
			return fmt.Errorf("ladder[%d].height %d is not an even number from 64 to 4320", i, r.Height)
		}
		if r.BitrateBps < 20_000 || r.BitrateBps > 100_000_000 {
			return fmt.Errorf("ladder[%d].bitrate_bps %d is not within 20000 and 100000000", i, r.BitrateBps)
		}
	}
	if a.Encryption != nil {
		if err := a.Encryption.Check(); err != nil {
			return err
		}
	}
	if a.WhenFull != nil {
		if err := a.WhenFull.Check(); err != nil {
			return err
		}
	}
	if err := checkReview(a.Review); err != nil {
		return err
	}
	if a.Pictures != nil {
		if err := a.Pictures.Check(); err != nil {
			return err
		}
	}
	if a.PublisherPolicy != nil {
		if err := a.PublisherPolicy.Check(); err != nil {
			return err
		}
	}
	if a.DVRSec < 0 || a.DVRSec > MaxDVRSec {
		return fmt.Errorf("dvr_sec %d is not within 0 and %d", a.DVRSec, MaxDVRSec)
	}
	return nil
}

func checkURL(field, s string, schemes ...string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%s is not a URL: %w", field, err)
	}
	for _, ok := range schemes {
		if u.Scheme == ok && (u.Host != "" || ok == "file" && u.Path != "") {
			return nil
		}
	}
	return fmt.Errorf("%s %q must be a URL with the scheme %s", field, s, strings.Join(schemes, " or "))
}

// ParseAppSettings reads an entry of the bucket apps.
func ParseAppSettings(key string, value []byte) (*AppSettings, error) {
	app, stream, ofStream := strings.Cut(key, ".")
	if err := CheckName("application", app); err != nil {
		return nil, err
	}
	if ofStream {
		if err := CheckName("stream", stream); err != nil {
			return nil, err
		}
	}
	var a AppSettings
	if err := UnmarshalStrict(value, &a); err != nil {
		return nil, err
	}
	return &a, a.Check()
}

// SettingsOf finds a stream's settings in a table of the bucket apps. It never gives nil.
func SettingsOf(k StreamKey, get func(key string) (*AppSettings, bool)) *AppSettings {
	if a, ok := get(k.KVKey()); ok {
		return a
	}
	if a, ok := get(k.App); ok {
		return a
	}
	return &AppSettings{}
}

// Source is a camera or server that is pulled: bucket sources, key StreamKey.KVKey.
type Source struct {
	// URL is rtsp:// or rtsps://, with its user and password if it needs them.
	URL string `json:"url"`
	// OnDemand: it is pulled only while somebody watches.
	OnDemand bool `json:"on_demand,omitempty"`
	// GraceSec is how long an on-demand pull goes on after the last viewer has left; 0 means 10.
	GraceSec int64 `json:"grace_sec,omitempty"`
	// Transport is tcp (default) or udp.
	Transport string `json:"transport,omitempty"`
	// CDN is what the stream counts as published through.
	CDN string `json:"cdn,omitempty"`
}

// DefaultGraceSec is Source.GraceSec where it is 0.
const DefaultGraceSec = 10

// Check names the field that is wrong. Its errors do not repeat the URL, which may hold a password.
func (s *Source) Check() error {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "rtsp" && u.Scheme != "rtsps" {
		return errors.New("url must be rtsp://HOST[:PORT]/PATH, or the same with rtsps")
	}
	if s.GraceSec < 0 || s.GraceSec > 3600 {
		return fmt.Errorf("grace_sec %d is not within 0 and 3600", s.GraceSec)
	}
	switch s.Transport {
	case "", "tcp", "udp":
	default:
		return fmt.Errorf("transport %q is neither tcp nor udp", s.Transport)
	}
	if s.CDN != "" {
		return CheckName("cdn", s.CDN)
	}
	return nil
}

// ParseSource reads an entry of the bucket sources.
func ParseSource(key string, value []byte) (*Source, error) {
	if _, err := ParseKVKey(key); err != nil {
		return nil, err
	}
	var s Source
	if err := UnmarshalStrict(value, &s); err != nil {
		return nil, err
	}
	return &s, s.Check()
}

// Share makes a private stream public under another address until it is
// withdrawn: bucket shares, key StreamKey.KVKey of the public address. What a
// viewer of the share gets is named after the share, so that withdrawing it
// needs no viewer's token to be called back: its playlists end.
type Share struct {
	App    string `json:"app"`
	Stream string `json:"stream"`
	// UntilUnix ends it by itself, Unix seconds; 0: it holds until withdrawn.
	UntilUnix int64 `json:"until,omitempty"`
	// WithdrawnUnix is when it was withdrawn, Unix seconds; 0: it was not. The
	// entry stays, so that the address is refused with the reason and never given
	// to something else while old tokens of it are about.
	WithdrawnUnix int64 `json:"withdrawn,omitempty"`
}

// Ended says why the share does not play at now; empty while it does.
func (s *Share) Ended(now time.Time) string {
	switch {
	case s.WithdrawnUnix != 0:
		return "this share was withdrawn"
	case s.UntilUnix != 0 && now.Unix() >= s.UntilUnix:
		return "this share ended at " + time.Unix(s.UntilUnix, 0).UTC().Format(time.RFC3339)
	}
	return ""
}

// MayBecome says why next may not be stored in the place of s, which is nil
// where the address is new: an address is never given to something else, and
// what was withdrawn stays so, because old tokens of it may be about.
func (s *Share) MayBecome(next *Share) error {
	switch {
	case s == nil:
		return nil
	case s.Key() != next.Key():
		return fmt.Errorf("the address is taken by a share of %s, ended or not: choose another", s.Key())
	case s.WithdrawnUnix != 0 && next.WithdrawnUnix == 0:
		return errors.New("the share was withdrawn and its address is not used again: choose another")
	}
	return nil
}

// Key gives the stream that is shared.
func (s *Share) Key() StreamKey { return StreamKey{s.App, s.Stream} }

// ParseShare reads an entry of the bucket shares.
func ParseShare(key string, value []byte) (*Share, error) {
	public, err := ParseKVKey(key)
	if err != nil {
		return nil, err
	}
	var s Share
	if err := UnmarshalStrict(value, &s); err != nil {
		return nil, err
	}
	if err := s.Key().Check(); err != nil {
		return nil, err
	}
	if s.Key() == public {
		return nil, fmt.Errorf("%s is shared as itself", public)
	}
	if err := errors.Join(notNegative("until", s.UntilUnix), notNegative("withdrawn", s.WithdrawnUnix)); err != nil {
		return nil, fmt.Errorf("%w: it is in Unix seconds", err)
	}
	return &s, nil
}

// ParseKVKey is the reverse of [StreamKey.KVKey].
func ParseKVKey(key string) (StreamKey, error) {
	app, stream, ok := strings.Cut(key, ".")
	k := StreamKey{app, stream}
	if !ok {
		return k, fmt.Errorf("key %q is not <app>.<stream>", key)
	}
	return k, k.Check()
}

// RenditionState is what the bucket renditions holds for each rendition that
// the pipeline makes itself, key <app>.<stream>.<rendition>: its maker writes it
// when an epoch opens, every second while it makes chunks, and when it stops.
type RenditionState struct {
	App       string `json:"app"`
	Stream    string `json:"stream"`
	Rendition string `json:"rendition"`
	// Live is false once nothing is made. Readers also treat a state not updated for 5 s as not live.
	Live          bool      `json:"live"`
	UpdatedUnixUs int64     `json:"updated_us"`
	Epoch         EpochOpen `json:"epoch"`
	// AverageBps and PeakBps are measured, bits per second, as in [PublisherStats].
	AverageBps int64 `json:"average_bps"`
	PeakBps    int64 `json:"peak_bps"`
}

// RenditionFreshFor is how long a RenditionState holds without being written again.
const RenditionFreshFor = 5 * time.Second

// Fresh reports whether the rendition is being made, of whatever epoch.
func (r *RenditionState) Fresh(now time.Time) bool {
	return r.Live && now.Sub(time.UnixMicro(r.UpdatedUnixUs)) < RenditionFreshFor
}

// LiveIn reports whether the rendition is being made of the stream's current epoch.
func (r *RenditionState) LiveIn(s *StreamState, now time.Time) bool {
	return r.Fresh(now) && r.Epoch.Epoch == s.Epoch.Epoch && r.App == s.App && r.Stream == s.Stream
}

// ParseRenditionState reads an entry of the bucket renditions.
func ParseRenditionState(key string, value []byte) (*RenditionState, error) {
	var r RenditionState
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	if err := (StreamKey{r.App, r.Stream}).Check(); err != nil {
		return nil, err
	}
	if err := CheckName("rendition", r.Rendition); err != nil {
		return nil, err
	}
	if want := r.App + "." + r.Stream + "." + r.Rendition; key != want {
		return nil, fmt.Errorf("the rendition under key %s is %s", key, want)
	}
	if len(r.Epoch.Tracks) == 0 {
		return nil, errors.New("epoch has no track")
	}
	for i := range r.Epoch.Tracks {
		if err := r.Epoch.Tracks[i].Track.Check(); err != nil {
			return nil, err
		}
	}
	return &r, nil
}
