// Package origin serves HLS from the bus over HTTP: media playlists with
// blocking reload, parts, segments, init segments and the plain multivariant
// playlist, at the URLs of docs/contracts.md.
//
// It promises that any origin process answers any URL with the same bytes (what
// is listed depends only on the order of the bus; rendition reports also on the
// moment while a lost packager is covered), that a part is announced only when
// everything before it in its track can be fetched, and that a lost packager
// does not show: a part missing 150 ms after its chunk is packaged here.
//
// Only streams that are asked for are read, from memory consumers that are
// dropped a minute after the last request. Nothing is kept that the bus does not
// hold: a restarted origin reads the window again. It leaves out sessions,
// tokens and choosing a CDN, which are the edges' and the router's.
package origin
