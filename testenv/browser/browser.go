// Package browser runs headless Chromium, driven with chromedp.
//
// It promises a profile of its own for every browser, flags with which live
// media plays without a person (no GPU, no sound card, autoplay) and nothing
// goes to the network by itself, and an end: an orderly one, or the process is
// killed by its id.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// closeGrace is what Chromium has to write its profile and end.
const closeGrace = 10 * time.Second

// Flag is one of Chromium's command line, without its dashes.
type Flag struct {
	Name  string
	Value any // bool or string
}

// Start starts the Chromium at path and gives the context of its first tab, for
// chromedp. stop ends it and removes its profile; it must be called. It ends
// with ctx, too.
func Start(ctx context.Context, path string, flags ...Flag) (tab context.Context, stop func(), err error) {
	// Not in a test's folder: Chromium's last processes may still write when that is removed.
	profile, err := os.MkdirTemp("", "spillway-chromium-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a profile for Chromium: %w", err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.WindowSize(1000, 800),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
	}
	for _, f := range flags {
		options = append(options, chromedp.Flag(f.Name, f.Value))
	}
	alloc, kill := chromedp.NewExecAllocator(ctx, options...)
	tab, cancel := chromedp.NewContext(alloc)
	stop = func() {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_ = chromedp.Cancel(tab) // what it could not do in order, kill does
		}()
		select {
		case <-closed:
		case <-time.After(closeGrace):
		}
		cancel()
		kill()
		_ = os.RemoveAll(profile)
	}
	if err := chromedp.Run(tab); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return tab, stop, nil
}

// Evaluate runs JavaScript in a tab, waits for its promise where it gives one,
// and decodes its value as JSON.
func Evaluate[T any](tab context.Context, js string) (v T, err error) {
	var text string
	wait := func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
	if err := chromedp.Run(tab, chromedp.Evaluate("(async () => JSON.stringify((await ("+js+")) ?? null))()", &text, wait)); err != nil {
		return v, fmt.Errorf("evaluate %.200s: %w", js, err)
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("evaluate %.200s: gave %.200s: %w", js, text, err)
	}
	return v, nil
}
