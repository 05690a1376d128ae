package cmcd

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/testenv/cml"
)

// rules are the ways in which we differ from the Common Media Library (CML) on purpose, with the reason.
var rules = map[string]string{
	"refused_whole":        "CML refuses the whole dictionary for one member it cannot read; we lose that member. CTA-5004-B asks servers to ignore what they do not understand.",
	"mended":               "A member that is not valid by RFC 8941 whose meaning is plain (upper-case key, missing quote or parenthesis) is read; CML refuses the dictionary.",
	"list_for_scalar":      "A list where one value is specified: its first value counts. CML gives the list.",
	"scalar_for_list":      "One value without parentheses where a list is specified (version 1, shaka, hls.js) is a list of one. CML gives the value as it was sent.",
	"rounded":              "A decimal where an integer is specified is rounded. CML gives the decimal.",
	"wrong_type":           "A value of another type than the key's is left out, as CTA-5004-B asks of servers. CML gives it.",
	"out_of_range":         "A negative number where none can be, or v below 1, is left out.",
	"null":                 "null, undefined and NaN, which programs print for a missing value, count as missing. CML gives the token.",
	"empty":                "An empty string or list counts as missing.",
	"bool_from_number":     "1 and 0 are taken for booleans.",
	"bool_from_text":       "true and false, as token or string, are taken for booleans.",
	"string_for_token":     "A quoted token counts as the token.",
	"token_case":           "Tokens are compared in lower case.",
	"unknown_token":        "A token that the key does not have is kept as \"other\" (e and sta keep the text). CML gives it.",
	"old_token":            "The event token br of libraries before 2.2.0 is bc.",
	"token_for_string":     "A token where a string is specified counts as the string. CML gives the token.",
	"number_for_string":    "A number where a string is specified (ec=27) is written out. CML gives the number.",
	"bytes_for_string":     "A byte sequence where a string is specified is kept as its base64 text.",
	"too_long":             "Text beyond twice the key's limit is left out: nothing from outside is unbounded.",
	"too_many":             "Lists have a limit (8 values, 4 error codes, 2 next objects); what is beyond it is left out and counted.",
	"other_label":          "A label that is not v, a or av counts as no label.",
	"repeated_label":       "Of several values with one label the last counts, of several without label the first. CML gives all.",
	"parameters":           "Parameters where none are specified are ignored. CML gives them.",
	"unknown_key":          "A key that is neither reserved nor custom is counted and left out. CML gives it.",
	"future_version":       "Content of a version above 2 is ignored whole, as CTA-5004-B asks. CML gives it.",
	"nrr":                  "The version 1 key nrr becomes the range of the next object. CML gives both keys.",
	"v1_nor":               "The path in a version 1 nor is URL-decoded once more. CML leaves it.",
	"encode_response_only": "Encoding: CML leaves out keys of responses unless the event is rr; who fills our record decides.",
	"encode_mode":          "Encoding: CML leaves out keys that do not belong to the mode (cen without ce, nrr in version 2).",
	"encode_aggregate":     "Encoding: CML leaves out ab, lab and tab beside br, lb and tb, as the specification wants players to; we write what the record has, for it is received data.",
	"encode_object":        "Encoding: CML leaves out d and tpb for object types that have none.",
	"encode_false":         "Encoding: CML leaves out false booleans; we write ?0, because false and unknown differ.",
	"encode_rate":          "Encoding: CML leaves out pr=1, which is the default.",
	"encode_round":         "Encoding: CML does not round tbl, which the specification advises; we do. Decimals we have rounded to integers before.",
	"encode_refused":       "Encoding: CML refuses the largest integer where it is rounded up beyond 15 digits; we round it down.",
}

// shown gives a member of a record in a form that can be compared; "" when it is absent.
func shown(r *Record, k Key, unit int64) string {
	if !r.Has.Has(k) {
		return ""
	}
	switch specs[k].class {
	case classInt:
		if k == V {
			return strconv.Itoa(r.Version)
		}
		return strconv.FormatInt(round(*r.integer(k), unit), 10)
	case classDecimal:
		return appendDecimal(r.Rate)
	case classBool:
		return strconv.FormatBool(*r.boolean(k))
	case classToken:
		return r.tokenText(k)
	case classByType:
		return string(appendByType(nil, *r.byType(k), unit))
	case classStrings:
		if k == EC {
			return fmt.Sprintf("%q", r.ErrorCodes())
		}
		return fmt.Sprintf("%q", r.Next())
	}
	return strconv.Quote(*r.text(k))
}

