package main

import (
	"slices"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas/token"
)

// TestSaltsAreReplacedAndKept: a salt serves its time, then a new one does; the
// old one still finds a viewer's rows until no table can have any.
func TestSaltsAreReplacedAndKept(t *testing.T) {
	dir := t.TempDir()
	s, err := loadSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	first := token.HashViewer(s.ViewerSalt, "ann")
	start := time.Unix(s.ViewerSaltFromUnix, 0)
	renew := func(at time.Time, want bool) *secrets {
		t.Helper()
		s, err := loadSecrets(dir)
		if err != nil {
			t.Fatal(err)
		}
		replaced, err := renewSalts(dir, s, at)
		if err != nil || replaced != want {
			t.Fatalf("replaced %v %v, want %v", replaced, err, want)
		}
		if s, err = loadSecrets(dir); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := renew(start.Add(90*24*time.Hour), false).viewerHashes("ann"); !slices.Equal(got, []string{first}) {
		t.Errorf("after 90 days: %v", got)
	}
	got := renew(start.Add(saltPeriod), true).viewerHashes("ann")
	if len(got) != 2 || got[0] == first || got[1] != first {
		t.Errorf("after the salt's time: %v, want a new hash and %s", got, first)
	}
	// The first salt is forgotten once the longest kept table has none of its rows.
	if s = renew(start.Add(saltPeriod+saltKept), true); slices.Contains(s.viewerHashes("ann"), first) || len(s.OldViewerSalts) != 1 {
		t.Errorf("salts kept for ever: %d", len(s.OldViewerSalts))
	}

	// A file of before salts were dated begins its time now.
	s.ViewerSaltFromUnix, s.OldViewerSalts = 0, nil
	if replaced, changed := s.renewSalt(start); replaced || !changed || s.ViewerSaltFromUnix != start.Unix() {
		t.Errorf("undated salt: %v %v %d", replaced, changed, s.ViewerSaltFromUnix)
	}
}
