package router

import (
	"net/url"
	"testing"
	"time"
)

func TestBufferOfASteeringRequest(t *testing.T) {
	for query, want := range map[string]int64{
		"": 0, "bl=7200": 7200, "bl=-1": 0, "bl=x": 0, "bl=99999999999": 0,
		"CMCD=" + url.QueryEscape("bl=(8000;v 6100;a),v=2"): 6100, "CMCD=" + url.QueryEscape("bl=4000,sid=\"x\""): 4000, "CMCD=%22&bl=5": 5,
	} {
		v, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := bufferOf(v); got != want {
			t.Errorf("%s: %d ms, want %d", query, got, want)
		}
	}
}

// TestFewTryAndNewSessionsAreSpared: about as many sessions as are needed, however
// many could, and thin buffers never.
func TestFewTryAndNewSessionsAreSpared(t *testing.T) {
	var d deepBuffers
	now := time.Unix(1_795_000_000, 0)
	if d.any(now) || d.share(deepBufferMs-1, now) != 0 || d.any(now) {
		t.Error("a thin buffer counts")
	}
	for range 3 { // rounds
		tried := 0.0
		for range 2000 {
			tried += d.share(20_000, now)
			now = now.Add(deepRound / 2000)
		}
		if now.Sub(d.from) > 0 && d.last == 2000 && (tried < testers/2 || tried > 2*testers) {
			t.Errorf("%.1f of 2000 sessions try in a round", tried)
		}
	}
	if got := d.share(20_000, now); got > 2*testers/2000.0 {
		t.Errorf("share %v of 2000", got)
	}
	if !d.any(now) || d.any(now.Add(5*deepRound)) {
		t.Error("those who asked lately spare new sessions, those of long ago do not")
	}
	if got := d.share(20_000, now.Add(10*deepRound)); got != maxTest {
		t.Errorf("a lone session tries with %v", got)
	}
}
