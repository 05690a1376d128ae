package publisher

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/spillway-live/spillway/testenv/child"
)

// FLV tag types, which are the RTMP message types of the same contents (Adobe FLV 10.1, E.4.1).
const (
	tagAudio  = 8
	tagVideo  = 9
	tagScript = 18
)

const (
	flvHeaderBytes = 9
	flvTagHead     = 11
	flvTagTail     = 4
	// maxClipBytes bounds the memory of a clip.
	maxClipBytes = 1 << 30
)

// flvTag is one message of a clip; its body is exactly what RTMP carries.
type flvTag struct {
	kind byte
	at   time.Duration
	body []byte
}

// isHeader says whether the tag holds decoder settings rather than media.
func (t flvTag) isHeader() bool { return len(t.body) > 1 && t.isH264OrAAC() && t.body[1] == 0 }

// isEnd says whether the tag only tells the end of the video.
func (t flvTag) isEnd() bool { return t.kind == tagVideo && len(t.body) > 1 && t.body[1] == 2 }

func (t flvTag) isH264OrAAC() bool {
	const h264, aac = 7, 10
	return t.kind == tagVideo && t.body[0]&0x8F == h264 || t.kind == tagAudio && t.body[0]>>4 == aac
}

// loadClip reads an FLV file, or has ffmpeg repack any other file as FLV without re-encoding.
func loadClip(ctx context.Context, ffmpeg, path string) ([]flvTag, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open clip: %w", err)
	}
	if info.Size() > maxClipBytes {
		return nil, fmt.Errorf("clip %s has %d bytes, more than %d: cut it shorter", path, info.Size(), maxClipBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read clip: %w", err)
	}
	if !bytes.HasPrefix(data, []byte("FLV")) {
		if data, err = repack(ctx, ffmpeg, path); err != nil {
			return nil, err
		}
	}
	tags, err := parseFLV(data)
	if err != nil {
		return nil, fmt.Errorf("read clip %s: %w", path, err)
	}
	return tags, nil
}

func repack(ctx context.Context, ffmpeg, path string) ([]byte, error) {
	program, err := findProgram(ffmpeg)
	if err != nil {
		return nil, err
	}
	var said child.Tail
	cmd := exec.CommandContext(ctx, program, "-v", "error", "-nostdin", "-i", "file:"+path, "-map", "0:v:0?", "-map", "0:a:0?",
		"-c", "copy", "-flvflags", "no_duration_filesize", "-f", "flv", "pipe:1")
	cmd.Stderr = &said
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("repack clip %s as FLV (it must hold H.264 and AAC): %w: %s", path, err, said.LastLine())
	}
	return data, nil
}

// parseFLV splits a file into tags. A last tag that was cut off is left out, as after an interrupted recording.
func parseFLV(data []byte) ([]flvTag, error) {
	if len(data) < flvHeaderBytes || !bytes.HasPrefix(data, []byte("FLV")) {
		return nil, errors.New("not an FLV file: it does not start with FLV")
	}
	head := int64(binary.BigEndian.Uint32(data[5:]))
	if head < flvHeaderBytes || head+flvTagTail > int64(len(data)) {
		return nil, fmt.Errorf("FLV header of %d bytes does not fit the file", head)
	}
	rest := data[head+flvTagTail:]
	var tags []flvTag
	for len(rest) >= flvTagHead {
		size := int(rest[1])<<16 | int(rest[2])<<8 | int(rest[3])
		if len(rest) < flvTagHead+size {
			break
		}
		ms := uint32(rest[7])<<24 | uint32(rest[4])<<16 | uint32(rest[5])<<8 | uint32(rest[6])
		tag := flvTag{rest[0], time.Duration(ms) * time.Millisecond, rest[flvTagHead : flvTagHead+size]}
		switch {
		case tag.kind != tagAudio && tag.kind != tagVideo && tag.kind != tagScript:
			return nil, fmt.Errorf("FLV tag type %d at byte %d is none of audio, video, script", tag.kind, len(data)-len(rest))
		case size == 0 || tag.isEnd():
		case tag.kind != tagScript && !tag.isH264OrAAC():
			return nil, errors.New("the clip holds something else than H.264 and AAC: re-encode it")
		default:
			tags = append(tags, tag)
		}
		rest = rest[min(flvTagHead+size+flvTagTail, len(rest)):]
	}
	return tags, nil
}
