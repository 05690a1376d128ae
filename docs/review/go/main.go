// Command go is a review operator to begin with: it looks at each picture and
// says how much of it is skin-coloured, which is no model, only something to see.
//
//	go run ./docs/review/go nats://review:PASSWORD@HOST:4222
//
// Operators with the same queue group share the pictures. A verdict that the bus
// has not acknowledged is published again.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"os"
	"os/signal"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "give the address that spillway review address prints")
		os.Exit(2)
	}
	if err := review(ctx, os.Args[1], func() { fmt.Println("ready") }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// review looks at pictures until ctx ends.
func review(ctx context.Context, url string, ready func()) error {
	nc, err := nats.Connect(url, nats.Name("review-go"), nats.CustomInboxPrefix(schemas.ReviewInbox), nats.MaxReconnects(-1))
	if err != nil {
		return fmt.Errorf("connect to the bus: %w", err)
	}
	defer nc.Close()
	pictures := make(chan *nats.Msg, 256)
	if _, err := nc.ChanQueueSubscribe("pictures.*.*", "review-go", pictures); err != nil {
		return fmt.Errorf("listen for pictures: %w", err)
	}
	if err := nc.Flush(); err != nil {
		return fmt.Errorf("listen for pictures: %w", err)
	}
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-pictures:
			if err := judge(nc, m); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
}

// judge publishes the verdict on one picture; the bus's answer says that it is stored.
func judge(nc *nats.Conn, m *nats.Msg) error {
	p, err := schemas.ParsePicture(m.Subject, m.Header.Get(schemas.HeaderPicture))
	if err != nil {
		return err
	}
	img, err := jpeg.Decode(bytes.NewReader(m.Data))
	if err != nil {
		return fmt.Errorf("picture of %s: %w", p.Key(), err)
	}
	b, err := json.Marshal(schemas.Verdict{Label: "skin", Score: skin(img), Model: "skin-colour 1", WallUnixUs: p.WallUnixUs})
	if err != nil {
		return err
	}
	for range 3 {
		if _, err = nc.Request(schemas.VerdictSubject(p.Key()), b, 2*time.Second); err == nil {
			return nil
		}
	}
	return fmt.Errorf("verdict on %s is not stored: %w", p.Key(), err)
}

// skin is the share of pixels whose chroma is that of skin.
func skin(img image.Image) float64 {
	y, ok := img.(*image.YCbCr)
	if !ok || len(y.Cb) == 0 {
		return 0
	}
	n := 0
	for i := range y.Cb {
		if y.Cb[i] >= 77 && y.Cb[i] <= 127 && y.Cr[i] >= 133 && y.Cr[i] <= 173 {
			n++
		}
	}
	return float64(n) / float64(len(y.Cb))
}
