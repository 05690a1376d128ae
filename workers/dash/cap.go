package dash

import (
	"bytes"
	"regexp"
	"strconv"
)

var (
	videoSet = regexp.MustCompile(`(?s)<AdaptationSet id="1" contentType="video".*?</AdaptationSet>\n`)
	picture  = regexp.MustCompile(`(?s)<Representation id="[^"]*" bandwidth="(\d+)".*?</Representation>\n`)
)

// capped leaves out of an MPD that [MPD.Append] has written the pictures above a
// bitrate, but the lowest of each Period; 0: none.
func capped(mpd []byte, maxBps int64) []byte {
	if maxBps <= 0 {
		return mpd
	}
	return videoSet.ReplaceAllFunc(mpd, func(set []byte) []byte {
		all := picture.FindAllSubmatchIndex(set, -1)
		lowest := int64(-1)
		of := func(m []int) int64 {
			n, _ := strconv.ParseInt(string(set[m[2]:m[3]]), 10, 64) // digits; too many are refused, and 0 stays
			return n
		}
		for _, m := range all {
			if n := of(m); lowest < 0 || n < lowest {
				lowest = n
			}
		}
		var out bytes.Buffer
		at := 0
		for _, m := range all {
			if of(m) > max(maxBps, lowest) {
				out.Write(set[at:m[0]])
				at = m[1]
			}
		}
		out.Write(set[at:])
		return out.Bytes()
	})
}
