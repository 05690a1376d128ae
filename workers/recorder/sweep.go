package recorder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/store"
)

// sweepLoop deletes what has aged out, now and then. Processes do it at
// different moments; doing it twice is harmless.
func (r *Recorder) sweepLoop(ctx context.Context) {
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.SweepEvery/2 + rand.N(r.SweepEvery)):
		}
		n, err := Sweep(ctx, r.Store, time.Now(), func(k schemas.StreamKey) time.Duration {
			return time.Duration(r.settings(k).DVRSec)*time.Second + r.Slack
		})
		r.m.deleted.Add(float64(n))
		if err != nil && ctx.Err() == nil && !told {
			r.Logger.Warn("cannot delete all that has aged out; trying again", "err", err)
		}
		told = err != nil
	}
}

// Sweep deletes the blocks of class dvr that ended longer ago than keep says for
// their stream, and gives the number of objects deleted. It goes on after errors.
func Sweep(ctx context.Context, o store.Objects, now time.Time, keep func(schemas.StreamKey) time.Duration) (deleted int, err error) {
	var errs []error
	err = walk(ctx, o, archive.ClassDVR+"/", 4, func(prefix string, names []string) {
		// names: application, stream, rendition, track
		blocks, err := o.Dirs(ctx, prefix)
		if err != nil {
			errs = append(errs, err)
			return
		}
		key := schemas.StreamKey{App: names[0], Stream: names[1]}
		limit := now.Add(-keep(key))
		var marked []string
		for _, b := range blocks {
			at, err := archive.ParseBlock(b)
			if err != nil || at.Add(archive.BlockDuration).After(limit) {
				continue // what was not written by a recorder stays
			}
			if marked == nil {
				if marked, err = marks(ctx, o, key); err != nil {
					errs = append(errs, err)
					return
				}
			}
			if slices.Contains(marked, b) {
				continue
			}
			n, err := deleteAll(ctx, o, prefix+b+"/")
			deleted += n
			if err != nil {
				errs = append(errs, err)
			}
		}
	})
	n, marksErr := sweepMarks(ctx, o, now)
	return deleted + n, errors.Join(append(errs, err, marksErr)...)
}

// marks gives the blocks of a stream that verdicts have marked; never nil without an error.
func marks(ctx context.Context, o store.Objects, k schemas.StreamKey) ([]string, error) {
	blocks, err := o.Dirs(ctx, archive.MarksPrefix(k))
	if err != nil {
		return nil, fmt.Errorf("sweep: read marks of %s: %w", k, err)
	}
	return append(make([]string, 0, len(blocks)), blocks...), nil
}

// sweepMarks deletes marks that are over; what they marked goes with the next sweep.
func sweepMarks(ctx context.Context, o store.Objects, now time.Time) (deleted int, err error) {
	var errs []error
	err = walk(ctx, o, archive.ClassMarks+"/", 3, func(prefix string, names []string) {
		at, err := archive.ParseBlock(names[2])
		if err != nil || at.Add(archive.MarkKept).After(now) {
			return
		}
		n, err := deleteAll(ctx, o, prefix)
		deleted += n
		errs = append(errs, err)
	})
	return deleted, errors.Join(append(errs, err)...)
}

// walk visits the folders that are depth levels below prefix.
func walk(ctx context.Context, o store.Objects, prefix string, depth int, visit func(prefix string, names []string)) error {
	var down func(prefix string, names []string) error
	down = func(prefix string, names []string) error {
		if len(names) == depth {
			visit(prefix, names)
			return ctx.Err()
		}
		dirs, err := o.Dirs(ctx, prefix)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		for _, d := range dirs {
			if err := down(prefix+d+"/", append(names[:len(names):len(names)], d)); err != nil {
				return err
			}
		}
		return nil
	}
	return down(prefix, nil)
}

func deleteAll(ctx context.Context, o store.Objects, prefix string) (n int, err error) {
	for {
		l, err := o.List(ctx, prefix, "", 1000)
		if err != nil || len(l) == 0 {
			return n, err
		}
		keys := make([]string, len(l))
		for i := range l {
			keys[i] = l[i].Key
		}
		if err := o.Delete(ctx, keys...); err != nil {
			return n, err
		}
		n += len(keys)
	}
}
