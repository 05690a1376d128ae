package cut

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRTMPBytes holds the fragments (moof and mdat) of RTMP-like feeds and their
// names, times and wall-clocks to what released versions wrote.
func TestRTMPBytes(t *testing.T) {
	var got bytes.Buffer
	for _, fps := range []float64{30, 25, 60, 24, 30000. / 1001, 24000. / 1001, 10, 0} {
		for _, b := range []bool{false, true} {
			for _, rate := range []int{48000, 44100, 0} {
				if fps == 0 && (b || rate == 0) {
					continue
				}
				n := 0
				r := feed{fps: fps, gop: int(fps*2 + 0.5), bframes: b, rate: rate, seconds: 20.5, startMs: 12_345,
					jitter: func() int64 { n++; return int64(n*n%7) * 1000 }}.run(t)
				fmt.Fprintf(&got, "%.3f b=%t %d %s\n", fps, b, rate, digest(r))
			}
		}
	}
	file := filepath.Join("testdata", "rtmp.golden")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("fragments differ from those of released versions:\n got\n%s\nwant\n%s", got.Bytes(), want)
	}
}

// digest hashes names, times and bytes of all fragments, without prft boxes.
func digest(r *result) string {
	h := sha256.New()
	for i, c := range r.chunks {
		for _, f := range c.Fragments {
			b := r.payloads[i][f.Offset : f.Offset+f.Size]
			if string(b[4:8]) == "prft" {
				b = b[binary.BigEndian.Uint32(b):]
			}
			fmt.Fprintln(h, f.Track, f.MSN, f.Part, f.BaseTime, f.Duration, f.WallUnixUs, f.Independent, f.SegmentStart, f.Discontinuity, c.ReceivedUnixUs)
			h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
