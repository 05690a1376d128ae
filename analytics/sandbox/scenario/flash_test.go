package scenario

import (
	"os"
	"strconv"
	"testing"
)

func TestX(t *testing.T) {
	f := Scenarios()[os.Getenv("SC")]
	n := 0
	n, _ = strconv.Atoi(os.Getenv("N"))
	if os.Getenv("SC") == "week" {
		n = 60
	}
	r, err := f(Settings{Seed: 1, Viewers: n, Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	r.Assumptions = nil
	r.WriteText(os.Stdout)
}
