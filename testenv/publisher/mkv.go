package publisher

import (
	"encoding/binary"
	"io"
	"math"
	"time"
)

// mkvWriter writes uncompressed pictures and sound to one pipe as a live Matroska stream (RFC 9559), so that
// every frame keeps the time it was captured at: a raw video pipe has no timestamps, so there a skipped frame
// would pull picture and sound apart, and two pipes make ffmpeg wait for the slower one.
type mkvWriter struct {
	w    io.Writer
	head []byte
}

// mkvTick is the unit of timestamps on the pipe. RTMP rounds to 1 ms later; this adds next to nothing.
const mkvTick = 100 * time.Microsecond

const (
	trackVideo = 1
	trackAudio = 2
)

// Element ids used here (RFC 9559, section 5).
const (
	idEBML, idDocType, idDocTypeVersion, idDocTypeReadVersion = 0x1A45DFA3, 0x4282, 0x4287, 0x4285

	idSegment, idInfo, idTimestampScale, idMuxingApp, idWritingApp = 0x18538067, 0x1549A966, 0x2AD7B1, 0x4D80, 0x5741

	idTracks, idTrackEntry, idTrackNumber, idTrackUID, idTrackType = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83

	idFlagLacing, idCodecID, idDefaultDuration = 0x9C, 0x86, 0x23E383

	idVideo, idPixelWidth, idPixelHeight, idFourCC     = 0xE0, 0xB0, 0xBA, 0x2EB524
	idAudio, idSampleRate, idChannels, idBitDepth      = 0xE1, 0xB5, 0x9F, 0x6264
	idCluster, idClusterTimestamp, idSimpleBlock       = 0x1F43B675, 0xE7, 0xA3
	unknownSize                                        = 0x01FFFFFFFFFFFFFF
	simpleBlockHead, simpleBlockKeyFrame               = 4, 0x80
	maxVintSize                                    int = 8
)

// newMKV writes the stream's head for yuv420p pictures and, unless sampleRate is 0, mono 16-bit sound.
func newMKV(w io.Writer, width, height int, frameInterval time.Duration, sampleRate int) (*mkvWriter, error) {
	var doc, info, tracks []byte
	doc = element(doc, idDocType, []byte("matroska"))
	doc = element(doc, idDocTypeVersion, unsigned(4))
	doc = element(doc, idDocTypeReadVersion, unsigned(2))

	info = element(info, idTimestampScale, unsigned(uint64(mkvTick.Nanoseconds())))
	info = element(info, idMuxingApp, []byte("spillway"))
	info = element(info, idWritingApp, []byte("spillway"))

	var video []byte
	video = element(video, idPixelWidth, unsigned(uint64(width)))
	video = element(video, idPixelHeight, unsigned(uint64(height)))
	video = element(video, idFourCC, []byte("I420"))
	entry := trackEntry(trackVideo, 1, "V_UNCOMPRESSED")
	entry = element(entry, idDefaultDuration, unsigned(uint64(frameInterval.Nanoseconds())))
	entry = element(entry, idVideo, video)
	tracks = element(tracks, idTrackEntry, entry)
	if sampleRate > 0 {
		var audio []byte
		audio = element(audio, idSampleRate, binary.BigEndian.AppendUint64(nil, math.Float64bits(float64(sampleRate))))
		audio = element(audio, idChannels, unsigned(1))
		audio = element(audio, idBitDepth, unsigned(16))
		tracks = element(tracks, idTrackEntry, element(trackEntry(trackAudio, 2, "A_PCM/INT/LIT"), idAudio, audio))
	}

	var head []byte
	head = element(head, idEBML, doc)
	head = appendID(head, idSegment)
	head = binary.BigEndian.AppendUint64(head, unknownSize)
	head = element(head, idInfo, info)
	head = element(head, idTracks, tracks)
	_, err := w.Write(head)
	return &mkvWriter{w: w}, err
}

func trackEntry(number, kind uint64, codec string) []byte {
	var e []byte
	e = element(e, idTrackNumber, unsigned(number))
	e = element(e, idTrackUID, unsigned(number))
	e = element(e, idTrackType, unsigned(kind))
	e = element(e, idFlagLacing, unsigned(0))
	return element(e, idCodecID, []byte(codec))
}

// write sends one cluster: sound (may be empty) that starts at audioAt, then one picture shown at videoAt. The
// sound may lead the picture by at most three seconds.
func (m *mkvWriter) write(videoAt time.Duration, picture []byte, audioAt time.Duration, sound []byte) error {
	base := videoAt
	if len(sound) > 0 && audioAt < base {
		base = audioAt
	}
	base = base.Round(mkvTick)
	body := element(nil, idClusterTimestamp, unsigned(uint64(base/mkvTick)))
	if len(sound) > 0 {
		body = appendBlockHead(body, trackAudio, audioAt-base, len(sound))
		body = append(body, sound...)
	}
	body = appendBlockHead(body, trackVideo, videoAt-base, len(picture))
	m.head = appendID(m.head[:0], idCluster)
	m.head = appendSize(m.head, len(body)+len(picture))
	m.head = append(m.head, body...)
	if _, err := m.w.Write(m.head); err != nil {
		return err
	}
	_, err := m.w.Write(picture)
	return err
}

func appendBlockHead(dst []byte, track byte, at time.Duration, payload int) []byte {
	dst = appendID(dst, idSimpleBlock)
	dst = appendSize(dst, simpleBlockHead+payload)
	dst = append(dst, 0x80|track)
	dst = binary.BigEndian.AppendUint16(dst, uint16(int16(at.Round(mkvTick)/mkvTick)))
	return append(dst, simpleBlockKeyFrame)
}

func element(dst []byte, id uint32, data []byte) []byte {
	return append(appendSize(appendID(dst, id), len(data)), data...)
}

func appendID(dst []byte, id uint32) []byte {
	for shift := 24; shift >= 0; shift -= 8 {
		if id>>shift != 0 {
			dst = append(dst, byte(id>>shift))
		}
	}
	return dst
}

// appendSize writes a length as an eight-byte EBML integer: the longest form is always allowed.
func appendSize(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint64(dst, 1<<(7*maxVintSize)|uint64(n))
}

func unsigned(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
