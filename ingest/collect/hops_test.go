package collect

import (
	"fmt"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// Rows about hops, which judges and probers believe, are of signed sessions and of edges only.
func TestWhoTellsOfHops(t *testing.T) {
	r := newRig(t, nil)
	const (
		path    = "/live/one/src/video/1-4.0.m4s"
		segment = "/live/one/src/video/1-8.m4s"
	)
	now := time.Now()
	n, ok := schemas.ParsePartPath(path)
	if !ok {
		t.Fatal("no part")
	}
	r.c.hops.Learn(n, now.UnixMicro(), now)
	event := func(sn int, cdn string) string {
		return fmt.Sprintf("cdn=\"%s\",cid=\"live/one\",e=rr,rc=200,sid=\"s\",sn=%d,ts=%d,ttlb=30,url=\"%s\",v=2\n", cdn, sn, now.UnixMilli(), path)
	}
	r.post("/v1/cmcd", event(0, "x"))
	if row := r.rows(1)[0]; row.Hop != "" || row.App != "live" {
		t.Errorf("unsigned: %+v", row)
	}
	tok := r.token(nil)
	var events string
	for i := range 6 { // CDNs that nobody has registered count as one
		events += event(i, fmt.Sprint("made-up-", i))
	}
	r.post("/v1/cmcd?t="+tok, events)
	marked := 0
	for _, row := range r.rows(6) {
		if row.Hop == schemas.HopPlayer && row.HopDelayMs.OK {
			marked++
		}
	}
	if marked != 3 {
		t.Errorf("%d rows of a signed session tell of the part, want 3", marked)
	}
	for i, c := range []struct {
		path, session string
		status        int
		want          string
	}{
		{path, "s", 200, schemas.HopEdge}, {path, "", 502, schemas.HopEdge}, {path, "", 403, ""},
		{segment, "s", 200, schemas.HopEdge}, {segment, "s", 404, ""},
	} {
		r.post("/v1/cdnlog", logLine(uint64(i+1), func(l *schemas.CDNLogLine) { l.Path, l.SessionID, l.Status = c.path, c.session, c.status }))
		if row := r.rows(1)[0]; row.Hop != c.want {
			t.Errorf("edge's line %+v: hop %q", c, row.Hop)
		}
	}
}
