package schemas

import (
	"encoding/json"
	"reflect"
	"testing"
)

// fill sets every field that can be set, so that none is its zero value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("0123456789abcdef0123456789abcdef")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	default:
		panic("no value for a " + v.Type().String())
	}
}

// No field of a header is forgotten by what writes and reads it by hand: a chunk
// without its Encryption would be packaged clear.
func TestHeadersHoldEveryField(t *testing.T) {
	var c, c2 Chunk
	fill(reflect.ValueOf(&c).Elem())
	want, err := json.Marshal(&c)
	if err != nil {
		t.Fatal(err)
	}
	if got := appendChunk(nil, &c); string(got) != string(want) {
		t.Errorf("chunk header\n%s\nwant\n%s", got, want)
	}
	if err := parseChunk(want, &c2); err != nil || !reflect.DeepEqual(c, c2) {
		t.Errorf("%+v: %v", c2, err)
	}
	var p, p2 Part
	fill(reflect.ValueOf(&p).Elem())
	if want, err = json.Marshal(&p); err != nil {
		t.Fatal(err)
	}
	if got := appendPart(nil, &p); string(got) != string(want) {
		t.Errorf("part header\n%s\nwant\n%s", got, want)
	}
	if !readPart(want, &p2) || !reflect.DeepEqual(p, p2) {
		t.Errorf("%+v", p2)
	}
}
