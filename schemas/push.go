package schemas

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Buckets of push targets.
const (
	// BucketPushes maps a target's name to PushTarget.
	BucketPushes = "pushes"
	// BucketPushStates maps state.<target>.<app>.<stream> to PushState, and holds the leases of who pushes what.
	BucketPushStates = "pushstates"
)

// PushTarget is a CDN or service to which streams are published again by RTMP.
type PushTarget struct {
	App string `json:"app"`
	// Stream is the one that is pushed; empty: every stream of the application.
	Stream string `json:"stream,omitempty"`
	// URL is rtmp:// or rtmps://, HOST[:PORT]/APPLICATION/KEY as encoders take it.
	// Its key is a secret and is never shown. {stream} stands for the stream's name,
	// and must be there where every stream of the application is pushed.
	URL string `json:"url"`
	// Disabled: nothing is pushed there.
	Disabled bool `json:"disabled,omitempty"`
}

// Check names the field that is wrong. Its errors do not repeat the URL.
func (t *PushTarget) Check() error {
	if err := CheckName("app", t.App); err != nil {
		return err
	}
	if t.Stream != "" {
		if err := CheckName("stream", t.Stream); err != nil {
			return err
		}
	} else if !strings.Contains(t.URL, "{stream}") {
		return errors.New("url: it needs {stream} where every stream of an application is pushed, or all would have one key")
	}
	if len(t.URL) > 2048 {
		return errors.New("url: more than 2048 bytes")
	}
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || u.Scheme != "rtmp" && u.Scheme != "rtmps" || u.Fragment != "" {
		return errors.New("url must be rtmp://HOST[:PORT]/APPLICATION/KEY, or the same with rtmps")
	}
	if app, key, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/"); !ok || app == "" || key == "" || strings.HasSuffix(key, "/") {
		return errors.New("url: its path must be /APPLICATION/KEY")
	}
	return nil
}

// Takes reports whether the target wants the stream.
func (t *PushTarget) Takes(k StreamKey) bool {
	return !t.Disabled && t.App == k.App && (t.Stream == "" || t.Stream == k.Stream)
}

// Address is where the stream goes.
func (t *PushTarget) Address(k StreamKey) (*url.URL, error) {
	u, err := url.Parse(strings.ReplaceAll(t.URL, "{stream}", k.Stream))
	if err != nil {
		return nil, errors.New("the target's url cannot be read") // the error would repeat it
	}
	return u, nil
}

// ShownURL is the URL without user, password and key.
func (t *PushTarget) ShownURL() string {
	u, err := url.Parse(t.URL)
	if err != nil {
		return ""
	}
	path := u.Path
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		path = path[:i]
	}
	return u.Scheme + "://" + u.Host + path + "/..."
}

// ParsePushTarget reads an entry of the bucket pushes.
func ParsePushTarget(key string, value []byte) (*PushTarget, error) {
	if err := CheckName("target name", key); err != nil {
		return nil, err
	}
	var t PushTarget
	if err := UnmarshalStrict(value, &t); err != nil {
		return nil, errors.New("push target: it is not JSON with the fields app, stream, url, disabled") // the error might repeat the key
	}
	return &t, t.Check()
}

// PushPhase is what a push is doing.
type PushPhase string

// Phases of a push.
const (
	PushWaiting    PushPhase = "waiting"     // for media of the stream
	PushConnecting PushPhase = "connecting"  // to the target
	PushSending    PushPhase = "sending"     // media flows
	PushBackingOff PushPhase = "backing_off" // the target failed (Reason); it is tried again
)

// PushHoldsFor is how long a state holds after it was written; older ones are of a process that is gone.
const PushHoldsFor = 10 * time.Second

// PushState is what the bucket pushstates holds for each target and stream
// while somebody pushes it. Its pusher writes it when it changes, and every two seconds.
type PushState struct {
	Target string    `json:"target"`
	App    string    `json:"app"`
	Stream string    `json:"stream"`
	Phase  PushPhase `json:"phase"`
	// Reason is why it is backing off, without the key; empty otherwise.
	Reason string `json:"reason,omitempty"`
	// SinceUnixUs is when the phase began, UpdatedUnixUs when this was written; pusher's clock.
	SinceUnixUs   int64 `json:"since_us"`
	UpdatedUnixUs int64 `json:"updated_us"`
	// Since this process began to push it: bytes of frames sent, frames that were
	// not, connections lost or refused.
	Bytes         int64 `json:"bytes"`
	DroppedFrames int64 `json:"dropped_frames"`
	Reconnects    int64 `json:"reconnects"`
	// Holder is the pusher's id, random per process start.
	Holder string `json:"holder"`
}

// PushStateKey is the key of a state.
func PushStateKey(target string, k StreamKey) string { return "state." + target + "." + k.KVKey() }

// ParsePushState reads an entry of the bucket pushstates.
func ParsePushState(key string, value []byte) (*PushState, error) {
	var s PushState
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, err
	}
	if want := PushStateKey(s.Target, StreamKey{s.App, s.Stream}); want != key {
		return nil, fmt.Errorf("the state under key %s is of %s", key, want)
	}
	return &s, nil
}

// PushStates reads what pushes do now, by target; those of processes that are gone are left out.
func PushStates(ctx context.Context, states jetstream.KeyValue) (map[string][]*PushState, error) {
	keys, err := states.ListKeysFiltered(ctx, "state.>")
	if err != nil {
		return nil, fmt.Errorf("list pushes: %w", err)
	}
	out := map[string][]*PushState{}
	for key := range keys.Keys() {
		e, err := states.Get(ctx, key)
		if err != nil {
			continue // it has just ended
		}
		s, err := ParsePushState(key, e.Value())
		if err == nil && time.Since(e.Created()) < PushHoldsFor {
			out[s.Target] = append(out[s.Target], s)
		}
	}
	for _, l := range out {
		slices.SortFunc(l, func(a, b *PushState) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Stream, b.Stream)) })
	}
	return out, nil
}
