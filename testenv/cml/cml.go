// Package cml asks the Common Media Library (npm @svta/cml-cmcd, the reference
// implementation of CMCD) what it makes of CMCD, in Node.js. The library is
// here as one minified file with its licence: esbuild --bundle --minify
// --format=esm of the functions that decode.mjs imports.
package cml

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/spillway-live/spillway/testenv/need"
)

// Version is the library's.
const Version = "2.7.0"

//go:embed vendor/cml-cmcd-2.7.0.min.js
var library []byte

//go:embed decode.mjs
var script []byte

// Question is one CMCD payload: Text, or Query (a whole query), or Headers.
type Question struct {
	Text    string            `json:"text"`
	Query   *string           `json:"query,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	// Encode asks for the data encoded again as version 2: "request", "event", or "" for no.
	Encode string `json:"encode,omitempty"`
}

// Answer is what the library made of a Question.
type Answer struct {
	// Err: it refused the whole payload.
	Err       string           `json:"err"`
	Members   map[string]Value `json:"members"`
	Encoded   string           `json:"encoded"`
	EncodeErr string           `json:"encodeErr"`
}

// Value is a value with its type: num, str, tok, bool, bytes (S is base64), date or list.
type Value struct {
	Type   string           `json:"t"`
	Num    float64          `json:"n"`
	Str    string           `json:"s"`
	Bool   bool             `json:"b"`
	Items  []Value          `json:"items"`
	Params map[string]Value `json:"p"`
}

// Decode asks all questions in one process. The test is skipped where there is no Node.js.
func Decode(t testing.TB, questions []Question) []Answer {
	t.Helper()
	node := need.Program(t, "node")
	dir := t.TempDir()
	for name, data := range map[string][]byte{"cml-cmcd.mjs": library, "decode.mjs": script} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var in, errs bytes.Buffer
	enc := json.NewEncoder(&in)
	for i := range questions {
		if err := enc.Encode(&questions[i]); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(dir, "decode.mjs"))
	cmd.Stdin, cmd.Stderr = &in, &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, errs.Bytes())
	}
	answers := make([]Answer, 0, len(questions))
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var a Answer
		if err := json.Unmarshal(sc.Bytes(), &a); err != nil {
			t.Fatalf("answer %d: %v", len(answers)+1, err)
		}
		answers = append(answers, a)
	}
	if len(answers) != len(questions) || sc.Err() != nil {
		t.Fatalf("%d answers to %d questions: %v", len(answers), len(questions), sc.Err())
	}
	return answers
}
