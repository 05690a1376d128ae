package schemas

import (
	"encoding/json"
	"reflect"
	"testing"
)

// longChunk has every field.
func longChunk() *Chunk {
	c, _ := sampleChunk()
	c.Fragments[0].DoneUnixUs = 1795167643800000
	c.Fragments[0].Line = &Line{ID: 3, FirstMSN: 9, StartUs: -5, ZeroUnixUs: 1795167640000000, SegmentUs: 2_000_000}
	c.Fragments[1].Line = &Line{}
	return c
}

func longPart() *Part {
	return &Part{
		Version: 1, App: "live", Stream: "demo", Rendition: "720p", Track: Audio, Epoch: 3, MSN: 9, Part: 4, DiscontinuitySeq: 2,
		CDN: "a", InitID: "x", DurationUs: -1, WallUnixUs: 2, ReceivedUnixUs: 3, DoneUnixUs: 4, Independent: true,
		SegmentStart: true, SegmentEnd: true, Discontinuity: true, Line: &Line{ID: 1}, ContentID: "a<b>\"\\\u2028\xff", CRC: 5,
	}
}

func TestHeadersAreReadInOnePass(t *testing.T) {
	secret, rotating := longChunk(), longChunk()
	secret.Encryption = &Encryption{Scheme: "cbcs", KeyURL: "file:///keys/live"}
	rotating.Encryption = &Encryption{Scheme: "cbcs", KeyURL: `https://keys.example/a?b="c"&d=\e`, RotateSegments: 30}
	for _, c := range []*Chunk{longChunk(), secret, rotating, func() *Chunk { c, _ := sampleChunk(); return c }()} {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var got Chunk
		if !readChunk(b, &got) || !reflect.DeepEqual(&got, c) {
			t.Errorf("%s is read as %+v", b, got)
		}
	}
	p := longPart()
	p.ContentID = "live/demo/720p/3/17"
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var got Part
	if !readPart(b, &got) || !reflect.DeepEqual(&got, p) {
		t.Errorf("%s is read as %+v", b, got)
	}
}

// FuzzChunkHeaderJSON compares with encoding/json: what is read, whether it is
// an error, and what is written.
func FuzzChunkHeaderJSON(f *testing.F) {
	b, err := json.Marshal(longChunk())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	secret := longChunk()
	secret.Encryption = &Encryption{Scheme: "cbcs", KeyURL: "https://keys.example/?a=b&c=\u2028", RotateSegments: 30}
	if b, err = json.Marshal(secret); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"v":1,"APP":"x","frags":null,"new":[1],"crc":1}`))
	f.Add([]byte(`{"v":1,"enc":{"scheme":"\ud800","key_url":"\x","rotate_segments":0}}`))
	f.Add([]byte(`{"v":01}`))
	f.Fuzz(func(t *testing.T, header []byte) {
		var got, want Chunk
		err, wantErr := parseChunk(header, &got), json.Unmarshal(header, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, encoding/json says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("read %+v, encoding/json reads %+v", got, want)
		}
		w, err := json.Marshal(&want)
		if err != nil {
			t.Fatal(err)
		}
		if g := appendChunk(nil, &got); string(g) != string(w) {
			t.Fatalf("wrote %s, encoding/json writes %s", g, w)
		}
	})
}

// FuzzPartHeaderJSON is the same for parts.
func FuzzPartHeaderJSON(f *testing.F) {
	b, err := json.Marshal(longPart())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"v":1,"dur_us":-0,"line":{"id":1,"msn":2,"start_us":3,"zero_us":4,"seg_us":0},"cid":"\u0041","crc":4294967296}`))
	f.Fuzz(func(t *testing.T, header []byte) {
		var got, want Part
		err, wantErr := parsePart(header, &got), json.Unmarshal(header, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, encoding/json says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("read %+v, encoding/json reads %+v", got, want)
		}
		w, err := json.Marshal(&want)
		if err != nil {
			t.Fatal(err)
		}
		if g := appendPart(nil, &got); string(g) != string(w) {
			t.Fatalf("wrote %s, encoding/json writes %s", g, w)
		}
	})
}
