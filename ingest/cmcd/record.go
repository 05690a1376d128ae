package cmcd

// Limits. What is beyond them is dropped and told by an [Issue].
const (
	// MaxRecordBytes bounds one record; real ones have 100 to 1,000 bytes.
	MaxRecordBytes = 32 << 10
	// MaxCustom is the number of custom keys kept, MaxCustomLen bounds each name
	// and value in bytes (the specification allows values of 64).
	MaxCustom    = 8
	MaxCustomLen = 128
	// MaxErrorCodes and MaxNext bound ec and nor.
	MaxErrorCodes = 4
	MaxNext       = 2
	// MaxIssues is the number of issues kept with their reason; more are counted in [Record.MoreIssues].
	MaxIssues = 8
	maxItems  = 8
)

// Mode says how a record travelled.
type Mode uint8

// Modes of CTA-5004-B.
const (
	ModeRequest Mode = iota // beside a media request: query or headers
	ModeEvent               // in the body of a POST
)

// ByType is the value of a list with object-type labels: one value for each
// type that a player reports on. Values of other labels and unlabelled ones are
// in Any; the first one wins.
type ByType struct {
	Video, Audio, AV, Any int64
	Set                   TypeSet
}

// TypeSet says which values of a [ByType] are present.
type TypeSet uint8

// Members of a TypeSet.
const (
	HasVideo TypeSet = 1 << iota
	HasAudio
	HasAV
	HasAny
)

// Main is the value that stands for the picture where there is one: of av,
// video, unlabelled, audio the first present.
func (t ByType) Main() (v int64, ok bool) {
	switch {
	case t.Set&HasAV != 0:
		return t.AV, true
	case t.Set&HasVideo != 0:
		return t.Video, true
	case t.Set&HasAny != 0:
		return t.Any, true
	case t.Set&HasAudio != 0:
		return t.Audio, true
	}
	return 0, false
}

// Total is the value of all types together, for bitrates: av, or else video
// plus audio, or else the unlabelled value.
func (t ByType) Total() (v int64, ok bool) {
	switch {
	case t.Set&HasAV != 0:
		return t.AV, true
	case t.Set&(HasVideo|HasAudio) != 0:
		return t.Video + t.Audio, true
	}
	return t.Any, t.Set&HasAny != 0
}

// Min is the smallest value present, for buffers: playback stops with the first that runs empty.
func (t ByType) Min() (v int64, ok bool) {
	put := func(has TypeSet, x int64) {
		if t.Set&has != 0 && (!ok || x < v) {
			v, ok = x, true
		}
	}
	put(HasVideo, t.Video)
	put(HasAudio, t.Audio)
	put(HasAV, t.AV)
	put(HasAny, t.Any)
	return v, ok
}

// Any gives a ByType with one value without label.
func Any(v int64) ByType { return ByType{Any: v, Set: HasAny} }

// Max is the largest value present.
func (t ByType) Max() (v int64, ok bool) {
	put := func(has TypeSet, x int64) {
		if t.Set&has != 0 && (!ok || x > v) {
			v, ok = x, true
		}
	}
	put(HasVideo, t.Video)
	put(HasAudio, t.Audio)
	put(HasAV, t.AV)
	put(HasAny, t.Any)
	return v, ok
}

// NextObject is one item of nor: an object that will be requested next.
type NextObject struct {
	Path  string // relative to the current request
	Range string // byte range "a-b", "a-" or "-n", or empty
}

// CustomKind is the type that a custom value was sent with.
type CustomKind uint8

// Kinds of custom values.
const (
	CustomString CustomKind = iota
	CustomToken
	CustomNumber
	CustomBool // Value is "?1" or "?0"
)

// CustomValue is a custom (hyphenated) key with its value as text.
type CustomValue struct {
	Key, Value string
	Kind       CustomKind
}

