package screenshot

import (
	"bytes"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"

	"github.com/spillway-live/spillway/workers/cmaf"
)

// params gives the parameter sets of a shot.
func params(t testing.TB, s shot) [][]byte {
	t.Helper()
	i, err := cmaf.ParseInit(s.init)
	if err != nil {
		t.Fatal(err)
	}
	return i.Params
}

// A rewritten parameter set says the same of the picture, and that none is reordered.
func TestParameterSetsAreRewritten(t *testing.T) {
	t.Parallel()
	all := shots(t, "avc", "hevc")
	var before, after h264.SPS
	sps := params(t, all["avc"])[0]
	if err := before.Unmarshal(sps); err != nil {
		t.Fatal(err)
	}
	if err := after.Unmarshal(withoutReordering(avc, sps)); err != nil {
		t.Fatal(err)
	}
	if before.VUI == nil || before.VUI.BitstreamRestriction == nil || before.VUI.BitstreamRestriction.MaxNumReorderFrames == 0 {
		t.Fatalf("the clip reorders nothing: %+v", before.VUI)
	}
	if r := after.VUI.BitstreamRestriction; r == nil || r.MaxNumReorderFrames != 0 || after.Width() != before.Width() || after.Height() != before.Height() || after.ProfileIdc != before.ProfileIdc {
		t.Errorf("%+v, %d x %d", after.VUI, after.Width(), after.Height())
	}
	for _, p := range params(t, all["hevc"]) {
		if h265.NALUType(p[0]>>1&0x3f) != h265.NALUType_SPS_NUT {
			if !bytes.Equal(withoutReordering(hevc, p), p) {
				t.Error("another parameter set was changed")
			}
			continue
		}
		var before, after h265.SPS
		if err := before.Unmarshal(p); err != nil {
			t.Fatal(err)
		}
		if err := after.Unmarshal(withoutReordering(hevc, p)); err != nil {
			t.Fatal(err)
		}
		last := len(before.MaxNumReorderPics) - 1
		if before.MaxNumReorderPics[last] == 0 || after.MaxNumReorderPics[last] != 0 || after.Width() != before.Width() || after.Height() != before.Height() {
			t.Errorf("before %+v, after %+v", before, after)
		}
	}
}

func FuzzWithoutReordering(f *testing.F) {
	for _, s := range shots(f, "small", "portrait") {
		f.Add(0, params(f, s)[0])
	}
	f.Add(1, []byte{0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 8, 5, 0xa1})
	f.Fuzz(func(t *testing.T, c int, nal []byte) {
		given := bytes.Clone(nal)
		out := withoutReordering(codec(c&1), nal)
		if !bytes.Equal(given, nal) {
			t.Error("the parameter set given was changed")
		}
		if len(out) > 2*len(nal)+16 {
			t.Errorf("%d bytes became %d", len(nal), len(out))
		}
	})
}
