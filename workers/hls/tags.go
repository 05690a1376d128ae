package hls

import (
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// The tags that media playlists of every kind have in common (RFC 8216bis,
// sections 4.4.1 to 4.4.4).

// lowLatencyVersion is what delta updates need.
const lowLatencyVersion = 9

// appendHead writes the first lines; more are whole lines behind the version.
func appendHead(b []byte, version int64, more string) []byte {
	b = append(b, "#EXTM3U\n#EXT-X-VERSION:"...)
	b = strconv.AppendInt(b, version, 10)
	b = append(b, '\n')
	b = append(b, more...)
	b = append(b, "#EXT-X-TARGETDURATION:"...)
	b = strconv.AppendInt(b, schemas.TargetDurationSec, 10)
	return append(b, '\n')
}

// appendSequence writes where the numbering stands at the first segment.
func appendSequence(b []byte, msn uint64, dseq uint32, discontinuity bool) []byte {
	b = append(b, "#EXT-X-MEDIA-SEQUENCE:"...)
	b = strconv.AppendUint(b, msn, 10)
	// The number counts the tags that have left; one that still stands first has not.
	if discontinuity && dseq > 0 {
		dseq--
	}
	b = append(b, "\n#EXT-X-DISCONTINUITY-SEQUENCE:"...)
	b = strconv.AppendUint(b, uint64(dseq), 10)
	return append(b, '\n')
}

func appendSkip(b []byte, segments int) []byte {
	if segments == 0 {
		return b
	}
	b = append(b, "#EXT-X-SKIP:SKIPPED-SEGMENTS="...)
	b = strconv.AppendInt(b, int64(segments), 10)
	return append(b, '\n')
}

// segmentState is what holds for all segments until one changes it.
type segmentState struct {
	initID string
	keys   keyState
}

// append writes what a segment changes: timeline, key, init segment (empty: it has none).
func (st *segmentState) append(b []byte, discontinuity bool, kid, initID string) []byte {
	if discontinuity {
		b = append(b, "#EXT-X-DISCONTINUITY\n"...)
	}
	b = st.keys.append(b, kid)
	if initID != "" && (initID != st.initID || discontinuity) {
		st.initID = initID
		b = append(b, "#EXT-X-MAP:URI=\"init-"...)
		b = append(b, initID...)
		b = append(b, ".mp4\"\n"...)
	}
	return b
}

func appendDate(b []byte, wallUnixUs int64) []byte {
	b = append(b, "#EXT-X-PROGRAM-DATE-TIME:"...)
	b = time.UnixMicro(wallUnixUs).UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	return append(b, '\n')
}

// appendDuration writes the tags that stand just before a segment's name. A
// segment that cannot be had is a gap and keeps its number.
func appendDuration(b []byte, gap bool, us int64) []byte {
	if gap {
		b = append(b, "#EXT-X-GAP\n"...)
	}
	b = append(b, "#EXTINF:"...)
	b = appendSeconds(b, us)
	return append(b, ",\n"...)
}

// appendFile writes a whole segment of fragmented MP4.
func appendFile(b []byte, gap bool, us int64, epoch uint32, msn uint64) []byte {
	b = appendDuration(b, gap, us)
	b = appendBase(b, epoch, msn)
	return append(b, ".m4s\n"...)
}

func appendBase(b []byte, epoch uint32, msn uint64) []byte {
	b = strconv.AppendUint(b, uint64(epoch), 10)
	b = append(b, '-')
	return strconv.AppendUint(b, msn, 10)
}

func appendPartName(b []byte, epoch uint32, msn uint64, part int) []byte {
	b = appendBase(b, epoch, msn)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(part), 10)
	return append(b, ".m4s"...)
}

// appendSeconds writes microseconds as decimal seconds with five decimals at
// most, rounded to nearest, without trailing zeros but with at least one decimal.
func appendSeconds(b []byte, us int64) []byte {
	n := (us + 5) / 10
	b = strconv.AppendInt(b, n/100_000, 10)
	frac := n % 100_000
	b = append(b, '.', byte('0'+frac/10_000), byte('0'+frac/1000%10), byte('0'+frac/100%10), byte('0'+frac/10%10), byte('0'+frac%10))
	for b[len(b)-1] == '0' && b[len(b)-2] != '.' {
		b = b[:len(b)-1]
	}
	return b
}
