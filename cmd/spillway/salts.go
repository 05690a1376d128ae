package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spillway-live/spillway/schemas/token"
)

const (
	// saltPeriod is how long a salt of viewer ids is in use: longer than sessions are kept (90 days), so that what a
	// viewer did can be joined over that time, and not for ever.
	saltPeriod = 120 * 24 * time.Hour
	// saltKept is how long a salt is kept after that: as long as any table has viewer ids (exposures, 400 days), so
	// that they can be erased.
	saltKept = 401 * 24 * time.Hour
)

// oldSalt is a salt that hashed viewer ids until some time.
type oldSalt struct {
	Salt      []byte `json:"salt"`
	FromUnix  int64  `json:"from,omitempty"`
	UntilUnix int64  `json:"until"`
}

// renewSalt replaces the salt when its time is over and forgets salts whose
// rows are gone. It changes s and reports whether something changed.
func (s *secrets) renewSalt(now time.Time) (replaced, changed bool) {
	kept := s.OldViewerSalts[:0]
	for _, o := range s.OldViewerSalts {
		if now.Sub(time.Unix(o.UntilUnix, 0)) < saltKept {
			kept = append(kept, o)
		}
	}
	changed = len(kept) != len(s.OldViewerSalts)
	s.OldViewerSalts = kept
	switch {
	case s.ViewerSaltFromUnix == 0: // made by a program that did not date it
		s.ViewerSaltFromUnix = now.Unix()
		return false, true
	case now.Sub(time.Unix(s.ViewerSaltFromUnix, 0)) < saltPeriod:
		return false, changed
	}
	s.OldViewerSalts = append(s.OldViewerSalts, oldSalt{Salt: s.ViewerSalt, FromUnix: s.ViewerSaltFromUnix, UntilUnix: now.Unix()})
	s.ViewerSalt = make([]byte, 32)
	rand.Read(s.ViewerSalt)
	s.ViewerSaltFromUnix = now.Unix()
	return true, true
}

// renewSalts does so in the data directory's file. Only "up" does it: roles
// alone have copies of the file, which must stay equal.
func renewSalts(dataDir string, s *secrets, now time.Time) (replaced bool, err error) {
	replaced, changed := s.renewSalt(now)
	if !changed {
		return false, nil
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return false, fmt.Errorf("renew the salt of viewer ids: %w", err)
	}
	if err := writeFile(filepath.Join(dataDir, "secrets.json"), append(b, '\n')); err != nil {
		return false, fmt.Errorf("renew the salt of viewer ids: %w", err)
	}
	return replaced, nil
}

// viewerHashes are what a viewer is called in everything stored, one name for each salt kept.
func (s *secrets) viewerHashes(viewer string) []string {
	out := []string{token.HashViewer(s.ViewerSalt, viewer)}
	for _, o := range s.OldViewerSalts {
		out = append(out, token.HashViewer(o.Salt, viewer))
	}
	return out
}
