package session

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// fillRandom sets every field at random, so that one that walk forgets shows.
func fillRandom(rnd *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if name := v.Type().Field(i).Name; v.Type() == reflect.TypeFor[one]() && (name == "ID" || name == "inbox") {
				continue
			}
			if !f.CanSet() {
				f = reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
			}
			fillRandom(rnd, f)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+rnd.IntN(5), 8))
		for i := range v.Len() {
			fillRandom(rnd, v.Index(i))
		}
	case reflect.String:
		v.SetString([]string{"", "a", "eu-west", "live"}[rnd.IntN(4)])
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, rnd.Int64N(1 << 30), -rnd.Int64N(1 << 30)}[rnd.IntN(5)])
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(rnd.IntN(256)))
	default:
		panic(v.Kind().String())
	}
}

func randomOne(rnd *rand.Rand) *one {
	o := new(one)
	fillRandom(rnd, reflect.ValueOf(o).Elem())
	o.FirstMs = 1_700_000_000_000 + rnd.Int64N(1000)
	o.SeenMs, o.LastTs = o.FirstMs-1, o.FirstMs // the edges of how times are written
	o.RecentAt = rnd.IntN(len(o.Recent))
	return o
}

func TestPackingKeepsEveryField(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	table := New(Config{})
	for _, w := range []string{"a", "live"} { // eu-west stays unknown, as when the table of words is full
		table.word(w)
	}
	var into one
	var b []byte
	for range 2000 {
		o := randomOne(rnd)
		b = table.pack(o, b)
		if err := table.unpack(b, &into); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*o, into) {
			t.Fatalf("packed\n%+v\nunpacked\n%+v", *o, into)
		}
		for _, cut := range []int{0, len(b) / 3, len(b) - 1} {
			if err := table.unpack(b[:cut], &into); err == nil {
				t.Fatalf("%d of %d bytes were unpacked", cut, len(b))
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	rnd := rand.New(rand.NewPCG(5, 6))
	table := New(Config{})
	f.Add([]byte{})
	for range 20 {
		f.Add(table.pack(randomOne(rnd), nil))
	}
	var o one
	f.Fuzz(func(t *testing.T, b []byte) {
		if table.unpack(b, &o) != nil {
			return
		}
		// What is taken can be written, and means the same.
		again := table.pack(&o, nil)
		var p one
		if err := table.unpack(again, &p); err != nil {
			t.Fatal(err)
		}
		if c := table.pack(&p, nil); string(c) != string(again) {
			t.Fatal("packed twice, differently")
		}
	})
}
