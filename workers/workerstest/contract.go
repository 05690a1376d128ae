// Package workerstest holds the contract suite that every handler passes: a
// message handled twice has the same effect as once, messages are neither
// changed nor kept, equal input gives equal output, and garbage is an error or
// nothing, never a panic.
//
// It leaves out what a handler is for; that is the handler's own test.
package workerstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
)

// Contract says what to test.
type Contract struct {
	// New gives a handler without memory of earlier ones.
	New func(t *testing.T) workers.Handler
	// Messages are valid input, handled without error.
	Messages []workers.Message
	// Subject garbage is delivered on; default that of the first message.
	Subject string
	// AllowSilence: garbage may be passed over without an error.
	AllowSilence bool
}

// Run runs the suite.
func Run(t *testing.T, c Contract) {
	if len(c.Messages) == 0 {
		t.Fatal("no messages to test with")
	}
	if c.Subject == "" {
		c.Subject = c.Messages[0].Subject
	}
	t.Run("twice is once", func(t *testing.T) { twice(t, c) })
	t.Run("any company", func(t *testing.T) { company(t, c) })
	t.Run("messages unchanged and not kept", func(t *testing.T) { untouched(t, c) })
	t.Run("equal input, equal output", func(t *testing.T) { deterministic(t, c) })
	t.Run("garbage", func(t *testing.T) { garbage(t, c) })
}

func handle(t *testing.T, h workers.Handler, m ...workers.Message) []workers.Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := h.Handle(ctx, m)
	if err != nil {
		t.Fatalf("handle: %v", err)
	}
	return out
}

// effect is what stays of outputs once the bus has dropped repeated ids.
func effect(t *testing.T, out []workers.Output) map[string]string {
	t.Helper()
	e := map[string]string{}
	for _, o := range out {
		if o.MsgID == "" {
			t.Fatalf("output to %s has no id", o.Subject)
		}
		if o.Subject == "" {
			t.Fatalf("output %s has no subject", o.MsgID)
		}
		text := print(o)
		if old, ok := e[o.MsgID]; ok && old != text {
			t.Fatalf("id %s names two different outputs", o.MsgID)
		}
		e[o.MsgID] = text
	}
	return e
}

func print(o workers.Output) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", o.MsgID, o.Subject)
	for _, k := range slices.Sorted(maps.Keys(o.Header)) {
		fmt.Fprintf(&b, "%s: %q\n", k, o.Header[k])
	}
	b.Write(o.Data)
	return b.String()
}

func twice(t *testing.T, c Contract) {
	h := c.New(t)
	var once, all []workers.Output
	for _, m := range c.Messages {
		out := handle(t, h, clone(m))
		once, all = append(once, out...), append(all, out...)
		again := clone(m)
		again.Attempt++
		all = append(all, handle(t, h, again)...)
	}
	// Late redeliveries, in another order.
	for _, m := range slices.Backward(c.Messages) {
		again := clone(m)
		again.Attempt += 2
		all = append(all, handle(t, h, again)...)
	}
	if a, b := effect(t, once), effect(t, all); !maps.Equal(a, b) {
		t.Errorf("redelivery changed the effect: %d outputs once, %d with repeats", len(a), len(b))
	}
}

func company(t *testing.T, c Contract) {
	var single []workers.Output
	h := c.New(t)
	for _, m := range c.Messages {
		single = append(single, handle(t, h, clone(m))...)
	}
	batch := make([]workers.Message, len(c.Messages))
	for i, m := range c.Messages {
		batch[i] = clone(m)
	}
	if a, b := effect(t, single), effect(t, handle(t, c.New(t), batch...)); !maps.Equal(a, b) {
		t.Error("the messages have another effect in one batch than one by one")
	}
}

func untouched(t *testing.T, c Contract) {
	h := c.New(t)
	for i, m := range c.Messages {
		given := clone(m)
		out := handle(t, h, given)
		if !bytes.Equal(given.Data, m.Data) || !maps.EqualFunc(given.Header, m.Header, slices.Equal) || given.Subject != m.Subject {
			t.Fatalf("message %d was changed", i)
		}
		// Outputs may alias their message, for the runner publishes them before it
		// lets go of it; a later message must not see the earlier one's bytes.
		want := effect(t, out)
		for j := range given.Data {
			given.Data[j] ^= 0xff
		}
		for id, text := range effect(t, handle(t, h, clone(m))) {
			if want[id] != text {
				t.Fatalf("message %d: output %s changed: the handler kept the data of an earlier message", i, id)
			}
		}
	}
}

func deterministic(t *testing.T, c Contract) {
	a, b := c.New(t), c.New(t)
	for i, m := range c.Messages {
		x, y := handle(t, a, clone(m)), handle(t, b, clone(m))
		if len(x) != len(y) {
			t.Fatalf("message %d: %d outputs and %d", i, len(x), len(y))
		}
		for j := range x {
			if print(x[j]) != print(y[j]) {
				t.Errorf("message %d, output %d differs between two handlers", i, j)
			}
		}
	}
}

// Garbage gives messages that no handler can take: damaged copies of m.
func Garbage(m workers.Message) []workers.Message {
	var all []workers.Message
	add := func(f func(m *workers.Message)) {
		g := clone(m)
		f(&g)
		all = append(all, g)
	}
	add(func(m *workers.Message) { m.Data, m.Header = nil, nil })
	add(func(m *workers.Message) { m.Header = nil })
	add(func(m *workers.Message) { m.Data = nil })
	for _, header := range slices.Sorted(maps.Keys(m.Header)) {
		for _, v := range []string{"", "{", "null", "{}", `{"v":1}`, `{"v":99}`, `[]`, "\x00\xff", string(bytes.Repeat([]byte("["), schemas.MaxHeaderBytes+1))} {
			add(func(m *workers.Message) { m.Header.Set(header, v) })
		}
		add(func(m *workers.Message) { m.Header.Del(header) })
		v := m.Header.Get(header)
		for _, n := range []int{len(v) / 3, len(v) / 2, len(v) - 1} {
			add(func(m *workers.Message) { m.Header.Set(header, v[:n]) })
		}
	}
	for _, n := range []int{1, len(m.Data) / 2, len(m.Data) - 1} {
		if n > 0 && n < len(m.Data) {
			add(func(m *workers.Message) { m.Data = m.Data[:n] })
			add(func(m *workers.Message) { m.Data[n] ^= 1 })
		}
	}
	add(func(m *workers.Message) { m.Data = append(m.Data, 0) })
	return all
}

func garbage(t *testing.T, c Contract) {
	h := c.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for i, g := range Garbage(c.Messages[0]) {
		g.Subject = c.Subject
		out, err := h.Handle(ctx, []workers.Message{g})
		switch {
		case err == nil && len(out) > 0:
			t.Errorf("garbage %d (header %.60q) gave %d outputs", i, g.Header, len(out))
		case err == nil && !c.AllowSilence && g.Header.Get(schemas.HeaderKind) == c.Messages[0].Header.Get(schemas.HeaderKind):
			t.Errorf("garbage %d (header %.60q) was taken without an error", i, g.Header)
		case err != nil && !workers.Rejected(err):
			t.Errorf("garbage %d would be retried for ever: %v", i, err)
		}
	}
	// It still works.
	handle(t, h, clone(c.Messages[0]))
}

func clone(m workers.Message) workers.Message {
	h := make(nats.Header, len(m.Header))
	for k, v := range m.Header {
		h[k] = slices.Clone(v)
	}
	m.Header, m.Data = h, bytes.Clone(m.Data)
	return m
}
