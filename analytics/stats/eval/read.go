package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxBytes is the largest input Eval reads.
const MaxBytes = 256 << 20

// read gives every case of r to each.
func read(r io.Reader, each func(Case) error) error {
	data, err := io.ReadAll(io.LimitReader(newPlain(r), MaxBytes+1))
	if err != nil {
		return fmt.Errorf("read cases: %w", err)
	}
	if len(data) > MaxBytes {
		return fmt.Errorf("read cases: input is larger than %d bytes", MaxBytes)
	}
	for first := true; ; first = false {
		if data = bytes.TrimLeft(data, " \t\r\n"); len(data) == 0 {
			return nil
		}
		n, err := value(data, first, each)
		if err != nil {
			return err
		}
		data = data[n:]
	}
}

// value gives the cases of the JSON value that data begins with to each, and returns how many bytes that was. What is no
// JSON is a case that cannot be read, up to the end of its line; only where it is the first, it may be a list that breaks off.
func value(data []byte, first bool, each func(Case) error) (int, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var raw json.RawMessage
	err := dec.Decode(&raw)
	if err == nil {
		switch kind, list, listErr := split(raw); {
		case listErr != nil:
			return 0, listErr
		case kind == many:
			for _, item := range list {
				if err := each(parseCase(item)); err != nil {
					return 0, err
				}
			}
		default:
			if err := each(parseCase(raw)); err != nil {
				return 0, err
			}
		}
		return int(dec.InputOffset()), nil
	}
	if list := before(data); first && list != nil {
		for list.More() {
			var item json.RawMessage
			if list.Decode(&item) != nil {
				break
			}
			if err := each(parseCase(item)); err != nil {
				return 0, err
			}
		}
		return 0, fmt.Errorf("read cases: the list of them breaks off: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	c := Case{Wrong: "this is no case: " + err.Error()}
	c.ID, c.Method = glean(line, "id"), glean(line, "method")
	return len(line), each(c)
}

type kind int

const (
	one kind = iota
	many
)

// split tells a list of cases, or an object that has one, from a case.
func split(raw json.RawMessage) (kind, []json.RawMessage, error) {
	var list []json.RawMessage
	switch raw[0] {
	case '[':
		if err := json.Unmarshal(raw, &list); err != nil {
			return many, nil, fmt.Errorf("read cases: %w", err)
		}
		return many, list, nil
	case '{':
		var file struct {
			Cases  json.RawMessage `json:"cases"`
			Method json.RawMessage `json:"method"`
		}
		if err := json.Unmarshal(raw, &file); err != nil {
			return one, nil, fmt.Errorf("read cases: %w", err)
		}
		if file.Cases != nil && file.Method == nil && json.Unmarshal(file.Cases, &list) == nil {
			return many, list, nil
		}
	}
	return one, nil, nil
}

// before is a decoder at the first case of a list, or of an object with one, that breaks off somewhere; nil: data begins with none.
func before(data []byte) *json.Decoder {
	dec := json.NewDecoder(bytes.NewReader(data))
	t, err := dec.Token()
	if err != nil {
		return nil
	}
	if t == json.Delim('[') {
		return dec
	}
	for t == json.Delim('{') && dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil
		}
		if name == "cases" {
			if t, err := dec.Token(); err != nil || t != json.Delim('[') {
				return nil
			}
			return dec
		}
		var skipped json.RawMessage
		if dec.Decode(&skipped) != nil {
			return nil
		}
	}
	return nil
}

// parseCase reads a case as far as it can be read.
func parseCase(raw json.RawMessage) Case {
	var c struct {
		ID     json.RawMessage `json:"id"`
		Method json.RawMessage `json:"method"`
		Input  json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return Case{Wrong: fmt.Sprintf("this is no case, which is an object: %.40s", raw)}
	}
	out := Case{ID: word(c.ID), Input: c.Input}
	if err := json.Unmarshal(c.Method, &out.Method); err != nil || out.Method == "" {
		out.Wrong = "the case has no method, which is a string"
	}
	return out
}

// word is a string; anything else keeps its characters, so that an id may be a number.
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// glean finds a member in what is no JSON as a whole; empty: there is none.
func glean(line []byte, name string) string {
	_, rest, ok := bytes.Cut(line, []byte(`"`+name+`"`))
	rest, colon := bytes.CutPrefix(bytes.TrimSpace(rest), []byte(":"))
	if !ok || !colon {
		return ""
	}
	t, err := json.NewDecoder(bytes.NewReader(rest)).Token()
	if err != nil {
		return ""
	}
	switch t.(type) {
	case string, float64:
		return fmt.Sprint(t)
	}
	return ""
}

// plain writes NaN, Infinity and -Infinity outside of strings as the strings that cases have for them.
type plain struct {
	from     *bufio.Reader
	pending  string
	inString bool
	escaped  bool
}

func newPlain(r io.Reader) *plain { return &plain{from: bufio.NewReaderSize(r, 64<<10)} }

// bare are the words and what they are read as.
var bare = []struct{ word, value string }{{"NaN", `"nan"`}, {"-Infinity", `"-inf"`}, {"Infinity", `"+inf"`}}

func (p *plain) Read(to []byte) (int, error) {
	n := 0
	for n < len(to) {
		if p.pending != "" {
			k := copy(to[n:], p.pending)
			n, p.pending = n+k, p.pending[k:]
			continue
		}
		c, err := p.from.ReadByte()
		if err != nil {
			if n > 0 && errors.Is(err, io.EOF) {
				return n, nil
			}
			return n, err
		}
		if !p.inString && strings.IndexByte("N-I", c) >= 0 && p.replaced(c) {
			continue
		}
		switch {
		case p.escaped:
			p.escaped = false
		case p.inString && c == '\\':
			p.escaped = true
		case c == '"':
			p.inString = !p.inString
		case c == '\n':
			p.inString = false // no string goes over a line: the next may be read again
		}
		to[n] = c
		n++
	}
	return n, nil
}

// replaced says whether c begins one of the words, and takes it.
func (p *plain) replaced(c byte) bool {
	for _, b := range bare {
		if b.word[0] != c {
			continue
		}
		next, _ := p.from.Peek(len(b.word) - 1)
		if string(next) == b.word[1:] {
			_, _ = p.from.Discard(len(next))
			p.pending = b.value
			return true
		}
	}
	return false
}
