package schemas

import (
	"strings"
	"testing"
)

func TestSubjectsRoundTrip(t *testing.T) {
	k := StreamKey{App: "live", Stream: "demo-1"}
	gk, r, err := ParseMediaSubject(MediaSubject(k, SourceRendition))
	if err != nil || gk != k || r != SourceRendition {
		t.Errorf("media subject: %v %v %v", gk, r, err)
	}
	gk, r, tr, err := ParsePartSubject(PartSubject(k, SourceRendition, Audio))
	if err != nil || gk != k || r != SourceRendition || tr != Audio {
		t.Errorf("part subject: %v %v %v %v", gk, r, tr, err)
	}
	if gk, err := ParsePictureSubject(PictureSubject(k)); err != nil || gk != k {
		t.Errorf("picture subject: %v %v", gk, err)
	}
	for p := range TelemetryPartitions {
		if got, err := ParsePartitionSubject("telemetry", TelemetrySubject(p)); err != nil || got != p {
			t.Errorf("telemetry subject of %d: %d %v", p, got, err)
		}
		if got, err := ParsePartitionSubject("slices", SlicesSubject(p)); err != nil || got != p {
			t.Errorf("slices subject of %d: %d %v", p, got, err)
		}
	}
}

func TestSubjectsRefuseWhatTheyCannotHaveMade(t *testing.T) {
	k := StreamKey{App: "live", Stream: "demo"}
	other := StreamKey{App: "live", Stream: "demo2"}
	wrong := strings.Replace(MediaSubject(k, "src"), "demo", "demo2", 1)
	if k.MediaPartition() == other.MediaPartition() {
		t.Fatal("the two names of this test share a partition; choose others")
	}
	for _, s := range []string{"", "media", "media.1.live.demo", wrong, "media.x.live.demo.src", "parts.0.live.demo.src", MediaSubject(k, "s*")} {
		if _, _, err := ParseMediaSubject(s); err == nil {
			t.Errorf("media subject %q was taken", s)
		}
	}
	for _, s := range []string{"", PartSubject(k, "src", "data"), MediaSubject(k, "src")} {
		if _, _, _, err := ParsePartSubject(s); err == nil {
			t.Errorf("part subject %q was taken", s)
		}
	}
	for _, s := range []string{"telemetry", "telemetry.", "telemetry.-1", "telemetry.8", "telemetry.07", "slices.1"} {
		if _, err := ParsePartitionSubject("telemetry", s); err == nil {
			t.Errorf("partition subject %q was taken", s)
		}
	}
}

func TestPartitionsAreUsedEvenly(t *testing.T) {
	media, tel := make([]int, MediaPartitions), make([]int, TelemetryPartitions)
	const n = 16000
	for i := range n {
		name := "s" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + itoa(i)
		media[StreamKey{"live", name}.MediaPartition()]++
		tel[TelemetryPartition(name)]++
	}
	for p, c := range media {
		if c < n/MediaPartitions*8/10 || c > n/MediaPartitions*12/10 {
			t.Errorf("media partition %d has %d of %d", p, c, n)
		}
	}
	for p, c := range tel {
		if c < n/TelemetryPartitions*8/10 || c > n/TelemetryPartitions*12/10 {
			t.Errorf("telemetry partition %d has %d of %d", p, c, n)
		}
	}
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "A-Z_09", strings.Repeat("x", MaxNameLen)} {
		if err := CheckName("name", ok); err != nil {
			t.Errorf("%q is refused: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "a.b", "a b", "a/b", "a*", ">", "ä", "a\n", strings.Repeat("x", MaxNameLen+1)} {
		if CheckName("name", bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestEventSubjectHasNoForeignTokens(t *testing.T) {
	e := &Event{Kind: EventPublishRefused, App: "a.b>*", Stream: ""}
	if got := EventSubject(e); got != "events.publish_refused._._" {
		t.Errorf("subject %q", got)
	}
}

func TestParseDecisionSubject(t *testing.T) {
	d := Decision{Kind: DecisionSteering, App: "live", Stream: "demo"}
	if got := ParseDecisionSubject(DecisionSubject(&d)); got != (StreamKey{"live", "demo"}) {
		t.Errorf("%+v", got)
	}
	for _, s := range []string{"", "decisions", "decisions.steering.live", "decisions.steering._._", "decisions.dispatch.live._", "slices.a.b.c", DecisionSubject(&Decision{Kind: DecisionDispatch})} {
		if got := ParseDecisionSubject(s); got != (StreamKey{}) {
			t.Errorf("%q: %+v", s, got)
		}
	}
}
