package cmcd

// Player is the software that sent a record.
type Player uint8

// Players. PlayerOther is one that is known and needs no corrections.
const (
	PlayerUnknown Player = iota
	PlayerOther
	PlayerHLSJS
	PlayerDashJS
	PlayerShaka
	numPlayers
)

var playerNames = [numPlayers]string{"", "other", "hls.js", "dash.js", "shaka"}

func (p Player) String() string { return tokenOf(playerNames[:], uint8(p)) }

// PlayerKey is a custom key by which a player may name itself; it settles what
// [Detect] would otherwise guess.
const PlayerKey = "spillway-player"

// ParsePlayer gives the player of a name; "" is PlayerUnknown.
func ParsePlayer(name string) Player {
	switch name {
	case "":
		return PlayerUnknown
	case "hls.js", "hlsjs":
		return PlayerHLSJS
	case "dash.js", "dashjs":
		return PlayerDashJS
	case "shaka", "shaka-player":
		return PlayerShaka
	}
	return PlayerOther
}

// Detect guesses the player by how it fills the fields, as measured with hls.js
// 1.7.4, dash.js 5.2.1 and shaka 5.2.12. The first records of a session may
// have too little in them: those give PlayerUnknown.
func (r *Record) Detect() Player {
	if name := r.CustomString(PlayerKey); name != "" {
		return ParsePlayer(name)
	}
	event := r.Mode == ModeEvent
	labelled := r.labelled()
	if r.Format == FormatHLS {
		switch {
		case labelled:
			return PlayerUnknown
		case r.Has.Has(MTP), r.State == StatePreloading, event && !r.Has.Has(BR):
			return PlayerHLSJS // sends its throughput estimate from the first request on
		case r.Has.Has(LTC), r.Has.Has(MSD), event && !r.Has.Has(BL), r.shakaRequest():
			return PlayerShaka
		}
		return PlayerUnknown
	}
	if labelled || r.Has.Has(TTFB) && r.FirstByteMs > epochSized ||
		r.Has.Any(Keys(CMSDD, CMSDS, BSD)) || event && r.Has.Has(OT) || r.State == StateWaiting {
		return PlayerDashJS // alone in labelling its lists and in sending ot with events
	}
	if !r.Has.Has(SF) {
		switch {
		case r.Object == ObjectManifest && r.Version == 2, r.State == StateStarting:
			return PlayerDashJS
		case event && r.Event == EventState && r.State == StateRebuffering:
			return PlayerShaka // never says s
		}
		return PlayerUnknown
	}
	switch {
	case r.Format != FormatDASH:
	case event && r.Has.Has(BR) && !r.Has.Any(Keys(MTP, BL)):
		return PlayerShaka
	case !event && r.shakaRequest():
		return PlayerShaka
	case r.Has.Has(MTP):
		return PlayerDashJS
	}
	return PlayerUnknown
}

// shakaRequest: bare numbers for lists beside v=2, or a stream type with the very first manifest.
func (r *Record) shakaRequest() bool {
	if r.Mode != ModeRequest || r.Has.Has(MTP) {
		return false
	}
	if r.Version == 2 && r.Scalars.Any(Keys(BL, BR, TB)) {
		return true
	}
	return r.Object == ObjectManifest && r.StreamType != StreamNone && !r.Has.Any(Keys(LTC, AB))
}

func (r *Record) labelled() bool {
	const labels = HasVideo | HasAudio | HasAV
	return (r.AggregateKbps.Set|r.BufferMs.Set|r.BitrateKbps.Set|r.LowestAggregateKbps.Set|r.ThroughputKbps.Set|
		r.PlayheadKbps.Set|r.TopAggregateKbps.Set|r.TopKbps.Set|r.TopPlayableKbps.Set|r.StarvedMs.Set)&labels != 0
}

// epochSized is more than any duration in ms: a Unix time by mistake.
const epochSized = 1_000_000_000_000
