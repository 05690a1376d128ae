package collect

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// What a collector counted reaches the bus, at the latest when it ends.
func TestCountsAreTold(t *testing.T) {
	r := newRig(t, nil)
	before := time.Now().Add(-time.Minute).UnixMicro()
	r.post("/v1/cmcd?t="+r.token(nil), "e=ps,sta=p,sid=\"s\",sn=0,v=2\ne=t,sid=\"s\",sn=1,v=2")
	if code, _, _ := r.do("POST", "/v1/beacon", "no JSON"); code != 400 {
		t.Fatalf("bad beacon: %d", code)
	}
	r.rows(2)
	r.stop()
	cons, err := r.bus.JS.OrderedConsumer(t.Context(), schemas.StreamEvents, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"events." + string(schemas.EventCollectorCounts) + ".>"}, DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for got["accepted.cmcd_event"] == "" || got["rejected.bad_json"] == "" { // a minute may end in between
		msg, err := cons.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err != nil {
			t.Fatalf("no more events: %v; so far %v", err, got)
		}
		var e schemas.Event
		if err := json.Unmarshal(msg.Data(), &e); err != nil {
			t.Fatal(err)
		}
		if e.TimeUs < before || e.TimeUs > time.Now().UnixMicro() || e.Check() != nil {
			t.Errorf("event %+v", e)
		}
		for k, v := range e.Detail {
			got[k] = v
		}
	}
	if got["accepted.cmcd_event"] != "2" || got["rejected.bad_json"] != "1" || got["collector"] == "" {
		t.Errorf("%v", got)
	}
}
