package cmcd

import (
	"net/http"
	"strings"
	"testing"
)

func seeds(f *testing.F, query bool) {
	for _, file := range recordings(f) {
		for i, x := range readRecording(f, file) {
			if i%5 != 0 {
				continue
			}
			switch {
			case query && x.Query != "":
				f.Add(x.Query)
			case !query && x.Body != nil:
				f.Add(*x.Body)
			}
		}
	}
	for _, s := range []string{"", "\ufeff\r\n,", `cid="abc,e=ps,url="x"`, "br=(400;v, 64;a", "CMCD=v%3d3", "a-b=(((,)\"", `nor=("a";r="0-";v=?0 :YQ==:)`} {
		f.Add(s)
	}
}

// check is what must hold for any record, however it came about.
func check(t *testing.T, r *Record, o Outcome) {
	if o != Parsed && o != Future && r.Has != 0 {
		t.Fatalf("%v with keys %b", o, r.Has)
	}
	if o != Parsed {
		return
	}
	r.Correct(1_795_167_643_634)
	text := string(r.Append(nil))
	if strings.ContainsAny(text, "\n\r\x00") {
		t.Fatalf("%q has control characters", text)
	}
	var again Record
	if o := again.ParseText(r.Mode, text); o != Parsed && len(text) <= MaxRecordBytes {
		t.Fatalf("%q: %v", text, o)
	}
	if len(text) > MaxRecordBytes {
		return
	}
	if again.Has != r.Has|1<<V || len(again.Custom()) != len(r.Custom()) {
		t.Fatalf("%q: keys %v, were %v", text, again.Has, r.Has)
	}
	if twice := string(again.Append(nil)); twice != text {
		t.Fatalf("%q became %q", text, twice)
	}
	ascii := true
	for i := range len(text) {
		ascii = ascii && text[i] < 0x80
	}
	if ascii && !again.Strict {
		t.Fatalf("%q is not strict", text)
	}
}

func FuzzParseBody(f *testing.F) {
	seeds(f, false)
	f.Fuzz(func(t *testing.T, body string) {
		n := 0
		left := ParseBody(body, 100, func(r *Record, o Outcome) bool {
			n++
			check(t, r, o)
			return true
		})
		if n > 100 || n+left > strings.Count(body, "\n")+1 {
			t.Fatalf("%d records and %d left", n, left)
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	seeds(f, true)
	f.Fuzz(func(t *testing.T, raw string) {
		var r Record
		check(t, &r, r.ParseQuery(raw))
		check(t, &r, r.ParseRequest(http.Header{"Cmcd-Request": {raw}, "Cmcd-Status": {raw}}, raw))
	})
}
