package srt_test

import (
	"testing"

	"github.com/spillway-live/spillway/ingest/srt"
)

func TestParseStreamID(t *testing.T) {
	want := srt.StreamID{Key: demo, PublishKey: "k1", CDN: "b"}
	for _, id := range []string{
		"#!::r=live/demo,m=publish,k=k1,cdn=b", "#!::m=publish,key=k1,r=/live/demo,cdn=b,s=17,t=stream,h=host", "#!::r=live/demo?key=k1&cdn=b,m=publish",
		"live/demo?key=k1&cdn=b", "/live/demo?cdn=b&key=k1", "publish:live/demo?key=k1&cdn=b",
		"%23%21%3A%3Ar%3Dlive%2Fdemo%2Ck%3Dk1%2Ccdn%3Db", "live%2Fdemo%3Fkey%3Dk1%26cdn%3Db",
	} {
		if got, err := srt.ParseStreamID(id); err != nil || got != want {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	if got, err := srt.ParseStreamID("#!::u=me,r=live/demo"); err != nil || got.User != "me" || got.Key != demo {
		t.Errorf("%+v, %v", got, err)
	}
	for _, id := range []string{"", "live", "live/demo/x", "#!::m=publish", "#!:{r=live/demo}", "#!::r=live/demo,m=request", "read:live/demo", "live/demo?key=%zz", "live/de mo", "live/demo?cdn=a b", "#!::r=live/demo,t=file"} {
		if got, err := srt.ParseStreamID(id); err == nil {
			t.Errorf("%q is taken as %+v", id, got)
		}
	}
}

func FuzzStreamID(f *testing.F) {
	for _, id := range []string{"#!::r=live/demo,m=publish,k=k1,cdn=b", "publish:live/demo?key=k1", "#!:{}", "a/b?%"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		s, err := srt.ParseStreamID(id)
		if err == nil && s.Key.Check() != nil {
			t.Errorf("%q gives %+v", id, s)
		}
	})
}
