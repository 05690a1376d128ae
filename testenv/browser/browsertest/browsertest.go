// Package browsertest gives tests a headless Chromium of their own.
package browsertest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/browser"
	"github.com/spillway-live/spillway/testenv/need"
)

// limit bounds what a test does with its browser, so that a page that hangs
// fails the test and not the whole run.
const limit = 10 * time.Minute

// Browser is a running Chromium with one tab. Safe for concurrent use.
type Browser struct {
	// Tab is the context of the tab, for chromedp; further tabs are made of it.
	Tab context.Context

	t      testing.TB
	mu     sync.Mutex
	errors []string
}

// Start starts Chromium; it ends with the test. Where Chromium is missing see [need].
func Start(t testing.TB, flags ...browser.Flag) *Browser {
	t.Helper()
	path := need.Chromium(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	tab, stop, err := browser.Start(ctx, path, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	b := &Browser{Tab: tab, t: t}
	chromedp.ListenTarget(tab, b.note)
	if err := chromedp.Run(tab, log.Enable(), runtime.Enable()); err != nil {
		t.Fatal(err)
	}
	return b
}

// note keeps what the page or Chromium complain of.
func (b *Browser) note(event any) {
	var said []string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		said = append(said, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			for _, a := range e.Args {
				said = append(said, string(a.Value)+a.Description)
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			said = append(said, e.Entry.Text+" "+e.Entry.URL)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors = append(b.errors, said...)
}

// Errors gives, and forgets, what the first tab's console and Chromium's log say
// of errors and warnings since the last call.
func (b *Browser) Errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := slices.Clone(b.errors)
	b.errors = b.errors[:0]
	return said
}

// Open navigates the tab to a page.
func (b *Browser) Open(url string) {
	b.t.Helper()
	if err := chromedp.Run(b.Tab, chromedp.Navigate(url)); err != nil {
		b.t.Fatalf("open %s: %v", url, err)
	}
}

// Eval is [browser.Evaluate] in the tab; an error fails the test.
func Eval[T any](b *Browser, js string) T {
	b.t.Helper()
	v, err := browser.Evaluate[T](b.Tab, js)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}
