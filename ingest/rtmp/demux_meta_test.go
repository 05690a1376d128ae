package rtmp

import (
	"testing"
	"time"

	"github.com/bluenviron/gortmplib/pkg/amf0"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

func TestClockInMetadata(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 34, 56, 250_000_000, time.UTC)
	o := func(kv ...any) amf0.Object {
		var out amf0.Object
		for i := 0; i < len(kv); i += 2 {
			out = append(out, amf0.ObjectEntry{Key: kv[i].(string), Value: kv[i+1]})
		}
		return out
	}
	for name, tc := range map[string]struct {
		data amf0.Data
		want bool
	}{
		"onFI":                       {amf0.Data{"onFI", o("sd", "21-11-2026", "st", "12:34:56.25", "tc", "12:34:56:06")}, true},
		"onFI, two-digit year":       {amf0.Data{"onFI", o("sd", "21-11-26", "st", "12:34:56:25")}, true},
		"onFI without a date":        {amf0.Data{"onFI", o("st", "12:34:56.25")}, false},
		"onFI of nonsense":           {amf0.Data{"onFI", o("sd", "x", "st", 5.0)}, false},
		"onTextData, ms":             {amf0.Data{"onTextData", o("timestamp", float64(at.UnixMilli()))}, true},
		"onTextData, seconds, text":  {amf0.Data{"onTextData", o("utc", "1795264496.25")}, true},
		"onMetaData, RFC 3339":       {amf0.Data{"@setDataFrame", "onMetaData", o("wallclock", "2026-11-21T12:34:56.25Z")}, true},
		"onMetaData, a small number": {amf0.Data{"onMetaData", o("timestamp", 1234.0)}, false},
		"not a message of a clock":   {amf0.Data{"onStatus", o("timestamp", float64(at.UnixMilli()))}, false},
	} {
		var m metadata
		m.read(tc.data, 5000)
		f := cut.Frame{DTSUs: (1<<32 + 5_040) * 1000, CTSUs: 80_000} // after a wrap of the timestamps
		m.mark(&f)
		want := int64(0)
		if tc.want {
			want = at.UnixMicro() + 120_000
		}
		if f.CaptureUs != want || tc.want && f.Capture.Source != schemas.ClockMetadata {
			t.Errorf("%s: %d, want %d (%+v)", name, f.CaptureUs, want, f.Capture)
		}
		if g := (cut.Frame{}); tc.want {
			if m.mark(&g); g.CaptureUs != 0 {
				t.Errorf("%s: used twice", name)
			}
		}
	}
}
