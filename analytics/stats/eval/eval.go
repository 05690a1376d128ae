// Package eval runs cases of a test-vector file through package stats, so that
// anyone can compare this engine with another.
//
// It promises one JSON line a case, in order, whatever the case holds: the
// result, {"undefined":true,"reason":...} where no number exists or the input
// is wrong, {"unsupported":true} for a method it lacks. Infinite values are the
// strings "+inf" and "-inf", as in the input; NaN is never written. Only id,
// method and input of a case are read, never what it expects.
package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

// MaxBytes is the largest input Eval reads.
const MaxBytes = 256 << 20

// Case is one question.
type Case struct {
	ID     string
	Method string
	Input  json.RawMessage
}

// line is one answer.
type line struct {
	ID     string         `json:"id"`
	Method string         `json:"method"`
	Result map[string]any `json:"result"`
}

// Eval reads cases from r and writes one JSON line each to w. r holds an object
// with the member cases, an array of cases, or cases one after the other (JSON
// lines). Errors: unreadable or malformed JSON (answers to the cases before it
// are written), input beyond MaxBytes, a failing writer.
func Eval(r io.Reader, w io.Writer) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	limited := &io.LimitedReader{R: r, N: MaxBytes + 1}
	dec := json.NewDecoder(limited)
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if limited.N <= 0 {
			err = fmt.Errorf("input is larger than %d bytes", MaxBytes)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("read cases: %w", err), out.Flush())
		}
		cases, err := split(raw)
		if err != nil {
			return errors.Join(fmt.Errorf("read cases: %w", err), out.Flush())
		}
		for _, c := range cases {
			if err := enc.Encode(line{c.ID, c.Method, Run(c)}); err != nil {
				return fmt.Errorf("write result of case %q: %w", c.ID, err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// split finds the cases in one JSON value.
func split(raw json.RawMessage) ([]Case, error) {
	raw = bytes.TrimSpace(raw)
	var list []json.RawMessage
	switch {
	case raw[0] == '[':
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err
		}
	case raw[0] == '{':
		var file struct {
			Cases  *[]json.RawMessage `json:"cases"`
			Method json.RawMessage    `json:"method"`
		}
		if err := json.Unmarshal(raw, &file); err != nil {
			return nil, err
		}
		if file.Cases != nil && file.Method == nil {
			list = *file.Cases
		} else {
			list = []json.RawMessage{raw}
		}
	default:
		return nil, fmt.Errorf("expected a case, a list of cases or an object with cases, got %.40s", raw)
	}
	cases := make([]Case, len(list))
	for i, item := range list {
		var c struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Input  json.RawMessage `json:"input"`
		}
		if err := json.Unmarshal(item, &c); err != nil {
			return nil, fmt.Errorf("case %d: %w", i, err)
		}
		cases[i] = Case{Method: c.Method, Input: c.Input}
		if json.Unmarshal(c.ID, &cases[i].ID) != nil {
			cases[i].ID = string(c.ID) // an id that is a number keeps its digits
		}
	}
	return cases, nil
}

// Run answers one case. The map holds only what JSON can carry.
func Run(c Case) map[string]any {
	method, ok := methods()[c.Method]
	if !ok {
		return map[string]any{"unsupported": true}
	}
	in, err := parse(c.Input)
	if err != nil {
		return undefinedResult(err)
	}
	result, err := method(in)
	if err == nil {
		err = in.err
	}
	if errors.Is(err, errUnsupported) {
		return map[string]any{"unsupported": true}
	}
	if err != nil {
		return undefinedResult(err)
	}
	for k, v := range result {
		clean, ok := encodable(v)
		if !ok {
			return undefinedResult(&stats.Undefined{Reason: stats.NotFinite, Detail: k + " is not a number"})
		}
		result[k] = clean
	}
	return result
}

var errUnsupported = errors.New("unsupported variant")

func undefinedResult(err error) map[string]any {
	reason, ok := stats.ReasonOf(err)
	if !ok {
		reason = stats.InvalidParameter
	}
	r := map[string]any{"undefined": true, "reason": string(reason)}
	var u *stats.Undefined
	if errors.As(err, &u) && u.Detail != "" {
		r["detail"] = u.Detail
	} else if !ok {
		r["detail"] = err.Error()
	}
	return r
}

// encodable turns infinities into strings; false for NaN.
func encodable(v any) (any, bool) {
	switch x := v.(type) {
	case float64:
		switch {
		case math.IsNaN(x):
			return nil, false
		case math.IsInf(x, 1):
			return "+inf", true
		case math.IsInf(x, -1):
			return "-inf", true
		case x == 0:
			return 0.0, true // not -0
		}
	case []float64:
		list := make([]any, len(x))
		for i, f := range x {
			e, ok := encodable(f)
			if !ok {
				return nil, false
			}
			list[i] = e
		}
		return list, true
	}
	return v, true
}
