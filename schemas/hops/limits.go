package hops

// Limits beyond which a hop is bad, by itself and not beside others. What listens
// to notes (analytics/hoptrace) and what asks ClickHouse (dashboards/queries) judge
// by the same ones; docs/operator.md, "Which hop is bad", states them.
const (
	// BadFailedShare of what was asked for (0 to 1) failed, from MinFailed failures on.
	BadFailedShare = 0.05
	MinFailed      = 2
	// BadMissing parts were at the hop before and never came.
	BadMissing = 2
	// BadIngestMs, BadStoredMs and BadPackagedMs are medians that health never reaches:
	// from capture to ingest, on to MEDIA, and on to an origin's playlist.
	BadIngestMs   = 3000.0
	BadStoredMs   = 250.0
	BadPackagedMs = 500.0
	// BadEdgeMs is the median wait for an edge's first byte about a part that is there.
	BadEdgeMs = 500.0
	// BadPlayerMs is the median time that a part which is there takes to the player's last
	// byte, from the edge's first where that is known. Parts are 200 ms long.
	BadPlayerMs = 500.0
	// BadFirstByteMs is the median wait of probes for the first byte.
	BadFirstByteMs = 800.0
	// BadStalenessMs is the median age of the newest part that probed playlists list.
	// Parts are 200 ms long, and caches keep playlists for a second.
	BadStalenessMs = 3000.0
	// BadPace is the median throughput of probes over the stream's bitrate: below it
	// nobody can play what comes.
	BadPace = 1.0
)
