// Package queries holds the panels of every wall and their SQL in one place.
// Grafana's dashboards are built from them, and the console draws them too.
//
// SQL is written with the macros of Grafana's ClickHouse plugin; [Expand] gives
// the text that ClickHouse sees, with every value quoted. Queries run as the
// analyst, in the database of the schema; they read the analyst views where
// those suffice, and roll-ups where quantiles or ratios of longer times than a
// minute are needed, because quantiles of minutes cannot be averaged. The
// package does no I/O.
package queries
