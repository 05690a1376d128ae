package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// StreamVerdicts holds what review operators say of pictures: verdicts.<app>.<stream>.
const StreamVerdicts = "VERDICTS"

// BucketReviews maps StreamKey.KVKey to ReviewState.
const BucketReviews = "reviews"

// EventVerdict tells of a verdict that a rule of its application does something
// for. Detail: label, score, model, wall_us, did (hide, alert, mark; separated by commas).
const EventVerdict EventKind = "verdict"

// Verdict is what a model, or a person, says of one picture.
type Verdict struct {
	// Label is a name of the operator's choice, for example nudity.
	Label string `json:"label"`
	// Score is how sure it is, 0 to 1.
	Score float64 `json:"score"`
	// Model names who says so, with its version.
	Model string `json:"model"`
	// WallUnixUs is wall_us of the picture, which names it.
	WallUnixUs int64 `json:"wall_us"`
	// Note is for people.
	Note string `json:"note,omitempty"`
}

// maxVerdict bounds a verdict, bytes.
const maxVerdict = 4096

// VerdictSubject is where a verdict on a stream's picture is published.
func VerdictSubject(k StreamKey) string { return "verdicts." + k.App + "." + k.Stream }

// ParseVerdict reads a verdict and the stream that its subject names.
func ParseVerdict(subject string, data []byte) (StreamKey, *Verdict, error) {
	f := strings.Split(subject, ".")
	if len(f) != 3 || f[0] != "verdicts" {
		return StreamKey{}, nil, fmt.Errorf("subject %.80q is not verdicts.<app>.<stream>", subject)
	}
	k := StreamKey{App: f[1], Stream: f[2]}
	if err := k.Check(); err != nil {
		return k, nil, err
	}
	if len(data) > maxVerdict {
		return k, nil, fmt.Errorf("verdict has %d bytes: at most %d are allowed", len(data), maxVerdict)
	}
	var v Verdict
	if err := json.Unmarshal(data, &v); err != nil {
		return k, nil, fmt.Errorf("decode verdict: %w", err)
	}
	return k, &v, v.Check()
}

// Check names the field that is wrong.
func (v *Verdict) Check() error {
	if err := CheckName("label", v.Label); err != nil {
		return err
	}
	if !(v.Score >= 0 && v.Score <= 1) {
		return fmt.Errorf("score %v is not within 0 and 1", v.Score)
	}
	if v.Model == "" || len(v.Model) > 64 {
		return fmt.Errorf("model has %d bytes: 1 to 64 are allowed", len(v.Model))
	}
	if len(v.Note) > 512 {
		return fmt.Errorf("note has %d bytes: at most 512 are allowed", len(v.Note))
	}
	return checkTime("picture's", v.WallUnixUs)
}

// ReviewRule says what a verdict does: an entry of AppSettings.Review. The model
// says what it sees; what follows is the application's to say.
type ReviewRule struct {
	Label    string  `json:"label"`
	MinScore float64 `json:"min_score"`
	// Hide takes the stream off the hot list for HideSec after the last such
	// verdict; 0: until somebody lifts it.
	Hide    bool  `json:"hide,omitempty"`
	HideSec int64 `json:"hide_sec,omitempty"`
	// Alert raises an alert named review-<label>.
	Alert bool `json:"alert,omitempty"`
	// Mark keeps what was recorded around the picture beyond its retention.
	Mark bool `json:"mark,omitempty"`
}

// Check names the field that is wrong.
func (r *ReviewRule) Check() error {
	if err := CheckName("label", r.Label); err != nil {
		return err
	}
	switch {
	case len(r.Label) > MaxNameLen-len("review-"):
		return fmt.Errorf("label %q has %d characters: at most %d are allowed", r.Label, len(r.Label), MaxNameLen-len("review-"))
	case !(r.MinScore >= 0 && r.MinScore <= 1):
		return fmt.Errorf("min_score %v is not within 0 and 1", r.MinScore)
	case r.HideSec < 0 || r.HideSec > 30*24*3600:
		return fmt.Errorf("hide_sec %d is not within 0 and %d", r.HideSec, 30*24*3600)
	case !r.Hide && !r.Alert && !r.Mark:
		return errors.New("it does nothing: set hide, alert or mark")
	}
	return nil
}

// maxReviewRules bounds AppSettings.Review.
const maxReviewRules = 32

func checkReview(rules []ReviewRule) error {
	if len(rules) > maxReviewRules {
		return fmt.Errorf("review has %d rules: at most %d are allowed", len(rules), maxReviewRules)
	}
	for i := range rules {
		if err := rules[i].Check(); err != nil {
			return fmt.Errorf("review[%d]: %w", i, err)
		}
	}
	return nil
}

// Rules gives the rules that a verdict meets.
func (v *Verdict) Rules(all []ReviewRule) []ReviewRule {
	var out []ReviewRule
	for _, r := range all {
		if r.Label == v.Label && v.Score >= r.MinScore {
			out = append(out, r)
		}
	}
	return out
}

// ReviewState is what verdicts did to a stream: an entry of the bucket reviews.
type ReviewState struct {
	// HiddenUntilUs is until when it is hidden, Unix microseconds; -1: until it is
	// lifted; 0: it is not.
	HiddenUntilUs int64 `json:"hidden_until_us"`
	// Verdict is the last one that hid it.
	Verdict *Verdict `json:"verdict,omitempty"`
	// LiftedUs is when somebody lifted it: verdicts on earlier pictures hide it no more.
	LiftedUs int64 `json:"lifted_us,omitempty"`
}

// Hidden reports whether the stream is hidden at now.
func (r *ReviewState) Hidden(now time.Time) bool {
	return r != nil && (r.HiddenUntilUs < 0 || now.UnixMicro() < r.HiddenUntilUs)
}

// Hide takes a verdict in and reports whether it changes anything.
func (r *ReviewState) Hide(v *Verdict, rule *ReviewRule) bool {
	if v.WallUnixUs <= r.LiftedUs || r.HiddenUntilUs < 0 {
		return false
	}
	until := int64(-1)
	if rule.HideSec > 0 {
		if until = v.WallUnixUs + rule.HideSec*1e6; until <= r.HiddenUntilUs {
			return false
		}
	}
	r.HiddenUntilUs, r.Verdict = until, v
	return true
}

// ParseReviewState reads an entry of the bucket reviews.
func ParseReviewState(key string, value []byte) (*ReviewState, error) {
	if _, err := ParseKVKey(key); err != nil {
		return nil, err
	}
	var r ReviewState
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	if r.HiddenUntilUs < -1 || r.LiftedUs < 0 {
		return nil, errors.New("hidden_until_us and lifted_us are Unix microseconds, or -1")
	}
	return &r, nil
}

// User that review operators connect to the bus as.
const (
	ReviewUser = "review"
	// ReviewInbox is the prefix of the subjects on which it may be answered.
	ReviewInbox = "_REVIEW"
)

// ReviewAllows gives the subjects that the user may publish to and subscribe to, and no other.
func ReviewAllows() (publish, subscribe []string) {
	return []string{"verdicts.*.*"}, []string{"pictures.*.*", ReviewInbox + ".>"}
}
