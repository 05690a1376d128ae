// Package layers holds the test that keeps imports pointing one way (see docs/architecture.md). It is a package of
// its own so that the test starts without linking the whole program.
package layers
