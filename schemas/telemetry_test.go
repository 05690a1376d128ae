package schemas

import (
	"bytes"
	"reflect"
	"strconv"
	"testing"

	"github.com/spillway-live/spillway/schemas/columnar"
)

func sampleTelemetry(n int) []Telemetry {
	rows := make([]Telemetry, n)
	for i := range rows {
		rows[i] = Telemetry{
			ReceivedUnixUs: 1795167643634000 + int64(i), TsUnixMs: 1795167643600, Source: SourceCMCDEvent, Event: "t",
			SessionID: "sess-" + strconv.Itoa(i/20), App: "live", Stream: "demo", ContentID: "live/demo", CDN: "a", Region: "eu",
			Protocol: "h", StreamType: "ll", State: "p", Arms: "latency=low", Client: "hls.js",
			CMCDVersion: columnar.Some(int32(2)), Seq: columnar.Some(int64(i % 20)), BufferMs: columnar.Some(int32(0)),
			BitrateKbps: columnar.Some(int32(2600)), ThroughputKbps: columnar.Some(int32(46100)),
			PlaybackRate: columnar.Some(1.05), Background: columnar.Some(false), E2ELatencyMs: columnar.Some(int32(1430)),
		}
	}
	return rows
}

func TestTelemetryRoundTrip(t *testing.T) {
	for _, n := range []int{1, 2, 300} {
		rows := sampleTelemetry(n)
		b, err := EncodeTelemetry(rows)
		if err != nil {
			t.Fatal(err)
		}
		again, err := EncodeTelemetry(rows)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%d rows: encoding twice differs (%v)", n, err)
		}
		got, err := DecodeTelemetry(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, rows) {
			t.Errorf("%d rows: got %+v, want %+v", n, got[0], rows[0])
		}
	}
}

// Every field must have a column: a field that is set and does not come back was forgotten.
func TestEveryFieldHasAColumn(t *testing.T) {
	fill := func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Kind() {
			case reflect.String:
				f.SetString("x" + strconv.Itoa(i))
			case reflect.Int64:
				f.SetInt(int64(i + 1))
			case reflect.Slice:
				f.Set(reflect.ValueOf([]int64{int64(i), -1}))
			case reflect.Struct:
				f.FieldByName("OK").SetBool(true)
				switch o := f.FieldByName("V"); o.Kind() {
				case reflect.Int32, reflect.Int64:
					o.SetInt(int64(i + 1))
				case reflect.Float64:
					o.SetFloat(float64(i) + 0.5)
				case reflect.Bool:
					o.SetBool(true)
				}
			default:
				t.Fatalf("field %s of kind %s", v.Type().Field(i).Name, f.Kind())
			}
		}
	}
	tel := make([]Telemetry, 1)
	fill(reflect.ValueOf(&tel[0]).Elem())
	b, err := EncodeTelemetry(tel)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeTelemetry(b); err != nil || !reflect.DeepEqual(got, tel) {
		t.Errorf("telemetry: %v\n got %+v\nwant %+v", err, got, tel)
	}
	sl := make([]Slice, 1)
	fill(reflect.ValueOf(&sl[0]).Elem())
	b, err = EncodeSlices(sl)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeSlices(b); err != nil || !reflect.DeepEqual(got, sl) {
		t.Errorf("slice: %v\n got %+v\nwant %+v", err, got, sl)
	}
}

func TestColumnsAreDescribedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range TelemetryTable().Columns {
		if c.Doc == "" || seen[c.Name] {
			t.Errorf("telemetry column %s: no doc, or named twice", c.Name)
		}
		seen[c.Name] = true
	}
	seen = map[string]bool{}
	for _, c := range SliceTable().Columns {
		if c.Doc == "" || seen[c.Name] {
			t.Errorf("slice column %s: no doc, or named twice", c.Name)
		}
		seen[c.Name] = true
	}
}

func TestBatchesRefuseNoRowsAndTruncation(t *testing.T) {
	if _, err := EncodeTelemetry(nil); err == nil {
		t.Error("an empty batch was encoded")
	}
	b, err := EncodeTelemetry(sampleTelemetry(3))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(b)-16; i += 7 {
		if rows, err := DecodeTelemetry(b[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes give %d rows", i, len(b), len(rows))
		}
	}
}

func FuzzDecodeTelemetry(f *testing.F) {
	b, err := EncodeTelemetry(sampleTelemetry(3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		if rows, err := DecodeTelemetry(data); err == nil && len(rows) == 0 {
			t.Error("no rows and no error")
		}
	})
}

func BenchmarkTelemetryBatch(b *testing.B) {
	for _, n := range []int{20, 300, 3000} {
		rows := sampleTelemetry(n)
		enc, err := EncodeTelemetry(rows)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encode/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := EncodeTelemetry(rows); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
			b.ReportMetric(float64(len(enc))/float64(n), "bytes/event")
		})
		b.Run("decode/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := DecodeTelemetry(enc); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}
