package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spillway-live/spillway/testenv/publisher"
)

// measureFlags are shared by the commands that run this program as a server of
// their own and measure it.
type measureFlags struct {
	logFlags
	temp string // where what is needed meanwhile is put; empty: the system's place
}

// register adds the flags; what is put into the directory is said in its help.
func (f *measureFlags) register(fs *flag.FlagSet, what string) {
	fs.StringVar(&f.temp, "temp", "", "`directory` for "+what+", removed afterwards (default: "+os.TempDir()+")")
	f.logFlags.register(fs)
}

// profileFlag is a file for a CPU profile of the server; its path is absolute.
type profileFlag struct{ path string }

func (f *profileFlag) register(fs *flag.FlagSet) {
	fs.Func("cpuprofile", "`file` for a CPU profile of our server, of its last run", func(path string) (err error) {
		f.path = path
		if path != "" {
			f.path, err = filepath.Abs(path)
		}
		return err
	})
}

// clipFlags are what publishers push.
type clipFlags struct {
	path          string
	kbps          int
	width, height int // 0: as the clip's maker has it
}

func (f *clipFlags) register(fs *flag.FlagSet, kbps int) {
	fs.IntVar(&f.kbps, "kbps", kbps, "bit rate of every stream, kbit/s, picture and sound")
	fs.StringVar(&f.path, "clip", "", "FLV `file` to publish in a loop, H.264 and AAC (default: one is made with ffmpeg)")
}

// file gives the clip, made under temp where none was named. remove must be called.
func (f *clipFlags) file(ctx ctx, temp string, logger *slog.Logger) (path string, remove func(), err error) {
	if f.path != "" {
		return f.path, func() {}, nil
	}
	dir, err := os.MkdirTemp(temp, "spillway-clip-")
	if err != nil {
		return "", nil, fmt.Errorf("make a clip: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path = filepath.Join(dir, "clip.flv")
	logger.Info("making the clip to publish", "kbps", f.kbps)
	if err := (publisher.Clip{Path: path, BitrateKbps: f.kbps, Width: f.width, Height: f.height}).Make(ctx); err != nil {
		remove()
		return "", nil, err
	}
	return path, remove, nil
}

// thisProgram is the path of this program, to run it as a server.
func thisProgram() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program to run it as the server: %w", err)
	}
	return path, nil
}
