package stats

import (
	"errors"
	"fmt"
	"math"
)

// Reason says, in a fixed word that dashboards and scripts may rely on, why
// there is no number.
type Reason string

// Reasons for which no number exists although the input is honest.
const (
	EmptyArm                Reason = "empty_arm"
	TooFewUnits             Reason = "too_few_units"
	TooFewUnitsForQuantile  Reason = "too_few_units_for_quantile"
	CollapsedQuantileBounds Reason = "collapsed_quantile_bounds"
	ZeroVariance            Reason = "zero_variance"
	ZeroDenominator         Reason = "zero_denominator"
	ZeroControlMean         Reason = "zero_control_mean"
	UnboundedInterval       Reason = "unbounded_interval"
	LogOfZero               Reason = "log_of_zero"
	NoOverlap               Reason = "no_overlap"
	OutOfReach              Reason = "out_of_reach"
)

// Reasons that say the input is wrong.
const (
	InconsistentSums     Reason = "inconsistent_sums"
	InvalidAlpha         Reason = "invalid_alpha"
	InvalidCount         Reason = "invalid_count"
	InvalidPValue        Reason = "invalid_p_value"
	InvalidParameter     Reason = "invalid_parameter"
	InvalidPropensity    Reason = "invalid_propensity"
	NotFinite            Reason = "not_finite"
	UsersInZeroWeightArm Reason = "users_in_zero_weight_arm"
)

// BadInput reports whether the reason blames the input (a defect in a query, a
// setting or the assignment) rather than a lack of data.
func (r Reason) BadInput() bool {
	switch r {
	case InconsistentSums, InvalidAlpha, InvalidCount, InvalidPValue, InvalidParameter,
		InvalidPropensity, NotFinite, UsersInZeroWeightArm:
		return true
	}
	return false
}

// Undefined is the answer "there is no number, because". Every function of this
// package that can fail returns one.
type Undefined struct {
	Reason Reason
	Detail string // what was seen, for people
}

// Error implements error.
func (u *Undefined) Error() string {
	if u.Detail == "" {
		return string(u.Reason)
	}
	return string(u.Reason) + ": " + u.Detail
}

// ReasonOf returns the reason carried by err, and whether there is one.
func ReasonOf(err error) (Reason, bool) {
	var u *Undefined
	if errors.As(err, &u) {
		return u.Reason, true
	}
	return "", false
}

func undefined(r Reason, format string, args ...any) error {
	return &Undefined{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

func finite(xs ...float64) error {
	for _, x := range xs {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return undefined(NotFinite, "value %v", x)
		}
	}
	return nil
}

// probability checks that x lies strictly between 0 and 1.
func probability(x float64, r Reason, name string) error {
	if !(x > 0 && x < 1) {
		return undefined(r, "%s is %v, must lie strictly between 0 and 1", name, x)
	}
	return nil
}

func positive(x float64, name string) error {
	if err := finite(x); err != nil {
		return err
	}
	if x <= 0 {
		return undefined(InvalidParameter, "%s is %v, must be above 0", name, x)
	}
	return nil
}

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
