package schemas

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// EventKind names what an [Event] tells.
type EventKind string

// Kinds of events.
const (
	EventStreamStarted    EventKind = "stream_started"
	EventStreamEnded      EventKind = "stream_ended"
	EventPublishRefused   EventKind = "publish_refused"
	EventSecondPublisher  EventKind = "second_publisher"
	EventPictureFailed    EventKind = "picture_failed"
	EventCDNFault         EventKind = "cdn_fault"
	EventCDNChanged       EventKind = "cdn_changed"
	EventBackPressure     EventKind = "back_pressure"
	EventExperimentChange EventKind = "experiment_changed"
	EventWorkerLost       EventKind = "packager_covered"
	// EventNoKey: samples cannot be encrypted, so nothing is packaged; told once in ten seconds.
	EventNoKey EventKind = "no_key"
	// EventTranscodeFailed: an encoder ended by itself or gave what cannot be used; it is started again.
	EventTranscodeFailed EventKind = "transcode_failed"
	// EventTranscodeBehind: an encoder fell behind real time; a rendition was left out for it.
	EventTranscodeBehind EventKind = "transcode_behind"
	// EventPullFailed: a camera that is pulled failed; told for the first failure of a row.
	EventPullFailed EventKind = "pull_failed"
	// EventCollectorCounts: what a collector accepted and refused in a minute (detail: docs/contracts.md).
	EventCollectorCounts EventKind = "collector_counts"
	// EventLoaderLeftOut: rows the loader left out of a block because their batch was in before, and messages it
	// could not read.
	EventLoaderLeftOut EventKind = "loader_left_out"
	// EventAlertOpened and EventAlertResolved tell of alerts (detail: rule, subject, value, threshold, page).
	EventAlertOpened   EventKind = "alert_opened"
	EventAlertResolved EventKind = "alert_resolved"
	// EventAlertRaised asks for an alert about its stream or CDN, EventAlertCleared ends it: for who has rules of
	// its own, such as review operators. Detail: rule (a name), page (optional). One that is neither raised again
	// nor cleared for 15 minutes is resolved.
	EventAlertRaised  EventKind = "alert_raised"
	EventAlertCleared EventKind = "alert_cleared"
	// EventCDNState is what the registry and the volumes say of a CDN, once a minute (detail: docs/contracts.md).
	EventCDNState EventKind = "cdn_state"
	// EventBusState is how far consumers are behind and what was rejected, once a minute (detail: docs/contracts.md).
	EventBusState EventKind = "bus_state"
)

// Event is something that happened to a stream, CDN or worker; it lands in the
// ClickHouse table events. Detail holds kind-specific values, all strings.
type Event struct {
	// ID is unique; it is the Nats-Msg-Id, derived from the cause where there is one.
	ID     string    `json:"id"`
	TimeUs int64     `json:"time_us"`
	Kind   EventKind `json:"kind"`
	App    string    `json:"app,omitempty"`
	Stream string    `json:"stream,omitempty"`
	CDN    string    `json:"cdn,omitempty"`
	// Reason says in plain words why; for refusals it is what the publisher was told.
	Reason string            `json:"reason,omitempty"`
	Detail map[string]string `json:"detail,omitempty"`
}

// Check names the field that is wrong.
func (e *Event) Check() error {
	if e.ID == "" || len(e.ID) > 256 {
		return fmt.Errorf("event id has %d bytes: 1 to 256 are allowed", len(e.ID))
	}
	if err := CheckName("event kind", string(e.Kind)); err != nil {
		return err
	}
	return checkTime("event", e.TimeUs)
}

// DecisionKind names what was decided.
type DecisionKind string

// Kinds of decisions.
const (
	DecisionDispatch     DecisionKind = "dispatch"
	DecisionMultivariant DecisionKind = "multivariant"
	DecisionSteering     DecisionKind = "steering"
	DecisionPublish      DecisionKind = "publish"
)

// Decision is one routing or overflow answer with its reasons, so that it can
// be explained, audited and evaluated off-policy. It lands in the ClickHouse table decisions.
type Decision struct {
	ID        string       `json:"id"`
	TimeUs    int64        `json:"time_us"`
	Kind      DecisionKind `json:"kind"`
	App       string       `json:"app"`
	Stream    string       `json:"stream"`
	SessionID string       `json:"session_id"`
	ViewerID  string       `json:"viewer_id,omitempty"`
	Region    string       `json:"region,omitempty"`
	ISP       string       `json:"isp,omitempty"`
	// Policy and PolicyVersion name the rule that decided.
	Policy        string `json:"policy"`
	PolicyVersion string `json:"policy_version"`
	// Candidates in the order answered; the first is the choice.
	Candidates []Candidate `json:"candidates"`
	Chosen     string      `json:"chosen"`
	// Previous is where the session was before, if known.
	Previous string `json:"previous,omitempty"`
	// Probability with which the policy takes Chosen in this context; 1 for a deterministic policy.
	Probability float64 `json:"probability"`
	// ReasonCode is a short token, e.g. affinity, spill, draining, pinned.
	ReasonCode string `json:"reason_code"`
	// InputAgeMs is the age of the newest telemetry used, milliseconds; -1 when there was none.
	InputAgeMs int64 `json:"input_age_ms"`
	// CapBps is the bitrate that the session's renditions are held to because all is
	// nearly full, bit/s; 0: all renditions.
	CapBps int64 `json:"cap_bps,omitempty"`
	// QueuedMs is how long a new session had to wait for a place, milliseconds.
	QueuedMs int64 `json:"queued_ms,omitempty"`
	// Group is the viewer's group of address prefixes, 0 to 15.
	Group uint8  `json:"group,omitempty"`
	Arms  string `json:"arms,omitempty"`
}

