// Package collect is the telemetry collector: an HTTP service that takes CMCD
// (versions 1 and 2, in bodies, headers and queries), our JSON beacons and the
// request logs of edges, turns them into rows (schemas.Telemetry) and makes
// them durable through package sink.
//
// It promises: 204 is answered only for rows that are on the bus or synced to
// the spool; one bad record, or one bad member of it, never costs the others;
// what is dropped is counted by reason; addresses, tokens, query strings and
// user agents are looked at and never stored. Players are never answered 410,
// 429 or 503, because they repeat or lose reports then (measured with hls.js,
// dash.js and shaka): overload is answered 200, which players take for success
// and which is not an acceptance. Where room is short, records of single
// responses (event rr) go first.
//
// It leaves out what needs more than one record (sessions, stalls, repeats of a
// player's report) and any limit on how often a client may report.
package collect
