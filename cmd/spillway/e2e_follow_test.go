package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"

	"github.com/spillway-live/spillway/workers/hls/hlscheck"
)

// follower is a strict low-latency player of one track: it starts from the
// multivariant playlist, reloads with blocking requests, checks every playlist
// against the rules, fetches every part once, and tolerates no failed request,
// no missing part and no doubled one.
type follower struct {
	multivariant string
	// took is given each part, if it is set.
	took func(uri string, body []byte)

	parts   int
	epochs  int           // epochs seen
	lastMSN uint64        // of the segment of the last part
	late    time.Duration // most by which a part came after the time of its last frame
	lateURI string

	client  http.Client
	base    *url.URL
	check   hlscheck.Checker
	epoch   string
	nextDTS uint64
}

func (f *follower) fetch(ctx context.Context, u string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %.200s", u, resp.Status, b)
	}
	return b, err
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) error {
	text, err := f.fetch(ctx, f.multivariant)
	if err != nil {
		return err
	}
	if f.base, err = variant(f.multivariant, text); err != nil {
		return err
	}
	seen := map[string]bool{}
	query, first := "", true
	for {
		u := *f.base
		u.RawQuery = query
		text, err := f.fetch(ctx, u.String())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		if v := f.check.Add(text); len(v) > 0 {
			return fmt.Errorf("%s: %s\n%s", u.String(), strings.Join(v, "\n"), text)
		}
		p := f.check.Last()
		if len(p.Segments) == 0 {
			return fmt.Errorf("no segment in %s", text)
		}
		for i := range p.Segments {
			s := &p.Segments[i]
			at := s.DateTime
			for _, part := range s.Parts {
				end := at.Add(time.Duration(part.Duration * float64(time.Second)))
				at = end
				if seen[part.URI] {
					continue
				}
				seen[part.URI] = true
				if first && i < len(p.Segments)-1 { // start in the last segment, at its beginning
					continue
				}
				if part.Gap {
					return fmt.Errorf("part %s is a gap", part.URI)
				}
				if late := now.Sub(end); !first && late > f.late {
					f.late, f.lateURI = late, part.URI
				}
				if err := f.part(ctx, part.URI, s.MSN); err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return err
				}
			}
		}
		first = false
		s := &p.Segments[len(p.Segments)-1]
		query = fmt.Sprintf("_HLS_msn=%d&_HLS_part=%d", s.MSN, len(s.Parts))
		if s.URI != "" {
			query = fmt.Sprintf("_HLS_msn=%d&_HLS_part=0", s.MSN+1)
		}
	}
}

// part fetches one part and checks that it continues the one before.
func (f *follower) part(ctx context.Context, uri string, msn uint64) error {
	ref, err := url.Parse(uri)
	if err != nil {
		return err
	}
	body, err := f.fetch(ctx, f.base.ResolveReference(ref).String())
	if err != nil {
		return err
	}
	var parts fmp4.Parts
	if err := parts.Unmarshal(body); err != nil || len(parts) != 1 || len(parts[0].Tracks) != 1 {
		return errors.Join(fmt.Errorf("%s is not one fragment of one track", uri), err)
	}
	tr := parts[0].Tracks[0]
	epoch, _, _ := strings.Cut(uri, "-")
	if epoch != f.epoch {
		f.epochs++
	} else if msn != f.lastMSN && msn != f.lastMSN+1 {
		return fmt.Errorf("%s belongs to segment %d, the part before to %d", uri, msn, f.lastMSN)
	} else if tr.BaseTime < f.nextDTS {
		return fmt.Errorf("%s starts at %d, the part before ended at %d: it is doubled", uri, tr.BaseTime, f.nextDTS)
	} else if tr.BaseTime-f.nextDTS > 90_000/2 { // half a second: more than an encoder drops here
		return fmt.Errorf("%s starts at %d, the part before ended at %d: a part is missing", uri, tr.BaseTime, f.nextDTS)
	}
	f.epoch, f.lastMSN, f.nextDTS = epoch, msn, tr.BaseTime
	for _, s := range tr.Samples {
		f.nextDTS += uint64(s.Duration)
	}
	f.parts++
	if f.took != nil {
		f.took(uri, body)
	}
	return nil
}

// follow runs f in the background; end stops it and gives its error.
func follow(t *testing.T, f *follower) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	t.Cleanup(cancel)
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the player noticed: %v", err)
		}
		t.Logf("followed %d parts in %d epochs; the latest came %s after its time (%s)", f.parts, f.epochs, f.late.Round(time.Millisecond), f.lateURI)
	}
}

// snapshot fetches the media playlist once.
func (f *follower) snapshot(ctx context.Context) (*hlscheck.Playlist, error) {
	if f.base == nil {
		text, err := f.fetch(ctx, f.multivariant)
		if err != nil {
			return nil, err
		}
		if f.base, err = variant(f.multivariant, text); err != nil {
			return nil, err
		}
	}
	text, err := f.fetch(ctx, f.base.String())
	if err != nil {
		return nil, err
	}
	p, err := hlscheck.Parse(text)
	if err == nil && len(p.Segments) == 0 {
		err = fmt.Errorf("no segment in %s", text)
	}
	return p, err
}

// variant gives the first media playlist of a multivariant one, which is at address.
func variant(address string, text []byte) (*url.URL, error) {
	base, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return base.Parse(line)
		}
	}
	return nil, fmt.Errorf("no variant in %s", text)
}
