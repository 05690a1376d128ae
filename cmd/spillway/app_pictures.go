package main

import (
	"flag"
	"fmt"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// pictureSettingsFlags say which screenshots are made of an application's streams.
type pictureSettingsFlags struct {
	interval, keep, frozen, black time.Duration
	width                         int
	off                           bool
}

// pictureSettingsNames are their names.
var pictureSettingsNames = []string{"picture-interval", "picture-width", "picture-keep", "picture-frozen", "picture-black", "picture-off"}

func (f *pictureSettingsFlags) register(fs *flag.FlagSet) {
	fs.DurationVar(&f.interval, "picture-interval", 0, "time between screenshots; 0: the worker's")
	fs.IntVar(&f.width, "picture-width", 0, "width of screenshots, pixels; 0: the worker's")
	fs.DurationVar(&f.keep, "picture-keep", 0, "how long screenshots are kept in the object store; 0: on the bus only, for an hour")
	fs.DurationVar(&f.frozen, "picture-frozen", 0, "how long a picture stands still before the stream leaves the hot list; 0: two equal screenshots; -1ms: never")
	fs.DurationVar(&f.black, "picture-black", 0, "the same for black pictures")
	fs.BoolVar(&f.off, "picture-off", false, "make no screenshots")
}

// edit changes what is given.
func (f *pictureSettingsFlags) edit(a *schemas.AppSettings, set map[string]bool) error {
	p := schemas.PictureSettings{}
	if a.Pictures != nil {
		p = *a.Pictures
	}
	if set["picture-keep"] && f.keep%time.Second != 0 {
		return fmt.Errorf("--picture-keep %s: whole seconds are kept", f.keep)
	}
	for name, change := range map[string]func(){
		"picture-interval": func() { p.IntervalMs = f.interval.Milliseconds() },
		"picture-width":    func() { p.Width = f.width },
		"picture-keep":     func() { p.KeepSec = int64(f.keep / time.Second) },
		"picture-frozen":   func() { p.FrozenMs = f.frozen.Milliseconds() },
		"picture-black":    func() { p.BlackMs = f.black.Milliseconds() },
		"picture-off":      func() { p.Off = f.off },
	} {
		if set[name] {
			change()
		}
	}
	a.Pictures = &p
	if p == (schemas.PictureSettings{}) {
		a.Pictures = nil
	}
	return nil
}

// pictureSettingsText writes settings as the flags that make them.
func pictureSettingsText(p *schemas.PictureSettings) []string {
	var out []string
	ms := func(name string, v int64) {
		if v != 0 {
			out = append(out, "--"+name+" "+(time.Duration(v)*time.Millisecond).String())
		}
	}
	ms("picture-interval", p.IntervalMs)
	if p.Width != 0 {
		out = append(out, "--picture-width "+strconv.Itoa(p.Width))
	}
	ms("picture-keep", p.KeepSec*1000)
	ms("picture-frozen", p.FrozenMs)
	ms("picture-black", p.BlackMs)
	if p.Off {
		out = append(out, "--picture-off")
	}
	return out
}
