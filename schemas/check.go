package schemas

import "fmt"

// BucketChecks maps an experiment's name to ExperimentCheck: what the loop that watches experiments found last.
const BucketChecks = "experiment_checks"

// ExperimentCheck is one look of the closed loop at a running experiment.
type ExperimentCheck struct {
	Experiment string `json:"experiment"`
	// TimeUs is when it looked, UntilUs the stream time its data ends.
	TimeUs  int64 `json:"time_us"`
	UntilUs int64 `json:"until_us,omitempty"`
	// Held says why nothing could be judged: old data, no ClickHouse. Empty: it was judged.
	Held    string   `json:"held,omitempty"`
	Verdict string   `json:"verdict,omitempty"`
	Why     []string `json:"why,omitempty"`
	// Guardrails is "metric arm: state" of each.
	Guardrails []string `json:"guardrails,omitempty"`
	// Next says what the loop waits for.
	Next string `json:"next,omitempty"`
	// ToldRevision is the newest revision of the experiment that its webhook was told of.
	ToldRevision uint64 `json:"told_revision,omitempty"`
}

// ParseExperimentCheck reads an entry of the bucket experiment_checks.
func ParseExperimentCheck(key string, value []byte) (*ExperimentCheck, error) {
	var c ExperimentCheck
	if err := UnmarshalStrict(value, &c); err != nil {
		return nil, err
	}
	if c.Experiment != key {
		return nil, fmt.Errorf("the check under key %s is of experiment %q", key, c.Experiment)
	}
	return &c, nil
}
