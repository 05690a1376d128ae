// Package stats is the arithmetic of experiments on quality of service: from
// sums per arm to estimates, intervals and tests.
//
// It promises pure functions over sufficient statistics that merge (Moments,
// Sums, log histograms): no I/O, no clock, no global state, and the same input
// always gives the same bits; what is random takes a seed. Variance is computed
// over randomization units (viewers, streams, blocks, hash buckets), never over
// rows. An answer that does not exist is an *Undefined error with a reason,
// never 0, NaN or p = 1; contradictory input is one too, and its Reason says
// that the input is at fault (Reason.BadInput).
//
// Harm, benefit and shipping rules are left to package experiments; reading the
// sums from a database is left to its queries. The formulas are the published
// ones (delta method, Fieller, CUPED, asymptotic confidence sequences of
// Waudby-Smith et al., the Dirichlet-multinomial ratio test of Lindon and
// Malek, and so on), each named where it is used.
package stats
