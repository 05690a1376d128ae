package schemas_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// The JSON schema that app developers read names every member of a beacon, with its type, and no other.
func TestBeaconSchemaInTheDocs(t *testing.T) {
	b, err := os.ReadFile("../docs/telemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("docs/telemetry.md has no JSON schema")
	}
	var doc struct {
		Properties map[string]struct {
			Type string
			Enum []string
		}
	}
	if err := json.Unmarshal(m[1], &doc); err != nil {
		t.Fatal(err)
	}
	kinds := map[reflect.Kind]string{reflect.String: "string", reflect.Int64: "integer", reflect.Int32: "integer", reflect.Float64: "number", reflect.Bool: "boolean"}
	for f := range reflect.TypeFor[schemas.Beacon]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		p, ok := doc.Properties[name]
		if want := kinds[ft.Kind()]; !ok || p.Type != want && (len(p.Enum) == 0 || want != "string") {
			t.Errorf("%s is %q in docs/telemetry.md and %s in schemas.Beacon", name, p.Type, want)
		}
		delete(doc.Properties, name)
	}
	for name := range doc.Properties {
		t.Errorf("docs/telemetry.md has %s, which is no member of schemas.Beacon", name)
	}
}
