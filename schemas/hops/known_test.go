package hops_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

// Whatever names players make up, ingest's parts have room and are told of.
func TestMadeUpPartsPushNothingOut(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := hops.NewKnown(hops.PerCDN)
	madeUp, wanted := part, 0
	madeUp.Rendition = "none"
	const names = 110_000 // more than there is room for ingest's
	for i := range names {
		madeUp.MSN = uint64(i)
		if _, ok := k.Take(madeUp, schemas.HopPlayer, "a", false, now); ok {
			wanted++
		}
	}
	if wanted == 0 || wanted > names/5 {
		t.Errorf("%d of %d made-up parts are wanted", wanted, names)
	}
	k.Learn(part, doneUs, now)
	if us, ok := k.Take(part, schemas.HopPlayer, "a", false, now); us != doneUs || !ok {
		t.Errorf("ingest's part: %d, wanted %v", us, ok)
	}
	other := part
	other.Rendition = "720p"
	if _, ok := k.Take(other, schemas.HopEdge, "a", false, now); !ok {
		t.Error("what players made up leaves edges no room")
	}
	if _, ok := k.Take(other, schemas.HopPlayer, "a", false, now.Add(6*time.Minute)); !ok {
		t.Error("no room after minutes")
	}
}

func TestKindsOfRowsAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := hops.NewKnown(1)
	k.Learn(part, doneUs, now)
	wanted := 0
	for i := range 1000 {
		if _, ok := k.Take(part, schemas.HopEdge, strconv.Itoa(i), false, now); ok {
			wanted++
		}
	}
	if wanted < 20 || wanted > 100 {
		t.Errorf("rows from %d of 1000 CDNs are wanted", wanted)
	}
}

// Nobody lost what ingest never had.
func TestFailuresOfMadeUpParts(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	k := hops.NewKnown(1)
	k.Learn(part, doneUs, now)
	for _, c := range []struct {
		rendition string
		track     schemas.Track
		msn       uint64
		part      int
		want      bool
	}{
		{"src", schemas.Video, part.MSN, 0, true},
		{"src", schemas.Video, part.MSN, 7, false},
		{"src", schemas.Video, part.MSN, -1, true},
		{"720p", schemas.Audio, part.MSN, -1, true},
		{"src", schemas.Video, part.MSN + 4, -1, false},
	} {
		n := schemas.PartName{Key: part.Key, Rendition: c.rendition, Track: c.track, Epoch: part.Epoch, MSN: c.msn, Part: c.part}
		if _, got := k.Take(n, schemas.HopEdge, "a", true, now); got != c.want {
			t.Errorf("%s is missing: wanted %v", n, got)
		}
	}
}
