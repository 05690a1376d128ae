package cmcd

// Event is an event type, key e (CTA-5004-B). Its String is the token on the wire.
type Event uint8

// Event types. EventOther is a token that is not known; [Record.EventToken] has it.
const (
	EventNone Event = iota
	EventOther
	EventTime               // t: interval
	EventState              // ps: player state changed
	EventError              // e
	EventResponse           // rr: response received
	EventBitrate            // bc: requested bitrate changed; br in older players
	EventRate               // pr: playback rate changed
	EventCustom             // ce
	EventBackground         // b: backgrounded or foregrounded
	EventMute               // m
	EventUnmute             // um
	EventExpand             // pe
	EventCollapse           // pc
	EventContent            // c: content id changed
	EventHost               // h: content host changed
	EventAdBreakStart       // abs
	EventAdBreakEnd         // abe
	EventAdStart            // as
	EventAdEnd              // ae
	EventSkip               // sk
	numEvents         Event = iota
)

var eventTokens = [numEvents]string{
	"", "other", "t", "ps", "e", "rr", "bc", "pr", "ce", "b", "m", "um", "pe", "pc", "c", "h", "abs", "abe", "as", "ae", "sk",
}

func (e Event) String() string { return tokenOf(eventTokens[:], uint8(e)) }

// ParseEvent gives the event type of a token in lower case; the old token br is bc.
func ParseEvent(token string) Event {
	if token == "br" {
		return EventBitrate
	}
	return Event(tokenIndex(eventTokens[:], token))
}

// State is a player state, key sta. Its String is the token on the wire.
type State uint8

// Player states. StateOther is a token that is not known; [Record.StateToken] has it.
const (
	StateNone State = iota
	StateOther
	StateStarting          // s
	StatePlaying           // p
	StateSeeking           // k
	StateRebuffering       // r
	StatePaused            // a
	StateEnded             // e
	StateFatal             // f: not terminal in some players
	StateQuit              // q
	StatePreloading        // d
	StateWaiting           // w: undefined in the text; dash.js sends it after a seek
	numStates        State = iota
)

var stateTokens = [numStates]string{"", "other", "s", "p", "k", "r", "a", "e", "f", "q", "d", "w"}

func (s State) String() string { return tokenOf(stateTokens[:], uint8(s)) }

// ParseState gives the player state of a token in lower case.
func ParseState(token string) State { return State(tokenIndex(stateTokens[:], token)) }

// Object is an object type, key ot and label of inner lists.
type Object uint8

// Object types.
const (
	ObjectNone Object = iota
	ObjectOther
	ObjectManifest         // m
	ObjectAudio            // a
	ObjectVideo            // v
	ObjectMuxed            // av
	ObjectInit             // i
	ObjectCaption          // c
	ObjectTimedText        // tt
	ObjectKey              // k: key, licence or certificate
	ObjectOtherKind        // o: specified as "other"
	numObjects      Object = iota
)

var objectTokens = [numObjects]string{"", "other", "m", "a", "v", "av", "i", "c", "tt", "k", "o"}

func (o Object) String() string { return tokenOf(objectTokens[:], uint8(o)) }

// ParseObject gives the object type of a token in lower case.
func ParseObject(token string) Object { return Object(tokenIndex(objectTokens[:], token)) }

// Format is a streaming format, key sf.
type Format uint8

// Streaming formats.
const (
	FormatNone Format = iota
	FormatOther
	FormatDASH             // d
	FormatHLS              // h
	FormatSmooth           // s
	FormatHESP             // e
	FormatOtherKind        // o: specified as "other"
	numFormats      Format = iota
)

var formatTokens = [numFormats]string{"", "other", "d", "h", "s", "e", "o"}

func (f Format) String() string { return tokenOf(formatTokens[:], uint8(f)) }

// ParseFormat gives the streaming format of a token in lower case.
func ParseFormat(token string) Format { return Format(tokenIndex(formatTokens[:], token)) }

// StreamType is key st.
type StreamType uint8

// Stream types.
const (
	StreamNone StreamType = iota
	StreamOther
	StreamVOD                   // v
	StreamLive                  // l
	StreamLowLatency            // ll
	numStreams       StreamType = iota
)

var streamTokens = [numStreams]string{"", "other", "v", "l", "ll"}

func (s StreamType) String() string { return tokenOf(streamTokens[:], uint8(s)) }

// ParseStreamType gives the stream type of a token in lower case.
func ParseStreamType(token string) StreamType {
	return StreamType(tokenIndex(streamTokens[:], token))
}

// other is the index of "other" in every table.
const other = 1

func tokenOf(table []string, i uint8) string {
	if int(i) < len(table) {
		return table[i]
	}
	return table[other]
}

func tokenIndex(table []string, token string) uint8 {
	for i := other + 1; i < len(table); i++ {
		if table[i] == token {
			return uint8(i)
		}
	}
	return other
}
