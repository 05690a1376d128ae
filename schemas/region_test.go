package schemas

import (
	"slices"
	"strings"
	"testing"
)

// What a region says to itself stays there: of each kind of subject one is denied,
// and none that crosses links is.
func TestRegionDeniesWhatStaysInside(t *testing.T) {
	k := StreamKey{"live", "demo"}
	denied := func(subject string) bool {
		return slices.ContainsFunc(RegionDenies(), func(d string) bool {
			under, all := strings.CutSuffix(d, ">")
			return d == subject || all && strings.HasPrefix(subject, under)
		})
	}
	for _, s := range []string{
		"media.0.live.demo.src", "chunks.0.live.demo.src", "parts.0.live.demo.src.video", "partsdemand.live.demo", "demand.live.demo",
		HopsSubject(k), SubjectProbes, SubjectPublishProbes, SubjectSynthetic, SubjectRouterQueue, SubjectWarm, SubjectWarmed, SubjectRouterHealth, "leasealive.loader.x",
		TelemetrySubject(0), "slices.0", "events.x.live.demo", "decisions.x.live.demo", SubjectElsewhereParent, SubjectElsewhereBeyond, "exposures.x", PictureSubject(k), DeadSubject("loader"),
	} {
		if !denied(s) {
			t.Errorf("%s goes to other regions", s)
		}
	}
	for _, s := range RegionAllows("a", "b") {
		if denied(s) {
			t.Errorf("%s is allowed and denied", s)
		}
	}
}
