package workers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Message is one delivered message: data only, for the runner alone acknowledges.
type Message struct {
	Subject string
	Header  nats.Header
	Data    []byte
	// Seq is the sequence in the stream it was read from.
	Seq uint64
	// Attempt counts the deliveries of this message, from 1.
	Attempt int
	// StoredAt is when the bus stored it.
	StoredAt time.Time
}

// Output is a message to publish.
type Output struct {
	Subject string
	Header  nats.Header
	Data    []byte
	// MsgID becomes Nats-Msg-Id. It must be derived from the cause, so that the
	// bus recognises what a repeated handling publishes again.
	MsgID string
	// Unstored: no stream holds the subject, and nothing acknowledges the message.
	// For what can be made again at any time; a listener that misses it helps itself.
	Unstored bool
}

// Handler turns delivered messages into messages to publish.
//
// Handle gets 1 to BatchSize messages and must not keep or change them. It may
// get the same message again, alone or in other company, so its effect must not
// depend on being called once.
//
// On nil the runner publishes the outputs and then acknowledges. An error
// acknowledges nothing and drops the outputs. An error made by [Reject] means
// that no retry can help: the runner finds the culprit one by one and
// dead-letters it alone. Any other error is retried with growing delay.
//
// ctx outlives the shutdown signal by the drain deadline; return soon after it
// ends. Handle is called by several goroutines at once when Concurrency allows.
type Handler interface {
	Handle(ctx context.Context, batch []Message) ([]Output, error)
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, batch []Message) ([]Output, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, batch []Message) ([]Output, error) {
	return f(ctx, batch)
}

// Each makes a handler of a function that takes one message. The outputs of a
// batch follow each other in the order of its messages.
func Each(f func(ctx context.Context, m Message) ([]Output, error)) Handler {
	return HandlerFunc(func(ctx context.Context, batch []Message) ([]Output, error) {
		if len(batch) == 1 {
			return f(ctx, batch[0])
		}
		var all []Output
		for _, m := range batch {
			out, err := f(ctx, m)
			if err != nil {
				return nil, err
			}
			all = append(all, out...)
		}
		return all, nil
	})
}

type rejection struct{ err error }

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// Reject marks an error as one that no retry can help: the message is put in
// the stream DEAD with this reason. Reject(nil) is nil.
func Reject(err error) error {
	if err == nil {
		return nil
	}
	return &rejection{err}
}

// Rejected reports whether err was made by [Reject].
func Rejected(err error) bool {
	var r *rejection
	return errors.As(err, &r)
}

// PanicError is the error that a panic of a handler becomes.
type PanicError struct {
	Value any
	Stack []byte
}

func (p *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v\n%s", p.Value, p.Stack) }
