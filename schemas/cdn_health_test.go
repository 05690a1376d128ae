package schemas_test

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

func FuzzDecodeHealthQuery(f *testing.F) {
	f.Add([]byte(`{"cdn":"a","region":"eu","isp":"x"}`))
	f.Add([]byte(`{"cdn":"../a"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if q, err := schemas.DecodeHealthQuery(data); err == nil && schemas.CheckName("CDN", q.CDN) != nil {
			t.Errorf("%+v", q)
		}
	})
}
