package hls

import (
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// Keys are said where they change, again in delta updates, and ended where
// clear segments follow.
func TestKeys(t *testing.T) {
	const a, b = "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f"
	m := Media{PartTargetUs: schemas.DefaultPartTargetUs, Ended: true}
	for i, kid := range []string{"", a, a, b, "", "", "", "", "", "", "", "", "", "", b, b} {
		m.Segments = append(m.Segments, Segment{Epoch: 1, MSN: uint64(i), InitID: strings.Repeat("0", 32), KID: kid, Complete: true,
			Parts: []Part{{DurationUs: 2_000_000, Independent: true}}})
	}
	full, delta := string(m.Append(nil)), string(m.AppendDelta(nil))
	if n := strings.Count(full, "METHOD=SAMPLE-AES"); n != 3 || strings.Count(full, "METHOD=NONE") != 1 {
		t.Errorf("%d keys in\n%s", n, full)
	}
	if i, j := strings.Index(full, "KEYID=0x"+b), strings.Index(full, "1-3.m4s"); i < 0 || i > j {
		t.Errorf("the second key does not stand before its segment:\n%s", full)
	}
	if m.Skippable() != 4 || strings.Count(delta, "METHOD=NONE") != 1 {
		t.Errorf("%d skipped, clear segments behind encrypted ones:\n%s", m.Skippable(), delta)
	}
	m.Segments = m.Segments[:15]
	m.Segments[3].KID, m.Segments[4].KID = b, b
	if delta = string(m.AppendDelta(nil)); m.Skippable() != 3 || strings.Count(delta, "KEYID=0x"+b) != 2 || strings.Index(delta, "KEYID=0x"+b) > strings.Index(delta, "1-3.m4s") {
		t.Errorf("%d skipped:\n%s", m.Skippable(), delta)
	}
}
