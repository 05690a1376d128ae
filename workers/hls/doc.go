// Package hls writes HLS playlists (draft-pantos-hls-rfc8216bis-22): low-latency
// media playlists with delta updates, multivariant playlists with pathways, and
// content-steering lists.
//
// It promises that equal values give equal bytes, so every origin and router
// answers alike, and that what it writes passes the rules kept in subpackage
// hlscheck. Pure: no I/O and no clock. It leaves out what to list: the origin
// keeps the window, the router ranks the pathways.
package hls

// Media types of what this package writes, and of what playlists point to.
const (
	TypePlaylist = "application/vnd.apple.mpegurl"
	TypeSteering = "application/vnd.apple.steering-list"
	TypeMP4      = "video/mp4"
	TypeTS       = "video/mp2t"
	TypeAudioMP4 = "audio/mp4"
)

// Names in URLs; see docs/contracts.md.
const (
	MultivariantName = "multivariant.m3u8"
	PlaylistName     = "playlist.m3u8"
	// TSName is the multivariant playlist over MPEG-TS; TSFolder stands where the
	// track does in the paths of its media.
	TSName   = "ts.m3u8"
	TSFolder = "ts"
	// IFramesName is the playlist of a picture track's key frames.
	IFramesName = "iframes.m3u8"
)
