package hls

import (
	"encoding/base64"
	"encoding/hex"
)

// keyState writes EXT-X-KEY (RFC 8216bis, 4.4.4.4) where the key changes.
type keyState struct {
	kid string
}

// skipped is the state behind the segments that a delta update leaves out: a key
// that goes on is said again.
func skipped(before, next string) keyState {
	if next != "" {
		return keyState{}
	}
	return keyState{kid: before}
}

// append writes what applies from a segment with this key on: nothing where it
// is that of the segment before.
//
// The key is named as players of ClearKey want it: hls.js 1.7 knows the format
// org.w3.clearkey and takes the key id from the data URI; shaka knows it too. The
// key itself is at the licence endpoint, never in a playlist.
func (s *keyState) append(b []byte, kid string) []byte {
	if s.kid == kid {
		return b
	}
	s.kid = kid
	id, err := hex.DecodeString(kid)
	if kid == "" || err != nil {
		return append(b, "#EXT-X-KEY:METHOD=NONE\n"...)
	}
	b = append(b, "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"data:text/plain;base64,"...)
	b = base64.StdEncoding.AppendEncode(b, id)
	b = append(b, "\",KEYID=0x"...)
	b = append(b, kid...)
	return append(b, ",KEYFORMAT=\"org.w3.clearkey\",KEYFORMATVERSIONS=\"1\"\n"...)
}
