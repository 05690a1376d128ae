package cmcd

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/cml"
)

// oracle compares what we and CML make of the same payloads.
type oracle struct {
	t         testing.TB
	questions []cml.Question
	checks    []func(cml.Answer)
	column    int // of counts: 0 recorded, 1 generated
	counts    map[string]*[2]int
	examples  map[string]string
	bad       int
}

func (o *oracle) ask(q cml.Question, check func(cml.Answer)) {
	o.questions = append(o.questions, q)
	o.checks = append(o.checks, check)
}

// differ notes a difference that a rule explains.
func (o *oracle) differ(rule, example string) {
	c := o.counts[rule]
	if c == nil {
		c = new([2]int)
		o.counts[rule] = c
	}
	c[o.column]++
	if old := o.examples[rule]; old == "" || len(example) < len(old) || len(example) == len(old) && example < old {
		o.examples[rule] = example
	}
	if rules[rule] == "" {
		o.t.Errorf("the difference %s has no explanation", rule)
	}
}

func (o *oracle) unexplained(format string, a ...any) {
	if o.bad++; o.bad <= 20 {
		o.t.Errorf("unexplained difference: "+format, a...)
	}
}

// compare checks a record of ours against CML's members by the model. skip are keys that CML was not asked about.
func (o *oracle) compare(text string, r *Record, members map[string]cml.Value, skip KeySet) (fired []string) {
	m := model{rule: func(name, member string) {
		fired = append(fired, name)
		o.differ(name, memberOf(text, member))
	}}
	want, custom := m.record(members)
	for k := range numKeys {
		if skip.Has(k) || k == NRR {
			continue
		}
		if got := shown(r, k, 0); got != want[k] {
			o.unexplained("%s of %q: we have %s, want %s; CML %+v", k, text, got, want[k], members[k.String()])
		}
	}
	got := map[string]string{}
	for _, c := range r.Custom() {
		got[c.Key] = c.Value
	}
	if fmt.Sprint(got) != fmt.Sprint(custom) {
		o.unexplained("custom keys of %q: we have %v, want %v", text, got, custom)
	}
	return fired
}

// memberOf finds the member of a key in a text, for examples.
func memberOf(text, key string) string {
	for _, sep := range []string{",", ", ", " ,", " , ", ""} {
		if i := strings.Index(","+text, sep+key+"="); i >= 0 {
			s := text[max(0, i+len(sep)-1):]
			if end := valueEnd(s, len(key)+1); end <= len(s) {
				return s[:end]
			}
		}
	}
	return key
}

// harmless are the rules after which both sides still encode the same values.
var harmless = []string{"scalar_for_list", "rounded", "repeated_label"}

// encoded checks that CML's encoding, read by us, is the record.
func (o *oracle) encoded(text string, r *Record, a cml.Answer) {
	if a.EncodeErr != "" && strings.Contains(text, strconv.Itoa(maxInt)) {
		o.differ("encode_refused", strconv.Itoa(maxInt))
		return
	}
	if a.EncodeErr != "" {
		o.unexplained("CML cannot encode %q: %s", text, a.EncodeErr)
		return
	}
	var back Record
	if out := back.ParseText(r.Mode, a.Encoded); out != Parsed || !back.Strict && !strings.Contains(text, "é") {
		o.unexplained("CML's encoding %q of %q: %v, strict %t, %v", a.Encoded, text, out, back.Strict, back.Issues())
		return
	}
	e := ""
	if r.Has.Has(E) {
		e = r.Event.String()
	}
	for k := range numKeys {
		sp := &specs[k]
		ours, theirs := shown(r, k, sp.round), shown(&back, k, sp.round)
		if k == NRR || k == V || ours == "" || ours == theirs && shown(&back, k, 0) == ours {
			continue
		}
		rule := ""
		switch {
		case ours == theirs, sp.round > 0 && theirs != "" && strings.Contains(memberOf(text, k.String()), "."):
			rule = "encode_round"
		case theirs != "":
		case k == CEN && e != "ce":
			rule = "encode_mode"
		case sp.event && k != E && k != TS && k != H && k != CEN && e != "rr":
			rule = "encode_response_only"
		case k == AB && back.Has.Has(BR), k == LAB && back.Has.Has(LB), k == TAB && back.Has.Has(TB):
			rule = "encode_aggregate"
		case (k == D || k == TPB) && r.Has.Has(OT):
			rule = "encode_object"
		case sp.class == classBool && ours == "false":
			rule = "encode_false"
		case k == PR && r.Rate == 1:
			rule = "encode_rate"
		}
		if rule == "" {
			o.unexplained("%s of CML's encoding %q of %q: %s, want %s", k, a.Encoded, text, theirs, ours)
			continue
		}
		o.differ(rule, memberOf(text, k.String()))
	}
}

func (o *oracle) recorded(file string) {
	for _, x := range readRecording(o.t, file) {
		if x.Method == http.MethodOptions {
			continue
		}
		if x.Body != nil && x.Method == http.MethodPost {
			for line := range strings.SplitSeq(*x.Body, "\n") {
				if line != "" {
					o.text(ModeEvent, line)
				}
			}
			continue
		}
		h := http.Header{}
		q := cml.Question{Encode: "request"}
		for k, v := range x.Headers {
			h.Set(k, v)
		}
		if q.Headers = x.Headers; len(x.Headers) == 0 {
			q.Query = &x.Query
		}
		var r Record
		if r.ParseRequest(h, x.Query) == Parsed {
			text, _ := queryValue(strings.TrimPrefix(x.Query, "?"))
			text = unescapeQuery(text)
			for _, v := range x.Headers {
				text += "," + v
			}
			o.whole(text, r, q)
		}
	}
}

