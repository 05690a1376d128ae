// Package loader is the stateless service that writes every ClickHouse table
// from the bus: raw telemetry, session slices, decisions, exposures, events.
//
// It promises: every row that the bus holds is in its table exactly once, and so
// in every roll-up, through crashes of loaders, bus and ClickHouse; while
// ClickHouse is away nothing is lost and the loader waits; a message that cannot
// be read goes to the dead letters, a row that ClickHouse would refuse is mended
// beforehand, so neither holds anything up.
//
// How: the tables are cut into lanes, each a fixed set of bus subjects with one
// owner at a time (package lease). A lane's rows go in blocks, each a range of
// stream sequences. The block's bounds, rows and checksum are recorded by
// compare-and-set on the lane's ledger key before the insert, and the insert
// carries a deduplication token made of the range; after a crash the recorded
// block is read and inserted again, identically, before anything else. A block
// recorded says that the one before is in. A second owner loses the
// compare-and-set, and what it inserts of a recorded block is the same block.
//
// One INSERT is one server block (rows and bytes are bounded far below the
// server's limits), async_insert is off, deduplication in dependent views on.
// TELEMETRY and SLICES are purged only behind what ClickHouse holds, less the
// replay horizon, and TELEMETRY only behind the sessionisers' snapshots.
package loader
