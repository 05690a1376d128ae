package session_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

// TestColumnsLeftOutAreNotLookedAt feeds rows with every column at random, and
// the same rows with Columns alone: the slices must be equal.
func TestColumnsLeftOutAreNotLookedAt(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	table := schemas.TelemetryTable()
	whole, some := session.New(session.Config{}), session.New(session.Config{})
	made := 0
	for tick := range int64(60) {
		rows := make([]schemas.Telemetry, 200)
		for i := range rows {
			randomRow(rnd, &rows[i], 1_700_000_000_000+tick*1000)
		}
		data, err := table.Encode(rows)
		if err != nil {
			t.Fatal(err)
		}
		all, err := table.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(all, rows) {
			t.Fatal("rows differ after encoding")
		}
		few, err := table.DecodeColumns(data, session.Columns(), nil)
		if err != nil {
			t.Fatal(err)
		}
		now := 1_700_000_000_000 + tick*1000
		whole.Add(all, now)
		some.Add(few, now)
		a, b := whole.Tick(now+1000), some.Tick(now+1000)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("tick %d: slices differ", tick)
		}
		made += len(a)
	}
	if made < 1000 || whole.Stats() != some.Stats() {
		t.Errorf("%d slices; %+v against %+v", made, whole.Stats(), some.Stats())
	}
}

func randomRow(rnd *rand.Rand, r *schemas.Telemetry, nowMs int64) {
	words := []string{"", "a", "p", "r", "s", "rr", "ps", "v", "x.m4s", "end"}
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i).Addr().Interface().(type) {
		case *string:
			*f = words[rnd.IntN(len(words))]
		case *int64:
			*f = rnd.Int64N(1000)
		case *schemas.OptInt32:
			if f.OK = rnd.IntN(2) == 0; f.OK {
				f.V = rnd.Int32N(5000)
			}
		case *schemas.OptInt64:
			if f.OK = rnd.IntN(2) == 0; f.OK {
				f.V = rnd.Int64N(5000)
			}
		case *schemas.OptFloat64:
			if f.OK = rnd.IntN(2) == 0; f.OK {
				f.V = rnd.Float64()
			}
		case *schemas.OptBool:
			if f.OK = rnd.IntN(2) == 0; f.OK {
				f.V = rnd.IntN(2) == 0
			}
		}
	}
	r.ReceivedUnixUs, r.TsUnixMs = nowMs*1000, nowMs-rnd.Int64N(3000)
	r.Source = []string{schemas.SourceCMCDEvent, schemas.SourceCMCDEvent, schemas.SourceBeacon, schemas.SourceCMCDRequest, schemas.SourceCDNLog}[rnd.IntN(5)]
	r.SessionID = string(rune('A' + rnd.IntN(20)))
}
