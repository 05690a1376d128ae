// Package cmcd reads and writes Common Media Client Data (CTA-5004 and
// CTA-5004-B, versions 1 and 2) in every carrier: query argument, the four
// request headers, and event bodies.
//
// It promises to keep whatever can be understood: each member is parsed
// strictly (RFC 8941) and, where that fails, leniently, so that one bad member
// costs that member and never its record; what was lost is told by key and
// reason. It also knows what particular players get wrong ([Record.Correct]).
// Strings of a [Record] share the memory of the text they were parsed from.
//
// It leaves out transport, storage, the version 1 JSON carrier, and any
// judgement that needs more than one record (stalls, attempts, duplicates,
// clock offsets).
package cmcd
