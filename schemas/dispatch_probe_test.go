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
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p ProbeReport
		if UnmarshalStrict(b, &p) != nil || p.Check() != nil {
			return
		}
		for _, r := range p.Results {
			if CheckName("cdn", r.CDN) != nil || r.FirstByteMs < 0 || r.FirstByteMs > MaxProbeMs || r.TotalMs > MaxProbeMs || len(p.Results) > MaxProbeResults {
				t.Errorf("taken: %+v", p)
			}
		}
		if _, err := json.Marshal(&p); err != nil {
			t.Error(err)
		}
	})
}
