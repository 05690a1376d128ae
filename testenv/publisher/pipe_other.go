//go:build !linux

package publisher

import "os"

func widenPipe(*os.File, int) {}
