package dash

import (
	"strings"
	"testing"
)

// TestCapped: pictures above the cap are left out, sound and the lowest picture of each Period stay.
func TestCapped(t *testing.T) {
	set := func(video ...string) string {
		out := `<Period>` + "\n" + `<AdaptationSet id="1" contentType="video" mimeType="video/mp4" segmentAlignment="true" startWithSAP="1">` + "\n"
		for _, v := range video {
			out += `<Representation id="` + v + `-video" bandwidth="` + v + `" codecs="avc1">` + "\n<SegmentTemplate/>\n</Representation>\n"
		}
		return out + "</AdaptationSet>\n" + `<AdaptationSet id="2" contentType="audio" mimeType="audio/mp4">` + "\n" +
			`<Representation id="src-audio" bandwidth="9000000">` + "\n</Representation>\n</AdaptationSet>\n</Period>\n"
	}
	in := set("3000000", "1500000", "800000") + set("4000000", "2000000")
	if got, want := string(capped([]byte(in), 1_500_000)), set("1500000", "800000")+set("2000000"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := string(capped([]byte(in), 0)); got != in {
		t.Errorf("without a cap:\n%s", got)
	}
	if got := string(capped([]byte(in), 1)); strings.Count(got, "-video") != 2 || strings.Count(got, "-audio") != 2 {
		t.Errorf("below all:\n%s", got)
	}
}
