package cmcd

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// exchange is one line of a recording of a real player.
type exchange struct {
	RecvMs  int64             `json:"recv_ms"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Query   string            `json:"query"`
	Headers map[string]string `json:"cmcd_headers"`
	Body    *string           `json:"body"`
}

// recordings gives the files of testdata and, when SPILLWAY_PLAYER_RECORDINGS
// names a folder, of that too.
func recordings(t testing.TB) []string {
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in testdata (%v)", err)
	}
	if dir := os.Getenv("SPILLWAY_PLAYER_RECORDINGS"); dir != "" {
		more, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
		if err != nil || len(more) == 0 {
			t.Fatalf("no recordings in %s (%v)", dir, err)
		}
		files = append(files, more...)
	}
	return files
}

func readRecording(t testing.TB, file string) []exchange {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []exchange
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var x exchange
		if err := json.Unmarshal(sc.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, x)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// each calls fn with every record of the exchange.
func (x *exchange) each(fn func(*Record, Outcome)) {
	if x.Body != nil && x.Method == http.MethodPost {
		ParseBody(*x.Body, 0, func(r *Record, o Outcome) bool { fn(r, o); return true })
		return
	}
	h := http.Header{}
	for k, v := range x.Headers {
		h.Set(k, v)
	}
	var r Record
	if o := r.ParseRequest(h, x.Query); o != Absent {
		fn(&r, o)
	}
}

func playerOf(file string) Player {
	base := filepath.Base(file)
	switch {
	case strings.Contains(base, "hls"):
		return PlayerHLSJS
	case strings.Contains(base, "dash"):
		return PlayerDashJS
	}
	return PlayerShaka
}

// Every record of every player is read whole, and its player is recognised or
// left open, never taken for another.
func TestRecordings(t *testing.T) {
	total, known := 0, 0
	for _, file := range recordings(t) {
		for n, x := range readRecording(t, file) {
			if x.Method == http.MethodOptions {
				continue
			}
			got := 0
			x.each(func(r *Record, o Outcome) {
				got++
				total++
				where := fmt.Sprintf("%s:%d", filepath.Base(file), n+1)
				if o != Parsed || !r.Strict || len(r.Issues()) > 0 || r.UnknownKeys > 0 {
					t.Errorf("%s: %v, strict %t, issues %v, unknown %d", where, o, r.Strict, r.Issues(), r.UnknownKeys)
				}
				if r.SessionID == "" || r.ContentID != "c1" {
					t.Errorf("%s: sid %q cid %q", where, r.SessionID, r.ContentID)
				}
				if r.Mode == ModeEvent && (r.Event <= EventOther || !r.Has.Has(TS) || !r.Has.Has(SN)) {
					t.Errorf("%s: event %v has %v", where, r.Event, r.Has)
				}
				switch p := r.Detect(); p {
				case PlayerUnknown:
				case playerOf(file):
					known++
				default:
					t.Errorf("%s: taken for %v: %s", where, p, r.Append(nil))
				}
			})
			if got == 0 && (x.Body != nil || strings.Contains(x.Query, "CMCD") || len(x.Headers) > 0) {
				t.Errorf("%s:%d: nothing read", file, n+1)
			}
		}
	}
	t.Logf("%d records, player recognised in %d", total, known)
	if known*100 < total*90 {
		t.Errorf("player recognised in %d of %d records, expected 9 in 10", known, total)
	}
}

// What each recorded record becomes, in words: outcome, player, corrections, version 2 text.
func TestGolden(t *testing.T) {
	for _, name := range []string{"stall-hls", "live-dash", "live-shaka", "hls1ev", "shaka1"} {
		var b bytes.Buffer
		for _, x := range readRecording(t, "testdata/"+name+".jsonl") {
			x.each(func(r *Record, o Outcome) {
				fixes := r.Correct(x.RecvMs)
				fmt.Fprintf(&b, "%v %v [%s] v%d %s\n", o, r.Player, fixes.AppendNames(nil), r.Version, r.Append(nil))
			})
		}
		file := "testdata/" + name + ".golden"
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, exp := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
		for i := range max(len(got), len(exp)) {
			var g, w string
			if i < len(got) {
				g = got[i]
			}
			if i < len(exp) {
				w = exp[i]
			}
			if g != w {
				t.Errorf("%s line %d:\n got %s\nwant %s", file, i+1, g, w)
			}
		}
	}
}

// Each record written out and read again is the same record.
func TestRoundTripOfRecordings(t *testing.T) {
	for _, file := range recordings(t) {
		for _, x := range readRecording(t, file) {
			x.each(func(r *Record, _ Outcome) {
				text := string(r.Append(nil))
				var again Record
				if o := again.ParseText(r.Mode, text); o != Parsed || !again.Strict || len(again.Issues()) > 0 {
					t.Errorf("%s: %q: %v, strict %t, %v", file, text, o, again.Strict, again.Issues())
				}
				if again.Has != r.Has|1<<V {
					t.Errorf("%s: %q: keys %b, want %b", file, text, again.Has, r.Has)
				}
				if s := string(again.Append(nil)); s != text {
					t.Errorf("%s: %q became %q", file, text, s)
				}
				if r.Mode == ModeRequest {
					o := again.ParseQuery(string(r.AppendQuery([]byte("?a=b&"))))
					if s := string(again.Append(nil)); o != Parsed || s != text {
						t.Errorf("%s: query form of %q became %q", file, text, s)
					}
				}
			})
		}
	}
}

// The beginning of a record never panics, never loops, and keeps every member that is whole.
func TestEveryPrefix(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range recordings(t) {
		for _, x := range readRecording(t, file) {
			x.each(func(r *Record, _ Outcome) {
				if r.Player = r.Detect(); seen[r.Player.String()+r.Event.String()] {
					return
				}
				seen[r.Player.String()+r.Event.String()] = true
				text := string(r.Append(nil))
				for n := range len(text) {
					var cut, whole Record
					cut.ParseText(r.Mode, text[:n])
					cut.Correct(x.RecvMs)
					if i := strings.LastIndexByte(text[:n], ','); i > 0 && !strings.ContainsAny(text, `\`) {
						whole.ParseText(r.Mode, text[:i])
						if whole.Has&^(cut.Has|Keys(MSD, TTFB, BS, BSD, ST, BL, BR, NOR, D, EC)) != 0 {
							t.Fatalf("%q: keys of %q were lost", text[:n], text[:i])
						}
					}
				}
			})
		}
	}
	if len(seen) < 8 {
		t.Errorf("only %d kinds of record in the recordings", len(seen))
	}
}
