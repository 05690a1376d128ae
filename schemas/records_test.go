package schemas

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func sampleDecision() *Decision {
	return &Decision{
		ID: "d1", TimeUs: 1795167643634000, Kind: DecisionDispatch, App: "live", Stream: "demo", SessionID: "s1", Region: "eu",
		Policy: "affinity", PolicyVersion: "1", Candidates: []Candidate{{CDN: "a", Score: 1, Viewers: 3}, {CDN: "b", Score: 0.5, Excluded: "draining"}},
		Chosen: "a", Probability: 1, ReasonCode: "affinity", InputAgeMs: 120,
	}
}

func sampleExposure() *Exposure {
	return &Exposure{ID: "x1", TimeUs: 1795167643634000, Experiment: "latency", Salt: "p1", Unit: "v1", UnitKind: "viewer",
		SessionID: "s1", ViewerID: "v1", App: "live", Stream: "demo", Arm: "low", Propensity: 0.5, Reason: "assigned"}
}

func sampleEvent() *Event {
	return &Event{ID: "e1", TimeUs: 1795167643634000, Kind: EventPublishRefused, App: "live", Stream: "demo", Reason: "stream key has expired 5 s ago",
		Detail: map[string]string{"peer": "loopback"}}
}

func TestRecordsGoldenAndRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		file      string
		rec, into checker
	}{
		{"decision_v1.json", sampleDecision(), &Decision{}},
		{"exposure_v1.json", sampleExposure(), &Exposure{}},
		{"event_v1.json", sampleEvent(), &Event{}},
	} {
		b, err := EncodeRecord(tc.rec)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, tc.file, b)
		if err := DecodeRecord(b, tc.into); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(tc.rec, tc.into) {
			t.Errorf("%s: got %+v, want %+v", tc.file, tc.into, tc.rec)
		}
	}
}

// Several decisions are in one message as a JSON array.
func TestManyRecordsInOneMessage(t *testing.T) {
	one, err := EncodeRecord(sampleDecision())
	if err != nil {
		t.Fatal(err)
	}
	many := func(n int) []byte {
		return append(append([]byte{'['}, bytes.Join(slices.Repeat([][]byte{one}, n), []byte{','})...), ']')
	}
	golden(t, "decisions_v1.json", many(2))
	for n, data := range map[int][]byte{0: many(0), 1: one, 2: many(2), MaxRecords: many(MaxRecords)} {
		all, err := DecodeRecords[Decision](data)
		if err != nil || len(all) != n || n > 0 && !reflect.DeepEqual(&all[n-1], sampleDecision()) {
			t.Errorf("%d records: %d, %v", n, len(all), err)
		}
	}
	for _, bad := range []string{"", "[", string(many(MaxRecords + 1)), `[` + string(one) + `,{"id":"x"}]`, `[null]`} {
		if all, err := DecodeRecords[Decision]([]byte(bad)); err == nil || all != nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
}

func TestRecordsRefuseNonsense(t *testing.T) {
	d := sampleDecision()
	d.Probability = 0
	if _, err := EncodeRecord(d); err == nil {
		t.Error("a decision with probability 0 was taken: it can never have been made")
	}
	x := sampleExposure()
	x.Propensity = 1.5
	if _, err := EncodeRecord(x); err == nil {
		t.Error("a propensity above 1 was taken")
	}
	e := sampleEvent()
	e.TimeUs = 1795167643
	if _, err := EncodeRecord(e); err == nil || !strings.Contains(err.Error(), "microseconds") {
		t.Errorf("seconds for microseconds: %v", err)
	}
}

func TestExperimentCheckNamesTheField(t *testing.T) {
	good := func() *Experiment {
		return &Experiment{Name: "latency", Status: ExperimentRunning, Salt: "p1", Unit: "viewer", Layer: "player", Coverage: 1,
			Arms: []Arm{{Name: "control", Weight: 1}, {Name: "low", Weight: 1}}}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Experiment){
		"status":         func(x *Experiment) { x.Status = "on" },
		"unit":           func(x *Experiment) { x.Unit = "user" },
		"salt":           func(x *Experiment) { x.Salt = "" },
		"layer":          func(x *Experiment) { x.Layer = "a b" },
		"layer_from":     func(x *Experiment) { x.LayerFrom, x.LayerTo = 0.6, 0.5 },
		"coverage":       func(x *Experiment) { x.Coverage = 1.1 },
		"arms":           func(x *Experiment) { x.Arms = x.Arms[:1] },
		"arms[1].name":   func(x *Experiment) { x.Arms[1].Name = "control" },
		"arms[0].weight": func(x *Experiment) { x.Arms[0].Weight = -1 },
		"targeting": func(x *Experiment) {
			x.Unit, x.Targeting, x.Arms[1].Params = UnitStream, &Targeting{Regions: []string{"eu"}}, map[string]string{ParamPartTargetMs: "200"}
		},
		"weights sum": func(x *Experiment) { x.Arms[0].Weight, x.Arms[1].Weight = 0, 0 },
	} {
		x := good()
		edit(x)
		if err := x.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestCDNCheck(t *testing.T) {
	good := CDN{Name: "a", BaseURL: "http://127.0.0.1:1", State: CDNActive}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*CDN){
		"CDN name": func(c *CDN) { c.Name = "" },
		"base_url": func(c *CDN) { c.BaseURL = "ftp://x" },
		"trailing": func(c *CDN) { c.BaseURL += "/" },
		"state":    func(c *CDN) { c.State = "up" },
		"negative": func(c *CDN) { c.CapacityBps = -1 },
	} {
		c := good
		edit(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %s", err, want)
		}
	}
	var c CDN
	if err := UnmarshalStrict([]byte(`{"name":"a","baseurl":"http://x"}`), &c); err == nil {
		t.Error("a mistyped field was taken")
	}
	if err := UnmarshalStrict([]byte(`{"name":"a"} {}`), &c); err == nil {
		t.Error("trailing data was taken")
	}
}

func FuzzDecodeRecord(f *testing.F) {
	b, err := json.Marshal(sampleDecision())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("[" + string(b) + "," + string(b) + "]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if all, err := DecodeRecords[Decision](data); err == nil {
			for i := range all {
				if _, err := EncodeRecord(&all[i]); err != nil {
					t.Errorf("accepted record does not encode: %v", err)
				}
			}
		}
		for _, r := range []checker{&Decision{}, &Exposure{}, &Event{}} {
			if DecodeRecord(data, r) == nil {
				if _, err := EncodeRecord(r); err != nil {
					t.Errorf("accepted record does not encode: %v", err)
				}
			}
		}
	})
}