// Candidate is one CDN considered by a decision.
type Candidate struct {
	CDN string `json:"cdn"`
	// Tier comes before Score in the order: pinned, current, room, full, failing (failing_region, failing_isp: for viewers there alone), penalised.
	Tier string `json:"tier,omitempty"`
	// Score is in the policy's own unit; higher is better.
	Score   float64 `json:"score"`
	Viewers int     `json:"viewers"`
	// Load is the share of its capacity in use, as forecast; Harm the share of a
	// one-minute view lost on it.
	Load float64 `json:"load,omitempty"`
	Harm float64 `json:"harm,omitempty"`
	// Excluded says why the CDN was not eligible; empty if it was.
	Excluded string `json:"excluded,omitempty"`
}

// Check names the field that is wrong.
func (d *Decision) Check() error {
	if d.ID == "" || len(d.ID) > 256 {
		return fmt.Errorf("decision id has %d bytes: 1 to 256 are allowed", len(d.ID))
	}
	if err := CheckName("decision kind", string(d.Kind)); err != nil {
		return err
	}
	if !(d.Probability > 0 && d.Probability <= 1) {
		return fmt.Errorf("decision probability %v is not in (0, 1]", d.Probability)
	}
	return checkTime("decision", d.TimeUs)
}

// Exposure says that a unit met an experiment at a point where its arms could
// differ. It lands in the ClickHouse table exposures.
type Exposure struct {
	ID         string `json:"id"`
	TimeUs     int64  `json:"time_us"`
	Experiment string `json:"experiment"`
	// Salt identifies the phase: changing it re-randomises.
	Salt string `json:"salt"`
	Unit string `json:"unit"`
	// UnitKind is session, viewer or stream.
	UnitKind  string `json:"unit_kind"`
	SessionID string `json:"session_id"`
	ViewerID  string `json:"viewer_id,omitempty"`
	App       string `json:"app"`
	Stream    string `json:"stream"`
	Arm       string `json:"arm"`
	// Propensity is the probability with which the unit gets this arm, given that it is in the experiment.
	Propensity float64 `json:"propensity"`
	// Reason is assigned, forced or fallback.
	Reason string `json:"reason"`
}

// Check names the field that is wrong.
func (x *Exposure) Check() error {
	if x.ID == "" || len(x.ID) > 256 {
		return fmt.Errorf("exposure id has %d bytes: 1 to 256 are allowed", len(x.ID))
	}
	if err := CheckName("experiment", x.Experiment); err != nil {
		return err
	}
	if err := CheckName("arm", x.Arm); err != nil {
		return err
	}
	if !(x.Propensity > 0 && x.Propensity <= 1) {
		return fmt.Errorf("exposure propensity %v is not in (0, 1]", x.Propensity)
	}
	return checkTime("exposure", x.TimeUs)
}

func checkTime(what string, us int64) error {
	t := time.UnixMicro(us)
	if y := t.Year(); y < 2020 || y > 2200 {
		return fmt.Errorf("%s time_us %d is in the year %d: Unix microseconds are expected", what, us, y)
	}
	return nil
}

// checker is what every record can do.
type checker interface{ Check() error }

// EncodeRecord validates an Event, Decision or Exposure and gives its JSON.
func EncodeRecord(r checker) ([]byte, error) { return AppendRecord(nil, r) }

// AppendRecord appends what EncodeRecord gives, or nothing and the error.
func AppendRecord(b []byte, r checker) ([]byte, error) {
	if err := r.Check(); err != nil {
		return b, err
	}
	if d, ok := r.(*Decision); ok {
		return d.AppendJSON(slices.Grow(b, 640+112*len(d.Candidates))), nil
	}
	j, err := json.Marshal(r)
	return append(b, j...), err
}

// DecodeRecord parses JSON into an Event, Decision or Exposure and validates it.
func DecodeRecord(data []byte, r checker) error {
	if err := json.Unmarshal(data, r); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	return r.Check()
}

// MaxRecords bounds the records of one message.
const MaxRecords = 1000

// DecodeRecords parses a message of decisions or exposures: one record, or a JSON
// array of up to MaxRecords. One that is wrong makes the message wrong.
func DecodeRecords[T any, P interface {
	*T
	checker
}](data []byte) ([]T, error) {
	if len(data) == 0 || data[0] != '[' {
		var one T
		if err := DecodeRecord(data, P(&one)); err != nil {
			return nil, err
		}
		return []T{one}, nil
	}
	var all []T
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("decode records: %w", err)
	}
	if len(all) > MaxRecords {
		return nil, fmt.Errorf("decode records: %d in one message: at most %d are allowed", len(all), MaxRecords)
	}
	for i := range all {
		if err := P(&all[i]).Check(); err != nil {
			return nil, fmt.Errorf("decode records: record %d: %w", i, err)
		}
	}
	return all, nil
}