// model says what we should make of what CML decoded, member by member, and by which rules it differs.
type model struct {
	version int
	rule    func(name, member string)
}

// record gives the expected members in shown's form, and the expected custom values.
func (m *model) record(members map[string]cml.Value) (want map[Key]string, custom map[string]string) {
	want, custom = map[Key]string{}, map[string]string{}
	m.version = 1
	if v, ok := m.integer("v", members["v"], false); ok && v >= 1 {
		m.version = int(v)
	}
	if m.version > MaxVersion {
		m.rule("future_version", "v")
		want[V] = strconv.Itoa(m.version)
		return want, custom
	}
	for name, v := range members {
		switch k := lookup(name); {
		case k == NRR:
			m.rule("nrr", name)
		case k != Unknown:
			if s := m.member(k, v, members); s != "" {
				want[k] = s
			}
		case strings.IndexByte(name, '-') > 0:
			if s, ok := m.custom(name, v); ok {
				custom[name] = s
			}
		default:
			m.rule("unknown_key", name)
		}
	}
	return want, custom
}

// scalar takes the one value of a member, which is alone or first in a list.
func (m *model) scalar(name string, v cml.Value) (cml.Value, bool) {
	if v.Type == "list" {
		m.rule("list_for_scalar", name)
		if len(v.Items) == 0 {
			m.rule("empty", name)
			return v, false
		}
		v = v.Items[0]
	}
	if len(v.Params) > 0 {
		m.rule("parameters", name)
	}
	return v, true
}

func (m *model) member(k Key, v cml.Value, all map[string]cml.Value) string {
	sp := &specs[k]
	switch sp.class {
	case classByType:
		return m.byType(sp.name, v)
	case classStrings:
		return m.strings(k, v, all)
	}
	v, ok := m.scalar(sp.name, v)
	if !ok || sp.class != classToken && m.null(sp.name, v) {
		return ""
	}
	switch sp.class {
	case classInt:
		n, ok := m.integer(sp.name, v, sp.signed)
		if !ok || k == V && n < 1 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	case classDecimal:
		if v.Type != "num" {
			m.rule("wrong_type", sp.name)
			return ""
		}
		return appendDecimal(v.Num)
	case classBool:
		return m.boolean(sp.name, v)
	case classToken:
		return m.token(k, v)
	}
	s, ok := m.text(sp.name, v, sp.maxLen)
	if !ok {
		return ""
	}
	return strconv.Quote(s)
}

func (m *model) null(name string, v cml.Value) bool {
	if v.Type != "tok" || !slices.Contains([]string{"null", "undefined", "NaN", "nil", "None"}, v.Str) {
		return false
	}
	m.rule("null", name)
	return true
}

func (m *model) integer(name string, v cml.Value, signed bool) (int64, bool) {
	if v.Type == "list" && len(v.Items) > 0 && name == "v" {
		v = v.Items[0]
	}
	switch {
	case v.Type == "":
		return 0, false
	case v.Type != "num":
		m.rule("wrong_type", name)
		return 0, false
	}
	n := math.Round(v.Num)
	if n != v.Num {
		m.rule("rounded", name)
	}
	if n < 0 && !signed || name == "v" && n < 1 {
		m.rule("out_of_range", name)
		return 0, false
	}
	return int64(n), true
}

func (m *model) boolean(name string, v cml.Value) string {
	switch s := strings.ToLower(v.Str); {
	case v.Type == "bool":
		return strconv.FormatBool(v.Bool)
	case v.Type == "num" && (v.Num == 0 || v.Num == 1):
		m.rule("bool_from_number", name)
		return strconv.FormatBool(v.Num == 1)
	case (v.Type == "tok" || v.Type == "str") && (s == "true" || s == "false"):
		m.rule("bool_from_text", name)
		return s
	}
	m.rule("wrong_type", name)
	return ""
}

var tokenTables = map[Key][]string{E: eventTokens[2:], STA: stateTokens[2:], OT: objectTokens[2:], SF: formatTokens[2:], ST: streamTokens[2:]}

func (m *model) token(k Key, v cml.Value) string {
	switch {
	case v.Type == "str":
		m.rule("string_for_token", k.String())
	case v.Type != "tok":
		m.rule("wrong_type", k.String())
		return ""
	}
	s := v.Str
	if s == "" || len(s) > MaxCustomLen || !tokenStart(s[0]) || tokenEnd(s, 0) != len(s) {
		m.rule("wrong_type", k.String())
		return ""
	}
	low := strings.ToLower(s)
	if low != s {
		m.rule("token_case", k.String())
	}
	if k == E && low == "br" {
		m.rule("old_token", "e")
		return "bc"
	}
	if slices.Contains(tokenTables[k], low) {
		return low
	}
	m.rule("unknown_token", k.String())
	if k == E || k == STA {
		return s
	}
	return "other"
}

