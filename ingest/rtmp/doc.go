// Package rtmp takes live streams over RTMP:
// rtmp://host:port/<app>/<stream>[?key=<publish key>&cdn=<name>].
//
// It reads the protocol, bounds what a peer may send and how long it may take,
// and hands configurations and frames to ingest/publish, which has the rest. A
// full or absent bus holds the publisher back: its socket is not read. Whoever is
// refused is told why with an onStatus of level error. It takes H.264 and AAC,
// and with Enhanced RTMP v2 HEVC, AV1 and Opus;
// other codecs are refused. It does not transcode and does not serve players.
package rtmp
