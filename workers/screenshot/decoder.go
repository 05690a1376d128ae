package screenshot

import (
	"context"
	"errors"
	"image"
)

// Decoder makes a small picture of a fragment's first key frame. It may be
// called by several goroutines at once. It returns [ErrNoDecoder] when it can
// never work on this machine; any other error is about this fragment.
type Decoder interface {
	// Decode scales to width pixels at most; the height keeps the shape. Luma is
	// of full range, as JPEG has it.
	Decode(ctx context.Context, init, fragment []byte, width int) (*image.YCbCr, error)
}

// ErrDecoderLost: the key frame ended its decoder, or made it complain and give
// nothing, or its time was over. Another decoder takes the next one.
var ErrDecoderLost = errors.New("the key frame cost its decoder")

// ErrNoDecoder: this machine has nothing to decode with.
var ErrNoDecoder = errors.New("ffmpeg is not installed: install it (for example apt-get install ffmpeg) and start the worker again")
