package router

import (
	"encoding/json"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// TestPlayAnswerAsEncoded: what is put together by hand is what encoding/json makes of a schemas.Dispatch.
func TestPlayAnswerAsEncoded(t *testing.T) {
	formats := []manifestFormat{{schemas.TransportLLHLS, "multivariant.m3u8"}, {schemas.TransportDASH, "manifest.mpd"}}
	head := schemas.Dispatch{
		SessionID: "s1", Token: "sTOKEN.mac", App: "live", Stream: "demo", ContentID: "live/demo", URL: "http://r/v1/play/live/demo/multivariant.m3u8?s=sTOKEN.mac&steer=0",
		Telemetry: "http://c/v1/cmcd?t=sTOKEN.mac", Beacon: "http://c/v1/beacon?t=sTOKEN.mac", Clock: "http://c/v1/clock?a=1&b=2", Probes: "http://r/v1/probes?s=sTOKEN.mac",
		ExpiresUnix: 5, FreshSec: 60, ClearKey: "http://r/v1/keys/clearkey?s=sTOKEN.mac", InputAgeMs: -1, Arms: "x=a", Params: map[string]string{"b": "<é>", "a": "1"},
	}
	list := []schemas.Candidate{{CDN: "a", Tier: "room", Score: -0.0051}, {CDN: "b", Score: 1e-9}}
	a := playAnswer{head: head, folder: "/live/demo/", formats: formats, candidates: []playCandidate{
		{Candidate: &list[0], before: "https://a.example/t/"}, {Candidate: &list[1], base: "https://b.example/s/sum&x/9"},
	}}
	want := head
	at := func(base, query string) (first string, all []schemas.DispatchTransport) {
		for _, f := range formats {
			all = append(all, schemas.DispatchTransport{Name: f.name, Over: schemas.OverTCP, URL: base + "/live/demo/" + f.file + query})
		}
		return all[0].URL, all
	}
	x := schemas.DispatchCandidate{CDN: "a", Tier: "room", Score: -0.0051, ProbeURL: "https://a.example/t/sTOKEN.mac/live/demo/probe"}
	x.URL, x.Transports = at("https://a.example/t/sTOKEN.mac", "")
	y := schemas.DispatchCandidate{CDN: "b", Score: 1e-9, ProbeURL: "https://b.example/s/sum&x/9/live/demo/probe"}
	y.URL, y.Transports = at("https://b.example/s/sum&x/9", "?s=sTOKEN.mac")
	want.Candidates = []schemas.DispatchCandidate{x, y}
	check := func(a playAnswer, want schemas.Dispatch) {
		t.Helper()
		b, err := json.Marshal(&want)
		if got := string(a.append(nil)); err != nil || got != string(b) {
			t.Errorf("written %s\nencoded %s, %v", got, b, err)
		}
	}
	check(a, want)
	both, twice := a, want
	both.neighbours, twice.Neighbours = []playAnswer{a}, []schemas.Dispatch{want}
	check(both, twice)
	check(playAnswer{head: schemas.Dispatch{App: "live"}}, schemas.Dispatch{App: "live"})
}
