// Package rtmp takes live streams over RTMP and publishes them as chunks on the
// bus: rtmp://host:port/<app>/<stream>[?key=<publish key>&cdn=<name>].
//
// It promises that chunks of a stream reach the bus in order, each once, kept
// until acknowledged; that a full or absent bus holds the publisher back (the
// socket is not read) instead of dropping; that a reconnecting publisher
// continues the numbering in a new epoch; that of two publishers of a stream the
// newest wins; and that whoever is refused is told why, in the words of the log
// and of a publish_refused event. It takes H.264 and AAC; other codecs are refused.
// Cutting is ingest/cut; it does not transcode and does not serve players.
package rtmp
