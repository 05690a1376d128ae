package rtmp

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluenviron/gortmplib/pkg/rawmessage"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
)

// demux reads configurations and frames out of RTMP messages (FLV tags, Adobe FLV 10.1
// annex E; Enhanced RTMP v2 for tags with a FourCC). It knows no bus.
type demux struct {
	clock cut.Unwrap
	meta  metadata

	video videoDemux
	audio audioDemux
	// onSkip, if set, is told why something was passed over: it counts.
	onSkip func(reason string)
}

// taken is what one message held.
type taken struct {
	frame  cut.Frame
	video  bool
	audio  bool
	config bool // a configuration that differs from the one before
	end    bool // the publisher says that it is done
}

func notTaken(what string) error {
	return publish.Refuse("codec", what+" is not taken: publish H.264, HEVC or AV1 video, and AAC or Opus audio")
}

func badConfig(what string, err error) error {
	return publish.Refuse("codec", fmt.Sprintf("%s configuration: %v", what, err))
}

var fourCCs = map[string]string{
	"av01": "AV1", "vp09": "VP9", "vp08": "VP8", "hvc1": "HEVC", "vvc1": "VVC",
	"Opus": "Opus", "ac-3": "AC-3", "ec-3": "E-AC-3", ".mp3": "MP3", "fLaC": "FLAC",
}

func fourCC(f string) string {
	if n, ok := fourCCs[f]; ok {
		return n
	}
	return fmt.Sprintf("codec %q", f)
}

var (
	videoCodecs = map[byte]string{2: "Sorenson H.263", 3: "Screen video", 4: "VP6", 5: "VP6 with alpha", 6: "Screen video 2", 13: "AV1 without a FourCC"}
	audioCodecs = map[byte]string{
		0: "PCM", 1: "ADPCM", 2: "MP3", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser", 7: "G.711", 8: "G.711", 11: "Speex", 14: "MP3",
	}
)

func codecName(names map[byte]string, kind string, id byte) string {
	if n, ok := names[id]; ok {
		return n
	}
	return fmt.Sprintf("%s codec %d", kind, id)
}

// take reads a message that arrived at now. Errors wrap [cut.ErrBitstream] for a
// damaged tag, after which the stream may go on.
func (d *demux) take(m *rawmessage.Message, now time.Time) (taken, error) {
	switch m.Type {
	case typeVideo:
		return d.videoTag(m.Body, timestamp(m), now)
	case typeAudio:
		return d.audioTag(m.Body, timestamp(m), now)
	case typeDataAMF0, typeDataAMF3:
		if v, err := amfOf(m); err == nil { // metadata that cannot be read announces nothing
			d.meta.read(v, timestamp(m))
		}
	case typeCommandAMF0, typeCommandAMF3:
		c, err := asCommand(m)
		if err != nil {
			return taken{}, err
		}
		if c != nil && (c.name == "FCUnpublish" || c.name == "deleteStream" || c.name == "closeStream") {
			return taken{end: true}, nil
		}
	}
	return taken{}, nil
}

var errShortTag = fmt.Errorf("%w: tag is cut short", cut.ErrBitstream)

func (d *demux) skip(reason string) {
	if d.onSkip != nil {
		d.onSkip(reason)
	}
}

// readError puts what is wrong with a message in the words of a refusal.
func readError(err error) error {
	if err != nil && strings.Contains(err.Error(), "body size") {
		return publish.Refuse("too_large", fmt.Sprintf("an RTMP message is too large: %v", err))
	}
	return err
}

var errRecord = errors.New("the record is cut short")