// Record is one CMCD report. A field means something only when Has contains its
// key. Meanings and units are those of CTA-5004-B.
type Record struct {
	Has     KeySet
	Mode    Mode
	Version int // 1 when v is missing
	// Player is who sent the record: what the caller knows, or else what
	// [Record.Correct] made of the fields.
	Player Player

	AggregateKbps       ByType     // ab
	Backgrounded        bool       // bg
	BufferMs            ByType     // bl
	BitrateKbps         ByType     // br
	Starved             bool       // bs: since the last report to this target
	Starvations         ByType     // bsa: count since the session started
	StarvedMs           ByType     // bsd: the last finished one
	StarvedTotalMs      ByType     // bsda: since the session started
	CDN                 string     // cdn: in no specification
	CustomEvent         string     // cen
	ContentID           string     // cid
	CMSDDynamic         string     // cmsdd, base64
	CMSDStatic          string     // cmsds, base64
	ContentSignature    string     // cs
	ObjectMs            int64      // d: duration of the requested object
	DroppedFrames       int64      // dfa: since the session started
	DeadlineMs          int64      // dl
	Event               Event      // e
	EventToken          string     // e as sent, when Event is EventOther
	Host                string     // h
	LowestAggregateKbps ByType     // lab
	LowestKbps          ByType     // lb
	LatencyMs           int64      // ltc: live latency
	StartDelayMs        int64      // msd: media start delay
	ThroughputKbps      ByType     // mtp
	NotRendered         bool       // nr
	Object              Object     // ot
	PlayheadKbps        ByType     // pb: bitrate shown
	Rate                float64    // pr: 0 is not playing, 1 is normal
	PlayheadMs          int64      // pt: VOD offset, or Unix ms when live
	Status              int64      // rc: HTTP status, 0 for none
	RequestedMaxKbps    int64      // rtp
	Format              Format     // sf
	SessionID           string     // sid
	RequestTrace        string     // smrt, base64
	Seq                 int64      // sn
	StreamType          StreamType // st
	State               State      // sta
	StateToken          string     // sta as sent, when State is StateOther
	Urgent              bool       // su
	TopAggregateKbps    ByType     // tab
	TopKbps             ByType     // tb
	TargetBufferMs      ByType     // tbl
	TopPlayableKbps     ByType     // tpb
	TimeUnixMs          int64      // ts: when the event happened, or the request of an rr started
	FirstByteMs         int64      // ttfb, after ts
	FirstBodyByteMs     int64      // ttfbb, after ts
	LastByteMs          int64      // ttlb, after ts
	URL                 string     // url: may hold tokens and personal data

	errorCodes [MaxErrorCodes]string
	next       [MaxNext]NextObject
	custom     [MaxCustom]CustomValue
	issues     [MaxIssues]Issue

	nErrorCodes, nNext, nCustom, nIssues uint8

	// Strict: the whole text was valid by RFC 8941.
	Strict bool
	// Scalars are list keys that were sent without parentheses, Coerced keys
	// whose value was understood although it had another type than specified.
	Scalars, Coerced KeySet
	// Members counts the members of the text, good or bad; UnknownKeys those
	// with a key that is neither reserved nor custom.
	Members, UnknownKeys int
	// MoreIssues counts issues beyond MaxIssues.
	MoreIssues int

	nrr string // v1 range of nor
}

// ErrorCodes gives ec. The slice is part of the record.
func (r *Record) ErrorCodes() []string { return r.errorCodes[:r.nErrorCodes] }

// Next gives nor. The slice is part of the record.
func (r *Record) Next() []NextObject { return r.next[:r.nNext] }

// Custom gives the custom keys. The slice is part of the record.
func (r *Record) Custom() []CustomValue { return r.custom[:r.nCustom] }

// CustomString gives the value of a custom key, or "".
func (r *Record) CustomString(key string) string {
	for i := range r.custom[:r.nCustom] {
		if r.custom[i].Key == key {
			return r.custom[i].Value
		}
	}
	return ""
}

// Issues tells what was dropped. The slice is part of the record.
func (r *Record) Issues() []Issue { return r.issues[:r.nIssues] }

// SetErrorCodes sets ec; codes beyond MaxErrorCodes are left out.
func (r *Record) SetErrorCodes(codes ...string) {
	r.nErrorCodes = uint8(copy(r.errorCodes[:], codes))
	r.Has |= 1 << EC
}

// SetNext sets nor; objects beyond MaxNext are left out.
func (r *Record) SetNext(next ...NextObject) {
	r.nNext = uint8(copy(r.next[:], next))
	r.Has |= 1 << NOR
}

