// Package cenc encrypts the pipeline's own CMAF (ISO/IEC 23000-19) by the
// scheme cbcs of common encryption (ISO/IEC 23001-7): the payload of samples,
// nothing else, with AES-128 in CBC mode, one block in ten of video and every
// block of audio. Pure: no I/O, no randomness.
//
// It promises that the same init segment, fragment and key give the same bytes
// everywhere, that times, order and number of samples stay as they are, and
// that what it cannot encrypt by the book (AV1; a slice header that cannot be
// read) is refused with a reason, never passed on as it is.
//
// Encrypted are slices of H.264 and H.265 behind their headers, and whole
// samples of sound. NAL units that are no slices, and boxes beside the samples
// (prft, times), stay readable, so that every form of fragmented MP4 can be
// made of an encrypted fragment without its key.
package cenc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Scheme is the protection scheme's name (ISO/IEC 23001-7, 10.4).
const Scheme = "cbcs"

// ErrUnsupported is wrapped where a track cannot be encrypted.
var ErrUnsupported = errors.New("it cannot be encrypted")

// KID names a key (default_KID).
type KID [16]byte

// String writes it as 32 hexadecimal digits.
func (k KID) String() string { return hex.EncodeToString(k[:]) }

// UUID writes it as DASH does (ISO/IEC 23009-1, 5.8.4.1, cenc:default_KID).
func (k KID) UUID() string {
	s := k.String()
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ParseKID reads what [KID.String] or [KID.UUID] has written.
func ParseKID(s string) (k KID, err error) {
	digits := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(k) {
		return k, fmt.Errorf("key id %.40q is not 32 hexadecimal digits", s)
	}
	return KID(b), nil
}

// Key is what encrypts the samples of one key period.
type Key struct {
	KID KID
	Key [16]byte
	// IV is the constant initialisation vector of every sample; see [IV].
	IV [16]byte
}

// IV derives the initialisation vector of a key, so that all who have the key
// have it: HMAC-SHA-256 under the key over "spillway iv" and the key id, its
// first 16 bytes.
func IV(key [16]byte, kid KID) [16]byte {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte("spillway iv"))
	h.Write(kid[:])
	return [16]byte(h.Sum(nil)[:16])
}
