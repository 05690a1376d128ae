package schemas_test

import (
	"encoding/json"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

func FuzzDecodeWarm(f *testing.F) {
	f.Add([]byte(`[{"app":"live","stream":"demo","cdn":"b","region":"eu"}]`))
	f.Add([]byte(`[{"app":"live","stream":"..","cdn":"b"}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := schemas.DecodeWarm(data)
		if err != nil {
			return
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := schemas.DecodeWarm(b); err != nil && len(b) < 8192 || len(all) > schemas.MaxWarm || err == nil && len(again) != len(all) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}