func (m *model) text(name string, v cml.Value, limit int) (string, bool) {
	s := v.Str
	switch v.Type {
	case "str":
	case "tok":
		m.rule("token_for_string", name)
	case "bytes":
		m.rule("bytes_for_string", name)
	case "num":
		m.rule("number_for_string", name)
		return appendDecimal(v.Num), true
	default:
		m.rule("wrong_type", name)
		return "", false
	}
	switch {
	case s == "":
		m.rule("empty", name)
		return "", false
	case len(s) > limit:
		m.rule("too_long", name)
		return "", false
	}
	return s, true
}

// list gives the values of a list, or one value as a list.
func (m *model) list(name string, v cml.Value) []cml.Value {
	if v.Type != "list" {
		m.rule("scalar_for_list", name)
		return []cml.Value{v}
	}
	if len(v.Params) > 0 {
		m.rule("parameters", name)
	}
	if len(v.Items) == 0 {
		m.rule("empty", name)
	}
	if len(v.Items) > maxItems {
		m.rule("too_many", name)
		return v.Items[:maxItems]
	}
	return v.Items
}

func (m *model) byType(name string, v cml.Value) string {
	items := m.list(name, v)
	if len(items) == 0 || m.null(name, items[0]) {
		return ""
	}
	var t ByType
	for _, it := range items {
		n, ok := m.integer(name, it, false)
		if !ok {
			continue
		}
		var labels TypeSet
		for label, p := range it.Params {
			switch on := p.Type != "bool" || p.Bool; {
			case label == "v" && on:
				labels |= HasVideo
			case label == "a" && on:
				labels |= HasAudio
			case label == "av" && on:
				labels |= HasAV
			default:
				m.rule("other_label", name)
			}
		}
		if labels == 0 {
			labels = HasAny
		}
		if labels&t.Set != 0 {
			m.rule("repeated_label", name)
			if labels&HasAny != 0 {
				continue
			}
		}
		for has, dst := range map[TypeSet]*int64{HasVideo: &t.Video, HasAudio: &t.Audio, HasAV: &t.AV, HasAny: &t.Any} {
			if labels&has != 0 {
				*dst = n
			}
		}
		t.Set |= labels
	}
	if t.Set == 0 {
		return ""
	}
	return string(appendByType(nil, t, 0))
}

func (m *model) strings(k Key, v cml.Value, all map[string]cml.Value) string {
	name := k.String()
	items := m.list(name, v)
	if len(items) == 0 || m.null(name, items[0]) {
		return ""
	}
	var codes []string
	var next []NextObject
	for _, it := range items {
		s, ok := m.text(name, it, specs[k].maxLen)
		if !ok {
			continue
		}
		if k == EC && len(codes) == MaxErrorCodes || len(next) == MaxNext {
			m.rule("too_many", name)
			continue
		}
		if k == EC {
			codes = append(codes, s)
			continue
		}
		n := NextObject{Path: s}
		for p, pv := range it.Params {
			if p == "r" && (pv.Type == "str" || pv.Type == "tok") {
				n.Range = pv.Str
			} else {
				m.rule("parameters", name)
			}
		}
		next = append(next, n)
	}
	if k == EC {
		if codes == nil {
			return ""
		}
		return fmt.Sprintf("%q", codes)
	}
	if next == nil {
		return ""
	}
	if r, ok := all["nrr"]; ok && next[0].Range == "" {
		if r, ok = m.scalar("nrr", r); ok && !m.null("nrr", r) {
			next[0].Range, _ = m.text("nrr", r, specs[NRR].maxLen)
		}
	}
	if p, err := url.PathUnescape(next[0].Path); m.version == 1 && v.Type != "list" && err == nil && cleanText(p) && p != next[0].Path {
		m.rule("v1_nor", name)
		next[0].Path = p
	}
	return fmt.Sprintf("%q", next)
}

func (m *model) custom(name string, v cml.Value) (string, bool) {
	v, ok := m.scalar(name, v)
	switch {
	case !ok:
		return "", false
	case v.Type == "bool" && v.Bool:
		return "?1", true
	case v.Type == "bool":
		return "?0", true
	case v.Type == "num":
		return appendDecimal(v.Num), true
	case v.Type == "tok":
		return v.Str, len(v.Str) <= MaxCustomLen
	}
	return m.text(name, v, MaxCustomLen)
}
