// Package realtime runs tests that mostly wait for media in real time.
package realtime

import (
	"flag"
	"os"
	"testing"
)

// atOnce is how many parallel tests run together: they take about a tenth of a core each.
const atOnce = "6"

// Main runs a package's tests for its TestMain. Go runs as many parallel tests at once
// as there are cores, as if they computed; these wait. What -parallel says counts, if it was given.
func Main(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f != nil && f.Value.String() == f.DefValue {
		if err := f.Value.Set(atOnce); err != nil {
			panic(err) // a number was refused
		}
	}
	os.Exit(m.Run())
}
