package loader_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/ingest/collect"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// balanceQuery is the query of docs/analyst.md that shows the balance of a time range.
func balanceQuery(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../../docs/analyst.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "The balance of a time range")
	_, after, ok := strings.Cut(after, "```sql\n")
	if !ok {
		t.Fatal("docs/analyst.md has no query of the balance")
	}
	query, _, _ := strings.Cut(after, "\n```")
	return query
}

// TestBalanceAddsUp has a collector accept and refuse what players post, with
// gaps and repeats in it, and the bus carry a batch twice: the one query accounts for all of it.
func TestBalanceAddsUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c, err := collect.New(collect.Settings{JS: r.js, SpoolDir: t.TempDir(), FlushAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	web := httptest.NewServer(c.Handler())
	defer web.Close()
	post := func(path, body string, want int) {
		t.Helper()
		res, err := http.Post(web.URL+path, "application/cmcd", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Fatalf("%s %.60s: %d, want %d", path, body, res.StatusCode, want)
		}
	}
	at := time.Now().UnixMilli()
	events := func(sid string, seqs ...int) string {
		var b strings.Builder
		for _, sn := range seqs {
			fmt.Fprintf(&b, "cid=\"live/one\",e=t,sid=%q,sn=%d,sta=p,ts=%d,v=2\n", sid, sn, at+int64(sn))
		}
		return b.String()
	}
	post("/v1/cmcd", events("whole", 0, 1, 2, 3), 204)
	post("/v1/cmcd", events("gaps", 0, 1, 4, 5, 9), 204) // 2, 3, 6, 7 and 8 are lost
	post("/v1/cmcd", events("twice", 0, 1), 204)         // accepted, and
	post("/v1/cmcd", events("twice", 0, 1), 204)         // posted again by the player
	post("/v1/cmcd", events("bad", 0)+"<html>\nsid=\"bad\",sn=1,v=9\n", 204)
	post("/v1/cmcd", `e=t,v=2`, 204) // no session
	post("/v1/beacon", `[{"kind":"end","sid":"whole","sn":0},{"kind":"no good","sid":"whole"},{"kind":"end"}]`, 204)
	post("/v1/beacon", `{`, 400)
	post("/v1/publisher", `{"app":"live","stream":"one","sn":0,"interval_ms":5000,"stalled_ms":100}`, 204)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A publisher of the bus repeats what it had no answer to, when the bus has forgotten the message id.
	st, err := r.js.Stream(t.Context(), schemas.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	m, err := st.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	again := &nats.Msg{Subject: m.Subject, Data: m.Data, Header: m.Header}
	again.Header.Set(nats.MsgIdHdr, "forgotten")
	if _, err := r.js.PublishMsg(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	l, s := r.load(), r.sessionise()
	defer func() { l.end(t); s.end(t) }()

	conn, query := r.conn(), balanceQuery(t)
	const want = "accepted 17 raw 17 duplicates 4 of_sessions 15 slices 15 rollups 15 rejected 5 reasons map[bad_json:1 beacon_kind:1 future_version:1 no_session:1 useless:1] shed 0 lost 5"
	await.Text(t, "the balance", func() string {
		rows, err := conn.Query(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var accepted, raw, duplicates, ofSessions, slices, rollups, rejected, shed, lost int64
		var reasons map[string]int64
		for rows.Next() {
			if err := rows.Scan(&accepted, &raw, &duplicates, &ofSessions, &slices, &rollups, &rejected, &reasons, &shed, &lost); err != nil {
				t.Fatal(err)
			}
		}
		got := fmt.Sprintf("accepted %d raw %d duplicates %d of_sessions %d slices %d rollups %d rejected %d reasons %v shed %d lost %d",
			accepted, raw, duplicates, ofSessions, slices, rollups, rejected, reasons, shed, lost)
		if got != want {
			return got
		}
		return ""
	})
}
