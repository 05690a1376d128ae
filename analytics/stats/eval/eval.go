// Package eval runs cases of a test-vector file through package stats, so that
// anyone can compare this engine with another.
//
// It promises one JSON line a case, in order, whatever the case holds: the
// result, {"undefined":true,"reason":...} where no number exists or the input
// is wrong, {"unsupported":true} for a method it lacks. A line that is no case
// has an answer, too, and keeps none of the others from theirs. Infinite values are the
// strings "+inf" and "-inf", as in the input; NaN is never written. Only id,
// method and input of a case are read, never what it expects.
package eval

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spillway-live/spillway/analytics/stats"
)

// Case is one question.
type Case struct {
	ID     string
	Method string
	Input  json.RawMessage
	// Wrong says why it cannot be read; empty: it can.
	Wrong string
}

// line is one answer.
type line struct {
	ID     string         `json:"id"`
	Method string         `json:"method"`
	Result map[string]any `json:"result"`
}

// Eval reads cases from r and writes one JSON line each to w. r holds an object
// with the member cases, an array of cases, or cases one after the other (JSON
// lines). NaN, Infinity and -Infinity are read as numbers, as some languages write them. Errors: unreadable input, an
// object or array of cases that ends too soon or breaks off (answers to the cases before it are written), input beyond
// MaxBytes, a failing writer.
func Eval(r io.Reader, w io.Writer) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err := read(r, func(c Case) error {
		if err := enc.Encode(line{c.ID, c.Method, Run(c)}); err != nil {
			return fmt.Errorf("write result of case %q: %w", c.ID, err)
		}
		return nil
	})
	if flushed := out.Flush(); flushed != nil {
		err = errors.Join(err, fmt.Errorf("write results: %w", flushed))
	}
	return err
}

// Run answers one case. The map holds only what JSON can carry.
func Run(c Case) map[string]any {
	if c.Wrong != "" {
		return undefinedResult(bad(stats.InvalidParameter, "%s", c.Wrong))
	}
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
