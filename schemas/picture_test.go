package schemas

import (
	"encoding/json"
	"testing"
)

func TestPictureHeaderIsReadBack(t *testing.T) {
	p := Picture{Version: 1, App: "live", Stream: "demo", WallUnixUs: 1_795_167_643_634_000, ContentID: "live/demo/src/1/7", Width: 320, Height: 180, Epoch: 1,
		Hash: 0x0123456789abcdef, Cells: []byte{1, 2, 255}, Luma: 101.5, Black: 0.25, Distance: -1, StillMs: 5000}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "picture_v1.json", b)
	got, err := ParsePicture("pictures.live.demo", string(b))
	if err != nil || got.Hash != p.Hash || string(got.Cells) != string(p.Cells) || got.StillMs != p.StillMs {
		t.Errorf("%+v %v", got, err)
	}
	// What earlier workers wrote is read, too.
	if got, err := ParsePicture("pictures.live.demo", `{"v":1,"app":"live","stream":"demo","wall_us":5,"cid":"x","width":320,"height":180}`); err != nil || got.Hash != 0 {
		t.Errorf("%+v %v", got, err)
	}
	for _, text := range []string{
		``, `{}`, `{"app":"live","stream":"other"}`, `{"app":"live","stream":"demo","black":2}`, `{"app":"live","stream":"demo","hash":"xyz"}`,
		`{"app":"live","stream":"demo","still_ms":-1}`,
	} {
		if p, err := ParsePicture("pictures.live.demo", text); err == nil {
			t.Errorf("%s is %+v", text, p)
		}
	}
}

func TestPictureSettingsAndReviewRules(t *testing.T) {
	good := AppSettings{
		Pictures: &PictureSettings{IntervalMs: 1000, Width: 480, KeepSec: 3600, FrozenMs: -1},
		Review:   []ReviewRule{{Label: "nudity", MinScore: 0.9, Hide: true, HideSec: 600}},
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, p := range []PictureSettings{{IntervalMs: 10}, {Width: 5}, {KeepSec: -1}, {FrozenMs: -2}, {BlackMs: 1e10}} {
		if (&AppSettings{Pictures: &p}).Check() == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	for _, r := range []ReviewRule{{Label: "x"}, {Label: "a b", Hide: true}, {Label: "x", MinScore: 2, Hide: true}, {Label: "x", Hide: true, HideSec: -1}} {
		if (&AppSettings{Review: []ReviewRule{r}}).Check() == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}

func FuzzParsePicture(f *testing.F) {
	f.Add(`{"v":1,"app":"live","stream":"demo","wall_us":5,"cid":"x","width":320,"height":180,"hash":"0123456789abcdef","cells":"AQI=","luma":3,"black":0.5,"distance":-1}`)
	f.Fuzz(func(t *testing.T, header string) {
		if p, err := ParsePicture("pictures.live.demo", header); err == nil && (p.App != "live" || p.Stream != "demo") {
			t.Errorf("a picture of %s", p.Key())
		}
	})
}

func FuzzParseVerdict(f *testing.F) {
	f.Add("verdicts.live.demo", []byte(`{"label":"nudity","score":0.97,"model":"m","wall_us":1795167643634000,"note":"x"}`))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		if k, v, err := ParseVerdict(subject, data); err == nil && (k.Check() != nil || v.Check() != nil) {
			t.Errorf("%s %+v", k, v)
		}
	})
}
