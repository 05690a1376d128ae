package cmcd

import (
	"iter"
	"math/bits"
)

// Key is one reserved CMCD key. The constants are in the order of their names,
// which is also the order of encoding.
type Key uint8

// The reserved keys of CTA-5004-B section 5, the version 1 key nrr, and cdn,
// which is in no specification but is sent.
const (
	AB Key = iota
	BG
	BL
	BR
	BS
	BSA
	BSD
	BSDA
	CDN
	CEN
	CID
	CMSDD
	CMSDS
	CS
	D
	DFA
	DL
	E
	EC
	H
	LAB
	LB
	LTC
	MSD
	MTP
	NOR
	NR
	NRR
	OT
	PB
	PR
	PT
	RC
	RTP
	SF
	SID
	SMRT
	SN
	ST
	STA
	SU
	TAB
	TB
	TBL
	TPB
	TS
	TTFB
	TTFBB
	TTLB
	URL
	V
	numKeys

	// Custom and Unknown stand for all custom (hyphenated) and all other keys in [Issue].
	Custom  Key = 62
	Unknown Key = 63
)

// KeySet is a set of keys. The zero value is empty.
type KeySet uint64

// Has reports whether k is in the set.
func (s KeySet) Has(k Key) bool { return s>>k&1 != 0 }

// Any reports whether the sets have a key in common.
func (s KeySet) Any(t KeySet) bool { return s&t != 0 }

// All gives the keys in order.
func (s KeySet) All() iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for s != 0 {
			if !yield(Key(bits.TrailingZeros64(uint64(s)))) {
				return
			}
			s &= s - 1
		}
	}
}

// Keys makes a set.
func Keys(ks ...Key) KeySet {
	var s KeySet
	for _, k := range ks {
		s |= 1 << k
	}
	return s
}

// String gives the key as it is written, or "custom" or "unknown".
func (k Key) String() string {
	switch {
	case k < numKeys:
		return specs[k].name
	case k == Custom:
		return "custom"
	}
	return "unknown"
}

// class is what a key's value is specified to be.
type class uint8

const (
	classInt class = iota
	classDecimal
	classBool
	classToken
	classString
	classByType  // inner list of integers labelled with object types
	classStrings // inner list of strings
)

type spec struct {
	name  string
	class class
	// maxLen bounds strings, bytes. Where the specification has a limit, twice that is tolerated.
	maxLen int
	// event keys exist only in event mode (CTA-5004-B: header group "none").
	event bool
	// signed integers may be negative.
	signed bool
	// round is the multiple that values are rounded to when encoded (0: none).
	round int64
}

// specs is CTA-5004-B section 5 as a table. Read only.
var specs = [numKeys]spec{
	AB:    {name: "ab", class: classByType},
	BG:    {name: "bg", class: classBool},
	BL:    {name: "bl", class: classByType, round: 100},
	BR:    {name: "br", class: classByType},
	BS:    {name: "bs", class: classBool},
	BSA:   {name: "bsa", class: classByType},
	BSD:   {name: "bsd", class: classByType},
	BSDA:  {name: "bsda", class: classByType},
	CDN:   {name: "cdn", class: classString, maxLen: 256},
	CEN:   {name: "cen", class: classString, maxLen: 128, event: true},
	CID:   {name: "cid", class: classString, maxLen: 256},
	CMSDD: {name: "cmsdd", class: classString, maxLen: 2048, event: true},
	CMSDS: {name: "cmsds", class: classString, maxLen: 2048, event: true},
	CS:    {name: "cs", class: classString, maxLen: 2048},
	D:     {name: "d", class: classInt},
	DFA:   {name: "dfa", class: classInt},
	DL:    {name: "dl", class: classInt, round: 100},
	E:     {name: "e", class: classToken, event: true},
	EC:    {name: "ec", class: classStrings, maxLen: 256},
	H:     {name: "h", class: classString, maxLen: 256, event: true},
	LAB:   {name: "lab", class: classByType},
	LB:    {name: "lb", class: classByType},
	LTC:   {name: "ltc", class: classInt, signed: true},
	MSD:   {name: "msd", class: classInt},
	MTP:   {name: "mtp", class: classByType, round: 100},
	NOR:   {name: "nor", class: classStrings, maxLen: 2048},
	NR:    {name: "nr", class: classBool},
	NRR:   {name: "nrr", class: classString, maxLen: 64},
	OT:    {name: "ot", class: classToken},
	PB:    {name: "pb", class: classByType},
	PR:    {name: "pr", class: classDecimal},
	PT:    {name: "pt", class: classInt, signed: true},
	RC:    {name: "rc", class: classInt, event: true},
	RTP:   {name: "rtp", class: classInt, round: 100},
	SF:    {name: "sf", class: classToken},
	SID:   {name: "sid", class: classString, maxLen: 128},
	SMRT:  {name: "smrt", class: classString, maxLen: 2048, event: true},
	SN:    {name: "sn", class: classInt},
	ST:    {name: "st", class: classToken},
	STA:   {name: "sta", class: classToken},
	SU:    {name: "su", class: classBool},
	TAB:   {name: "tab", class: classByType},
	TB:    {name: "tb", class: classByType},
	TBL:   {name: "tbl", class: classByType, round: 100},
	TPB:   {name: "tpb", class: classByType},
	TS:    {name: "ts", class: classInt, event: true},
	TTFB:  {name: "ttfb", class: classInt, event: true},
	TTFBB: {name: "ttfbb", class: classInt, event: true},
	TTLB:  {name: "ttlb", class: classInt, event: true},
	URL:   {name: "url", class: classString, maxLen: 4096, event: true},
	V:     {name: "v", class: classInt},
}

// lookup finds a reserved key by its lower-case name, or Unknown.
func lookup(name string) Key {
	switch name {
	case "ab":
		return AB
	case "bg":
		return BG
	case "bl":
		return BL
	case "br":
		return BR
	case "bs":
		return BS
	case "bsa":
		return BSA
	case "bsd":
		return BSD
	case "bsda":
		return BSDA
	case "cdn":
		return CDN
	case "cen":
		return CEN
	case "cid":
		return CID
	case "cmsdd":
		return CMSDD
	case "cmsds":
		return CMSDS
	case "cs":
		return CS
	case "d":
		return D
	case "dfa":
		return DFA
	case "dl":
		return DL
	case "e":
		return E
	case "ec":
		return EC
	case "h":
		return H
	case "lab":
		return LAB
	case "lb":
		return LB
	case "ltc":
		return LTC
	case "msd":
		return MSD
	case "mtp":
		return MTP
	case "nor":
		return NOR
	case "nr":
		return NR
	case "nrr":
		return NRR
	case "ot":
		return OT
	case "pb":
		return PB
	case "pr":
		return PR
	case "pt":
		return PT
	case "rc":
		return RC
	case "rtp":
		return RTP
	case "sf":
		return SF
	case "sid":
		return SID
	case "smrt":
		return SMRT
	case "sn":
		return SN
	case "st":
		return ST
	case "sta":
		return STA
	case "su":
		return SU
	case "tab":
		return TAB
	case "tb":
		return TB
	case "tbl":
		return TBL
	case "tpb":
		return TPB
	case "ts":
		return TS
	case "ttfb":
		return TTFB
	case "ttfbb":
		return TTFBB
	case "ttlb":
		return TTLB
	case "url":
		return URL
	case "v":
		return V
	}
	return Unknown
}
