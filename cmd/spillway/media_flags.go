package main

import (
	"flag"
	"fmt"
)

// mediaFlags say who cuts chunks into parts.
type mediaFlags struct {
	packaging string // of packagers
	parts     string // of origins
}

func (f *mediaFlags) registerPackager(fs *flag.FlagSet) {
	fs.StringVar(&f.packaging, "package", "watched", "`which` streams packagers make parts of: watched (those whose parts an origin asks for), or always (all)")
}

func (f *mediaFlags) registerOrigin(fs *flag.FlagSet) {
	fs.StringVar(&f.parts, "parts", "here", "`who` makes the parts that the origin serves: here (the origin), or packagers (they, and the origin 150 ms later)")
}

func (f *mediaFlags) always() (bool, error) {
	return choice("package", f.packaging, "watched", "always")
}

func (f *mediaFlags) packagers() (bool, error) {
	return choice("parts", f.parts, "here", "packagers")
}

// choice reports whether the second of two values was given.
func choice(name, v, first, second string) (bool, error) {
	switch v {
	case first:
		return false, nil
	case second:
		return true, nil
	}
	return false, fmt.Errorf("--%s %q: give %s or %s", name, v, first, second)
}
