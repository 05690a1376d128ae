package source_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/analytics/sandbox/source"
	"github.com/spillway-live/spillway/schemas"
)

// TestFolder: what is written is read again, and a line that is wrong is named.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	want := &predict.Recording{
		CDNs: []schemas.CDN{{Name: "a", State: schemas.CDNActive}}, Player: sandbox.Player{SegmentSec: 2, Levels: []float64{1e6}}, SteeringTTLSec: 10,
		Sessions: []predict.Session{{ID: "s1", CDN: "a", Region: "eu", PlayedSec: 10, Stalls: 1, Probability: 0.5, Started: true}, {ID: "s2", CDN: "a"}},
	}
	if err := source.Write(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := source.Folder(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := source.ParseSessions(strings.NewReader("{}\n{\"session\":1}\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("unknown field: %v", err)
	}
	if _, err := source.Folder(t.TempDir()); err == nil {
		t.Error("an empty folder was read")
	}
	if _, err := source.Traces(t.TempDir()); err == nil {
		t.Error("a folder without traces was read")
	}
}

// TestParseTrace: repeated seconds are averaged, missing ones filled, nonsense refused.
func TestParseTrace(t *testing.T) {
	got, err := source.ParseTrace(strings.NewReader("t_s,dl_kbps,ping_ms\n0,100,\n1,200,5\n1,400,\n3,50,\n"))
	if want := []float64{100e3, 300e3, 300e3, 50e3}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "a,b\n1,2\n", "t_s,dl_kbps\n", "t_s,dl_kbps\nx,1\n", "t_s,dl_kbps\n-1,1\n", "t_s,dl_kbps\n1,NaN\n", "t_s,dl_kbps\n999999999,1\n", "t_s,dl_kbps\n1\n"} {
		if got, err := source.ParseTrace(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add("t_s,dl_kbps\n0,100\n2,5\n")
	f.Add("t_s,dl_kbps\n\"0,1\n")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := source.ParseTrace(strings.NewReader(s))
		if err == nil && len(got) == 0 {
			t.Error("neither a trace nor an error")
		}
		for _, x := range got {
			if !(x >= 0 && x <= 1e11) {
				t.Errorf("rate %v", x)
			}
		}
	})
}

func FuzzParseSessions(f *testing.F) {
	f.Add(`{"session_id":"s1","cdn":"a","played_s":1e300}`)
	f.Add("{}\n\n[]")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := source.ParseSessions(strings.NewReader(s))
		if err != nil && got != nil {
			t.Error("sessions beside an error")
		}
	})
}
