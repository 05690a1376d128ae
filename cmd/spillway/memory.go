package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much may be allocated before memory is collected again, in
// per cent of what is in use. Nearly all that is in use is media, which holds no
// pointers: collecting looks at little of it, while twice the memory, Go's
// default, would be as much again as all windows of all watched streams.
const gcPercent = 30

// tuneMemory sets gcPercent where the environment does not say otherwise (GOGC).
// GOMEMLIMIT is left to the operator: only they know what the machine has to spare.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
