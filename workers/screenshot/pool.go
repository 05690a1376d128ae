package screenshot

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os/exec"
	"sync"
	"time"
)

// Pool decodes with a few ffmpeg processes that go on running: one that runs
// takes 6 to 10 ms of CPU for a picture of 720p, a start takes 100. No process
// belongs to a stream; each takes the key frames of any stream of its codec.
//
// It promises that a picture is that of its key frame, or there is none: what
// goes into a process carries a number that comes out with the picture. A key
// frame that ends or hangs a process is lost with a reason, and only it.
type Pool struct {
	// Path of the program; default ffmpeg from PATH.
	Path string
	// Processes at most for each of the codecs H.264, H.265 and AV1; default 2.
	Processes int
	// Timeout after which a key frame is given up and its process killed; default 5 s.
	Timeout time.Duration
	// MaxAllocBytes is the largest single allocation of a process; default 128 MiB.
	MaxAllocBytes int64
	// MaxPixels is the largest picture that is decoded; default 7680 x 4320.
	MaxPixels int64
	// MemoryBytes bounds the address space of a process, where the system can (Linux); default 2 GiB.
	MemoryBytes uint64
	// Idle is how long a process without work is kept; default 1 minute.
	Idle time.Duration

	once sync.Once
	path string
	err  error

	mu     sync.Mutex
	closed bool
	slots  [codecs]chan struct{}
	idle   [codecs][]*process
	// Started counts processes, Lost those that were killed or ended by themselves.
	started, lost int
}

// retireAfter is how many pictures a process makes: what it may leak stays bounded.
const retireAfter = 5000

func (p *Pool) start() {
	def(&p.Path, "ffmpeg")
	def(&p.Processes, 2)
	def(&p.Timeout, 5*time.Second)
	def(&p.MaxAllocBytes, 128<<20)
	def(&p.MaxPixels, 7680*4320)
	def(&p.MemoryBytes, 2<<30)
	def(&p.Idle, time.Minute)
	for i := range p.slots {
		p.slots[i] = make(chan struct{}, p.Processes)
	}
	var err error
	if p.path, err = exec.LookPath(p.Path); err != nil {
		p.err = fmt.Errorf("%w (%w)", ErrNoDecoder, err)
	}
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Decode implements [Decoder].
func (p *Pool) Decode(ctx context.Context, init, fragment []byte, width int) (*image.YCbCr, error) {
	p.once.Do(p.start)
	if p.err != nil {
		return nil, p.err
	}
	k, err := readKeyFrame(init, fragment)
	if err != nil {
		return nil, err
	}
	select {
	case p.slots[k.codec] <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.slots[k.codec] }()
	w, h := k.size(width)
	d, err := p.take(k.codec)
	if err != nil {
		return nil, err
	}
	img, err := d.picture(ctx, k.data, w, h, p.Timeout)
	if errors.Is(err, errWasGone) {
		// It ended between two pictures, so this key frame is not the cause.
		p.count(&p.lost)
		if d, err = p.open(k.codec); err != nil {
			return nil, err
		}
		img, err = d.picture(ctx, k.data, w, h, p.Timeout)
	}
	p.giveBack(k.codec, d)
	return img, err
}

// take gives a process that waits for work, or a new one.
func (p *Pool) take(c codec) (*process, error) {
	p.mu.Lock()
	if n := len(p.idle[c]); n > 0 {
		d := p.idle[c][n-1]
		p.idle[c] = p.idle[c][:n-1]
		p.mu.Unlock()
		d.rest.Stop()
		return d, nil
	}
	p.mu.Unlock()
	return p.open(c)
}

func (p *Pool) open(c codec) (*process, error) {
	p.count(&p.started)
	return open(p.path, c, limits{maxAlloc: p.MaxAllocBytes, maxPixels: p.MaxPixels, memory: p.MemoryBytes})
}

func (p *Pool) count(n *int) {
	p.mu.Lock()
	*n++
	p.mu.Unlock()
}

// giveBack keeps a process for the next key frame, unless it is spent.
func (p *Pool) giveBack(c codec, d *process) {
	if d.gone() {
		p.count(&p.lost)
		d.kill()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || d.made >= retireAfter {
		go d.kill()
		return
	}
	p.idle[c] = append(p.idle[c], d)
	d.rest = time.AfterFunc(p.Idle, func() { p.retire(c, d) })
}

// retire ends a process that has had no work for a while.
func (p *Pool) retire(c codec, d *process) {
	p.mu.Lock()
	found := false
	for i, x := range p.idle[c] {
		if x == d {
			p.idle[c] = append(p.idle[c][:i:i], p.idle[c][i+1:]...)
			found = true
			break
		}
	}
	p.mu.Unlock()
	if found {
		d.kill()
	}
}

// Close ends the processes that wait for work; those at work end when it is done.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = [codecs][]*process{}
	p.mu.Unlock()
	for _, list := range idle {
		for _, d := range list {
			d.rest.Stop()
			d.kill()
		}
	}
}
