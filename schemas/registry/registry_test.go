package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestEditsAtOnceAreAllKept(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	r, err := registry.Open(t.Context(), b.JS, schemas.BucketApps, schemas.ParseAppSettings)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = r.Edit(t.Context(), "live", func(a *schemas.AppSettings, _ bool) error {
				a.Ladder = append(a.Ladder, schemas.Rung{Name: fmt.Sprintf("r%d", i), Height: 360, BitrateBps: 500_000})
				return nil
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	a, err := r.Get(t.Context(), "live")
	if err != nil || len(a.Ladder) != len(errs) {
		t.Fatalf("%+v, %v: want %d rungs", a, err, len(errs))
	}
}

func TestWhatReadersWouldRefuseIsNotStored(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	r, err := registry.Open(t.Context(), b.JS, schemas.BucketSources, schemas.ParseSource)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Edit(t.Context(), "live.door", func(s *schemas.Source, found bool) error {
		if found {
			t.Error("found an entry in an empty bucket")
		}
		s.URL = "http://camera"
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "rtsp://") {
		t.Errorf("error %v", err)
	}
	if _, err := r.Get(t.Context(), "live.door"); !errors.Is(err, registry.ErrNone) {
		t.Errorf("stored all the same: %v", err)
	}
	if err := r.Remove(t.Context(), "live.door"); !errors.Is(err, registry.ErrNone) {
		t.Errorf("removed what is not there: %v", err)
	}
	// An entry somebody wrote by hand is listed with what is wrong, and can be removed.
	if _, err := r.KV.Put(t.Context(), "live.hand", []byte(`{"uri":"x"}`)); err != nil {
		t.Fatal(err)
	}
	l, err := r.List(t.Context())
	if err != nil || len(l) != 1 || l[0].Err == nil {
		t.Fatalf("%+v, %v", l, err)
	}
	if err := r.Remove(t.Context(), "live.hand"); err != nil {
		t.Error(err)
	}
}
