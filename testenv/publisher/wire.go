package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/bluenviron/gortmplib/pkg/bytecounter"
	"github.com/bluenviron/gortmplib/pkg/rawmessage"
)

// RTMP chunk streams and the chunk size the client library announces (RTMP 1.0, 5.3 and 5.4.1).
const (
	wireChunkBytes    = 65536
	wireMessageStream = 0x1000000
	audioChunkStream  = 4
	videoChunkStream  = 6
)

// wirePlan is a clip in RTMP's wire form. Chunk headers hold the time since the message before, so every round
// but the first is made of the same bytes, on every connection.
type wirePlan struct {
	// opening holds the metadata and the decoder settings.
	opening [][]byte
	// first is the first round, next every other one.
	first, next []wireMessage
	// length of a round.
	length time.Duration
}

type wireMessage struct {
	// at is when to send it, after the start of its round.
	at      time.Duration
	wire    []byte
	picture bool
}

func newWirePlan(tags []flvTag) (*wirePlan, error) {
	p := &wirePlan{}
	var media []flvTag
	var buf bytes.Buffer
	w := rawmessage.NewWriter(&buf, bytecounter.NewWriter(io.Discard), false)
	w.SetChunkSize(wireChunkBytes)
	wire := func(tag flvTag, at time.Duration) ([]byte, error) {
		buf.Reset()
		stream, body := byte(videoChunkStream), tag.body
		switch tag.kind {
		case tagAudio:
			stream = audioChunkStream
		case tagScript:
			// "@setDataFrame" as an AMF0 string, before what the file holds, asks the server to keep it.
			const setDataFrame = "\x02\x00\x0d@setDataFrame"
			stream, body = audioChunkStream, append([]byte(setDataFrame), tag.body...)
		}
		err := w.Write(&rawmessage.Message{ChunkStreamID: stream, Timestamp: at, Type: tag.kind,
			MessageStreamID: wireMessageStream, Body: body})
		return bytes.Clone(buf.Bytes()), err
	}
	for _, tag := range tags {
		if tag.kind != tagScript && !tag.isHeader() {
			media = append(media, tag)
			continue
		}
		if len(media) > 0 {
			continue // settings repeated within the clip
		}
		b, err := wire(tag, 0)
		if err != nil {
			return nil, err
		}
		p.opening = append(p.opening, b)
	}
	media, begin, err := p.trim(media)
	if err != nil {
		return nil, err
	}
	for round := range 2 {
		messages := make([]wireMessage, 0, len(media))
		for _, tag := range media {
			at := tag.at - begin
			b, err := wire(tag, at+time.Duration(round)*p.length)
			if err != nil {
				return nil, err
			}
			messages = append(messages, wireMessage{at, b, tag.kind == tagVideo})
		}
		p.first, p.next = p.next, messages
	}
	return p, nil
}

// trim settles the length of a round, that of the picture if there is one, and leaves out sound beyond it.
func (p *wirePlan) trim(media []flvTag) (kept []flvTag, begin time.Duration, err error) {
	var times [256][]time.Duration
	for _, tag := range media {
		times[tag.kind] = append(times[tag.kind], tag.at)
	}
	lead := byte(tagVideo)
	if len(times[tagVideo]) == 0 {
		lead = tagAudio
	}
	n := len(times[lead])
	if n < 2 {
		return nil, 0, errors.New("it holds less than two frames")
	}
	for kind, at := range times {
		if !slices.IsSorted(at) {
			return nil, 0, fmt.Errorf("timestamps of FLV tag type %d go backwards", kind)
		}
	}
	// The last frame is as long as the frames are on average: single ones are rounded to milliseconds.
	span := times[lead][n-1] - times[lead][0]
	p.length = (span * time.Duration(n) / time.Duration(n-1)).Round(time.Millisecond)
	if p.length <= span {
		return nil, 0, errors.New("all its frames have the same time")
	}
	for _, tag := range media {
		if first := times[tag.kind][0]; tag.at-first < p.length {
			kept = append(kept, tag)
		}
	}
	begin = kept[0].at
	for _, tag := range kept {
		begin = min(begin, tag.at)
	}
	return kept, begin, nil
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