func (o *oracle) text(mode Mode, line string) {
	var r Record
	r.ParseText(mode, line)
	o.whole(line, r, cml.Question{Text: line, Encode: []string{"request", "event"}[mode]})
}

// whole compares a payload that is valid by RFC 8941.
func (o *oracle) whole(text string, r Record, q cml.Question) {
	o.ask(q, func(a cml.Answer) {
		if a.Err != "" {
			o.unexplained("CML refuses %q: %s", text, a.Err)
			return
		}
		fired := o.compare(text, &r, a.Members, 0)
		if !slices.ContainsFunc(fired, func(s string) bool { return !slices.Contains(harmless, s) }) && r.Version <= MaxVersion && len(a.Members) > 0 {
			o.encoded(text, &r, a)
		}
	})
}

func (o *oracle) generated(x generated) {
	if len(x.malformed) == 0 {
		var r Record
		if x.mode == ModeEvent {
			o.text(x.mode, x.text)
			return
		}
		query := "t=1&CMCD=" + url.QueryEscape(x.text)
		r.ParseQuery(query)
		o.whole(x.text, r, cml.Question{Query: &query, Encode: "request"})
		return
	}
	o.ask(cml.Question{Text: x.text}, func(a cml.Answer) {
		if a.Err == "" {
			o.unexplained("CML takes %q, which should not be valid", x.text)
		}
		o.differ("refused_whole", x.malformed[0].text)
	})
	// What is left of the payload must be what CML reads when the malformed members are not there.
	o.ask(cml.Question{Text: x.good}, func(a cml.Answer) {
		var r Record
		r.ParseText(x.mode, x.text)
		if a.Err != "" {
			o.unexplained("CML refuses %q: %s", x.good, a.Err)
			return
		}
		var skip KeySet
		for _, m := range x.malformed {
			if m.key == Unknown || r.Version > MaxVersion {
				continue
			}
			skip |= 1 << m.key
			if got := shown(&r, m.key, 0); got != m.shown {
				o.unexplained("%s in %q is read as %s, want %s", m.text, x.text, got, m.shown)
			}
			if m.shown != "" {
				o.differ("mended", m.text)
			}
		}
		o.compare(x.text, &r, a.Members, skip)
	})
}

// report lists the differences, for people.
func (o *oracle) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Where we differ from the Common Media Library\n\nWritten by `go test ./ingest/cmcd -run TestOracle -update`; the test fails on a difference that no rule here explains. "+
		"CML is npm `@svta/cml-cmcd` %s. Counts are members (payloads for refused_whole) of the recordings in this folder, and of %d generated payloads.\n\n| difference | recorded | generated | for example | why |\n|---|---|---|---|---|\n", cml.Version, generatedPayloads)
	for _, name := range slices.SortedFunc(keysOf(o.counts), cmp.Compare) {
		c := o.counts[name]
		ex := o.examples[name]
		if len(ex) > 60 {
			ex = strings.ToValidUTF8(ex[:60], "") + "..."
		}
		fmt.Fprintf(&b, "| %s | %d | %d | `` %s `` | %s |\n", name, c[0], c[1], strings.ReplaceAll(ex, "|", "\\|"), rules[name])
	}
	return b.String()
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

const generatedPayloads = 3000

// TestOracle compares our codec with the reference implementation, both ways, on
// what real players sent and on generated payloads. SPILLWAY_ORACLE_SEED generates others.
func TestOracle(t *testing.T) {
	o := &oracle{t: t, counts: map[string]*[2]int{}, examples: map[string]string{}}
	for _, file := range recordings(t) {
		o.recorded(file)
	}
	recorded := len(o.questions)
	seed := uint64(1)
	env := os.Getenv("SPILLWAY_ORACLE_SEED")
	if env != "" {
		var err error
		if seed, err = strconv.ParseUint(env, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	g := generator{rand.New(rand.NewPCG(seed, 5004))}
	for range generatedPayloads {
		o.generated(g.one())
	}
	for i, a := range cml.Decode(t, o.questions) {
		if o.column = 0; i >= recorded {
			o.column = 1
		}
		o.checks[i](a)
	}
	if o.bad > 20 {
		t.Errorf("%d unexplained differences", o.bad)
	}
	t.Logf("%d recorded and %d generated questions", recorded, len(o.questions)-recorded)
	if env != "" || os.Getenv("SPILLWAY_PLAYER_RECORDINGS") != "" {
		return // counts are of the input that is committed
	}
	const file = "testdata/differences.md"
	if *update {
		if err := os.WriteFile(file, []byte(o.report()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.report(); got != string(want) {
		t.Errorf("%s is not what was found (look at it, then run with -update):\n%s", file, got)
	}
	for name := range rules {
		if o.counts[name] == nil {
			t.Errorf("the rule %s explains nothing: remove it", name)
		}
	}
}
