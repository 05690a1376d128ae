package rtmp_test

import (
	"testing"

	"github.com/spillway-live/spillway/testenv/realtime"
)

func TestMain(m *testing.M) { realtime.Main(m) }
