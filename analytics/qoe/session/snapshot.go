package session

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
)

// snapshotVersion changes whenever the meaning of the state does; a snapshot of
// another version is refused and the state is made anew from the bus.
const snapshotVersion = 1

// ErrVersion says that a snapshot was written by another version of the state.
var ErrVersion = errors.New("session snapshot has another version")

type header struct {
	Version  int
	Sessions int
	Last     int64
}

// Snapshot writes the state as of the last Tick. Rows added since are not in
// it: the caller replays them.
func (t *Table) Snapshot(w io.Writer) error {
	e := gob.NewEncoder(w)
	if err := e.Encode(header{snapshotVersion, len(t.order), t.last}); err != nil {
		return fmt.Errorf("write session snapshot: %w", err)
	}
	for _, o := range t.order {
		if err := e.Encode(o); err != nil {
			return fmt.Errorf("write session snapshot: session %s: %w", o.ID, err)
		}
	}
	return nil
}

// Restore reads what Snapshot wrote. Errors: ErrVersion; those of damaged data.
func Restore(r io.Reader, c Config) (*Table, error) {
	t := New(c)
	d := gob.NewDecoder(r)
	var h header
	if err := d.Decode(&h); err != nil {
		return nil, fmt.Errorf("read session snapshot: %w", err)
	}
	if h.Version != snapshotVersion {
		return nil, fmt.Errorf("%w: %d, not %d", ErrVersion, h.Version, snapshotVersion)
	}
	t.last = h.Last
	for i := range h.Sessions {
		o := new(one)
		if err := d.Decode(o); err != nil {
			return nil, fmt.Errorf("read session snapshot: session %d of %d: %w", i+1, h.Sessions, err)
		}
		if o.ID == "" || t.byID[o.ID] != nil {
			return nil, fmt.Errorf("read session snapshot: session id %q is empty or there twice", o.ID)
		}
		t.share(&o.D)
		t.byID[o.ID] = o
		t.order = append(t.order, o)
		if !o.Closed {
			t.open++
		}
	}
	return t, nil
}

// share makes the dimensions of a session those of others where they are equal.
func (t *Table) share(d *dims) {
	for _, p := range []*string{
		&d.App, &d.Stream, &d.CDN, &d.Server, &d.Protocol, &d.Region, &d.ISP, &d.Country,
		&d.Device, &d.OS, &d.Client, &d.ClientVer, &d.Network, &d.Arms,
	} {
		*p = t.word(*p)
	}
}
