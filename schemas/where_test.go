package schemas_test

import (
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

func TestWhere(t *testing.T) {
	for _, region := range []string{"", "eu", "Île de France"} {
		w := schemas.Where{TimeUs: 1_795_000_000_000_001, SessionID: "s1", CDN: "cdn-1", Group: 15, Region: region}
		for _, s := range []string{w.String(), strings.TrimSpace(w.String())} {
			if got, err := schemas.ParseWhere(s); got != w || err != nil {
				t.Errorf("%q: %+v, %v", s, got, err)
			}
		}
	}
	if _, ok := (&schemas.Decision{Kind: schemas.DecisionPublish, SessionID: "s", Chosen: "a"}).Where(); ok {
		t.Error("a publisher's decision sends a session")
	}
}

func FuzzParseWhere(f *testing.F) {
	f.Add("1 s1 a 3 eu")
	f.Add("1 s1 a 300")
	f.Add("1  a 3 ")
	f.Add("x s1 a 3 eu")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := schemas.ParseWhere(s)
		if err != nil {
			return
		}
		if again, err := schemas.ParseWhere(w.String()); again != w || err != nil {
			t.Errorf("%q: %+v, %v", s, again, err)
		}
	})
}
