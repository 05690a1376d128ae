package token

import (
	"encoding/json"
	"reflect"
	"testing"
)

func fullSteering() Steering {
	return Steering{
		Session: Session{
			SessionID: "sABC", App: "live", Stream: "demo", ViewerID: "v", CDN: "a", Pinned: true, Arms: "x=a,y=b", Region: "region 1", ISP: "isp", Keyed: true,
			Group: 255, MovedUnix: 1, ExpiresUnix: 1_900_000_000,
		},
		Format: "hls", Pathways: []string{"a", "b"}, Sent: "b", SentUnix: 1_800_000_000, Trying: true, Penalties: map[string]int64{"a": 1, "c": 1_800_000_300},
	}
}

// TestReadsWhatItWrites: the claims that routers write need no encoding/json.
func TestReadsWhatItWrites(t *testing.T) {
	for _, c := range []Steering{fullSteering(), {Session: Session{SessionID: "s", App: "a", Stream: "b", ExpiresUnix: 5}}} {
		var got Steering
		if !got.read(c.append(nil)) || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v, wrote %+v", got, c)
		}
	}
}

// FuzzRead: what is read is what encoding/json reads.
func FuzzRead(f *testing.F) {
	full := fullSteering()
	f.Add(full.append(nil))
	for _, s := range []string{
		`{}`, `{"sid":"a"}`, `{"sid":"a","sid":"b"}`, `{"pen":{"a":1,"a":2}}`, `{"pw":[],"pen":{}}`, `{"grp":256}`, `{"exp":01}`, `{"exp":-1}`, `{"SID":"a"}`,
		`{"sid":"\u0041"}`, `{"sid":"é"}`, `{"pin":false}`, `{"sid":null}`, `{"sid":"a",}`, `{,"sid":"a"}`, `{"pw":["a",]}`, `{"exp":1e3}`, `{"sid":"a"} `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, j []byte) {
		var got, want Steering
		if !got.read(j) {
			return
		}
		if err := json.Unmarshal(j, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, encoding/json reads %+v (%v)", j, got, want, err)
		}
	})
}