// SetCustom sets a custom key. It reports false when there are MaxCustom others already.
func (r *Record) SetCustom(c CustomValue) bool {
	for i := range r.custom[:r.nCustom] {
		if r.custom[i].Key == c.Key {
			r.custom[i] = c
			return true
		}
	}
	if r.nCustom == MaxCustom {
		return false
	}
	r.custom[r.nCustom] = c
	r.nCustom++
	return true
}

// Put marks keys as present after their fields were set.
func (r *Record) Put(ks ...Key) { r.Has |= Keys(ks...) }

// Drop marks keys as absent.
func (r *Record) Drop(ks ...Key) { r.Has &^= Keys(ks...) }

// Issue is a member, or an item of one, that was dropped.
type Issue struct {
	Key    Key
	Reason Reason
}

// Reason says why something was dropped. Its String is a metric label.
type Reason uint8

// Reasons.
const (
	BadKey       Reason = iota // the name is not a key
	BadSyntax                  // the value cannot be read
	Empty                      // key=
	WrongType                  // e.g. a token where a number is specified
	OutOfRange                 // negative, or too large for any meaning
	TooLong                    // longer than the limit of its key
	BadText                    // control characters, or not UTF-8
	UnknownToken               // a token that the key does not have; kept as "other"
	TooMany                    // list items or custom keys beyond the limit
	Null                       // null, undefined or NaN written as a value
	numReasons
)

var reasonNames = [numReasons]string{
	"bad_key", "bad_syntax", "empty", "wrong_type", "out_of_range", "too_long", "bad_text", "unknown_token", "too_many", "null",
}

func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return "other"
}

func (r *Record) issue(k Key, why Reason) {
	if int(r.nIssues) == len(r.issues) {
		r.MoreIssues++
		return
	}
	r.issues[r.nIssues] = Issue{k, why}
	r.nIssues++
}

func (r *Record) byType(k Key) *ByType {
	switch k {
	case AB:
		return &r.AggregateKbps
	case BL:
		return &r.BufferMs
	case BR:
		return &r.BitrateKbps
	case BSA:
		return &r.Starvations
	case BSD:
		return &r.StarvedMs
	case BSDA:
		return &r.StarvedTotalMs
	case LAB:
		return &r.LowestAggregateKbps
	case LB:
		return &r.LowestKbps
	case MTP:
		return &r.ThroughputKbps
	case PB:
		return &r.PlayheadKbps
	case TAB:
		return &r.TopAggregateKbps
	case TB:
		return &r.TopKbps
	case TBL:
		return &r.TargetBufferMs
	}
	return &r.TopPlayableKbps
}

func (r *Record) integer(k Key) *int64 {
	switch k {
	case D:
		return &r.ObjectMs
	case DFA:
		return &r.DroppedFrames
	case DL:
		return &r.DeadlineMs
	case LTC:
		return &r.LatencyMs
	case MSD:
		return &r.StartDelayMs
	case PT:
		return &r.PlayheadMs
	case RC:
		return &r.Status
	case RTP:
		return &r.RequestedMaxKbps
	case SN:
		return &r.Seq
	case TS:
		return &r.TimeUnixMs
	case TTFB:
		return &r.FirstByteMs
	case TTFBB:
		return &r.FirstBodyByteMs
	}
	return &r.LastByteMs
}

func (r *Record) boolean(k Key) *bool {
	switch k {
	case BG:
		return &r.Backgrounded
	case BS:
		return &r.Starved
	case NR:
		return &r.NotRendered
	}
	return &r.Urgent
}

func (r *Record) text(k Key) *string {
	switch k {
	case CDN:
		return &r.CDN
	case CEN:
		return &r.CustomEvent
	case CID:
		return &r.ContentID
	case CMSDD:
		return &r.CMSDDynamic
	case CMSDS:
		return &r.CMSDStatic
	case CS:
		return &r.ContentSignature
	case H:
		return &r.Host
	case NRR:
		return &r.nrr
	case SID:
		return &r.SessionID
	case SMRT:
		return &r.RequestTrace
	}
	return &r.URL
}
