// Package mpegts takes one program of an MPEG transport stream apart (ISO/IEC
// 13818-1): access units with their timestamps, and what was lost between them.
//
// It is pure and is fed with bytes as they arrive, so it holds nothing but the
// units that are not complete yet, and those are bounded. Nothing in the input is
// an error: what cannot be used is passed over and counted, and the unit behind a
// loss says so, because only its user knows where decoding can go on. It follows
// changes of the tables (PAT, PMT). It does not read the program clock and does
// not decode anything.
package mpegts
