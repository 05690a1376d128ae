package schemas

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Subjects of ELSEWHERE: where routers of other regions sent sessions, as a relay
// brought it from its parent.
const (
	// SubjectElsewhereParent has decisions of the parent's own routers, and of those of
	// the other regions that send theirs up to it.
	SubjectElsewhereParent = "elsewhere.parent"
	// SubjectElsewhereBeyond has what came to the parent from its own parent.
	SubjectElsewhereBeyond = "elsewhere.beyond"
)

// HeaderPath is on decisions of other regions: the names of the regions they came
// through, the one where they were made first, apart by blanks. One that came from below
// is not sent down there again, and none goes in a ring.
const HeaderPath = "Spillway-Path"

// MaxElsewhere bounds the decisions in one message of ELSEWHERE.
const MaxElsewhere = 1000

// maxElsewhereLine bounds what one of them takes.
const maxElsewhereLine = 1100

// AppendElsewhere appends a decision to the payload of an ELSEWHERE message: a line of
// how much older it is than the newest of the message, in milliseconds, and what
// [HeaderWhere] says of it.
func AppendElsewhere(b []byte, older time.Duration, w Where) []byte {
	b = append(strconv.AppendInt(b, max(older, 0).Milliseconds(), 10), ' ')
	if strings.IndexByte(w.Region, '\n') >= 0 {
		w.Region = strings.ReplaceAll(w.Region, "\n", " ")
	}
	return append(append(b, w.String()...), '\n')
}

// ReadElsewhere gives the decisions of an ELSEWHERE message in its order. An error says
// at which line it ended; what came before has been given.
func ReadElsewhere(data []byte, each func(older time.Duration, w Where)) error {
	for n := 1; len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte{'\n'})
		data = rest
		if n > MaxElsewhere || len(line) > maxElsewhereLine {
			return fmt.Errorf("line %d: a message of %s has at most %d of %d bytes", n, StreamElsewhere, MaxElsewhere, maxElsewhereLine)
		}
		older, where, _ := strings.Cut(string(line), " ") // a string of its own: who keeps a name keeps no message
		ms, err := strconv.ParseInt(older, 10, 64)
		if err != nil || ms < 0 || ms > MaxWaited.Milliseconds() {
			return fmt.Errorf("line %d: %.40q is no age in milliseconds", n, older)
		}
		w, err := ParseWhere(where)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		each(time.Duration(ms)*time.Millisecond, w)
	}
	return nil
}
