package origin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"

	"github.com/spillway-live/spillway/workers/hls/hlscheck"
)

// follower is a strict player of one track: it reloads with directives, checks
// every playlist against the rules, and fetches every part once.
type follower struct {
	base    string // URL of the track's folder
	delta   bool
	check   hlscheck.Checker
	bodies  map[string][]byte // whole playlists by what they end in
	parts   []string          // every part fetched, in order
	nextDTS uint64            // of the current epoch
	epoch   string
	gaps    int
	jumps   int // discontinuities seen
}

// run follows until the part with this name has been fetched.
func (f *follower) run(ctx context.Context, last string) error {
	f.bodies = map[string][]byte{}
	seen := map[string]bool{}
	query := ""
	for {
		url := f.base + "playlist.m3u8" + query
		a, err := fetch(ctx, http.MethodGet, url)
		if err != nil {
			return err
		}
		if a.code != 200 {
			return fmt.Errorf("%s: %d %s", url, a.code, a.body)
		}
		if v := f.check.Add(a.body); len(v) > 0 {
			return fmt.Errorf("%s: %s\n%s", url, strings.Join(v, "\n"), a.body)
		}
		p := f.check.Last()
		f.bodies[p.Hint] = a.body
		for i := range p.Segments {
			s := &p.Segments[i]
			for _, part := range s.Parts {
				if seen[part.URI] {
					continue
				}
				seen[part.URI] = true
				if s.Discontinuity && part.URI == s.Parts[0].URI {
					f.jumps++
				}
				if part.Gap {
					f.gaps++
					f.epoch = "" // the next part starts anew
					continue
				}
				if err := f.part(ctx, part.URI); err != nil {
					return err
				}
				if part.URI == last {
					return nil
				}
			}
		}
		s := &p.Segments[len(p.Segments)-1]
		query = fmt.Sprintf("?_HLS_msn=%d&_HLS_part=%d", s.MSN, len(s.Parts))
		if s.URI != "" {
			query = fmt.Sprintf("?_HLS_msn=%d&_HLS_part=0", s.MSN+1)
		}
		if f.delta {
			query += "&_HLS_skip=YES"
		}
	}
}

// part fetches one part and checks that it continues the one before.
func (f *follower) part(ctx context.Context, uri string) error {
	a, err := fetch(ctx, http.MethodGet, f.base+uri)
	if err != nil {
		return err
	}
	if a.code != 200 {
		return fmt.Errorf("%s: %d", uri, a.code)
	}
	var parts fmp4.Parts
	if err := parts.Unmarshal(a.body); err != nil || len(parts) != 1 {
		return fmt.Errorf("%s: %d fragments, %w", uri, len(parts), err)
	}
	tr := parts[0].Tracks[0]
	epoch, _, _ := strings.Cut(uri, "-")
	if epoch == f.epoch && tr.BaseTime != f.nextDTS {
		return fmt.Errorf("%s starts at %d, the part before ended at %d: a part is missing or double", uri, tr.BaseTime, f.nextDTS)
	}
	f.epoch, f.nextDTS = epoch, tr.BaseTime
	for _, s := range tr.Samples {
		f.nextDTS += uint64(s.Duration)
	}
	f.parts = append(f.parts, uri)
	return nil
}

// follow starts a follower; wait gives its error.
func follow(t *testing.T, f *follower, last string) (wait func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	done := make(chan error, 1)
	go func() { defer cancel(); done <- f.run(ctx, last) }()
	return func() error { return <-done }
}
