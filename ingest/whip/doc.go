// Package whip takes live streams from browsers and WebRTC encoders by WHIP (RFC 9725):
// POST an SDP offer to /whip/<application>/<stream>, with the publish key as a bearer
// token or ?key=; DELETE on the answer's Location ends the stream.
//
// All media of all sessions comes through one UDP port (and, as a fallback, one TCP
// port); ICE is lite, so publishers' candidates are not needed and PATCH is answered
// 405. That UDP port answers STUN binding requests without attributes, too, so that
// publishers can measure it before they offer anything. It puts RTP packets in
// order, asks for lost ones again (NACK) and for key frames (PLI): after a loss, and
// where none has come for two seconds, because browsers send none by themselves.
// Frames go to ingest/publish, which has the rest. It takes H.264 (RFC 6184,
// packetisation mode 1) and Opus; an offer without them is refused by name. No
// simulcast, no data channels, no playing (WHEP).
//
// RTP cannot be held back: while the bus takes nothing, packets are lost.
package whip
