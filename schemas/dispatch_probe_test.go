package schemas

import (
	"encoding/json"
	"testing"
)

// FuzzProbeReport: what is taken is within its bounds, and nothing panics.
func FuzzProbeReport(f *testing.F) {
	for _, s := range []string{
		`{"results":[{"cdn":"a","first_byte_ms":12.5,"total_ms":13}]}`, `{"results":[{"cdn":"a","failed":true},{"cdn":"b"}]}`,
		`{"results":[]}`, `{"results":[{"cdn":"a","first_byte_ms":1e309}]}`, `[]`, `{"results":[{"cdn":"a"},{"cdn":"a"}]}`,
		`{"results":[{"cdn":"a","transport":"srt","first_byte_ms":1,"total_ms":1},{"cdn":"a","transport":"rtmp","failed":true}]}`, `{"results":[{"cdn":"a","transport":"quic"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p ProbeReport
		if UnmarshalStrict(b, &p) != nil {
			return
		}
		player, publisher := p.Check() == nil, p.CheckPublish() == nil
		if player && publisher {
			t.Errorf("both a player's and a publisher's: %+v", p)
		}
		if !player && !publisher {
			return
		}
		for _, r := range p.Results {
			if CheckName("cdn", r.CDN) != nil || r.FirstByteMs < 0 || r.FirstByteMs > MaxProbeMs || r.TotalMs > MaxProbeMs || len(p.Results) > MaxPublishResults || player && len(p.Results) > MaxProbeResults {
				t.Errorf("taken: %+v", p)
			}
		}
		if _, err := json.Marshal(&p); err != nil {
			t.Error(err)
		}
	})
}
