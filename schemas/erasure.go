package schemas

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// BucketErasures maps a random id to Erasure: viewers whose rows are deleted as
// they arrive. Entries go by themselves after [ErasureKept].
const BucketErasures = "erasures"

// ErasureKept is how long an Erasure is followed: a day longer than the bus
// keeps anything with a viewer's hash (decisions, exposures and dead letters,
// 7 days), so that nothing can be loaded from it again.
const ErasureKept = 8 * 24 * time.Hour

// Erasure asks for everything about a viewer to be deleted, what is on its way included.
type Erasure struct {
	// Hashes are the viewer's salted hashes, one for each salt kept.
	Hashes []string `json:"hashes"`
	// TimeUnixUs is when it was asked for.
	TimeUnixUs int64 `json:"time_us"`
}

var viewerHash = regexp.MustCompile(`^[0-9a-f]{8,64}$`)

// CheckViewerHash says why s is no salted hash of a viewer.
func CheckViewerHash(s string) error {
	if !viewerHash.MatchString(s) {
		return fmt.Errorf("%.80q is no viewer hash: lower-case hexadecimal digits are expected", s)
	}
	return nil
}

// Check names the field that is wrong.
func (e *Erasure) Check() error {
	if len(e.Hashes) == 0 || len(e.Hashes) > 64 {
		return fmt.Errorf("hashes has %d entries: 1 to 64 are allowed", len(e.Hashes))
	}
	for _, h := range e.Hashes {
		if err := CheckViewerHash(h); err != nil {
			return err
		}
	}
	if e.TimeUnixUs <= 0 {
		return errors.New("time_us is missing")
	}
	return nil
}

// ParseErasure reads an entry of the bucket erasures.
func ParseErasure(_ string, value []byte) (*Erasure, error) {
	var e Erasure
	if err := UnmarshalStrict(value, &e); err != nil {
		return nil, err
	}
	return &e, e.Check()
}
