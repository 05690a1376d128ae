package origin

import (
	"hash/crc32"
	"sync"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C of an object, computed when it is first asked for: of a
// part it costs as much as sending it.
type checksum struct {
	once sync.Once
	crc  uint32
}

func (c *checksum) of(b []byte) uint32 {
	c.once.Do(func() { c.crc = crc32.Checksum(b, castagnoli) })
	return c.crc
}

// checksum gives that of what find has found.
func (t *track) checksum(id partID) *checksum {
	for _, s := range t.segs {
		switch {
		case s.Epoch != id.epoch || s.MSN != id.msn:
		case id.part < 0:
			return &s.sum
		case id.part < len(s.sums):
			return s.sums[id.part]
		}
	}
	return new(checksum)
}
