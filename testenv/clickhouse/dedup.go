package clickhouse

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// partName takes a MergeTree part's folder name apart: partition id, smallest and largest block number, merge
// level and, after a mutation, its number. Partition ids hold no underscore, so tmp_insert_..., delete_tmp_...
// and the like do not match.
var partName = regexp.MustCompile(`^([^_]+)_(\d+)_(\d+)_(\d+)(?:_\d+)?$`)

// blockRange is the range of inserted blocks that a part holds.
type blockRange struct{ min, max uint64 }

func parsePart(name string) (partition string, r blockRange, ok bool) {
	m := partName.FindStringSubmatch(name)
	if m == nil {
		return "", r, false
	}
	lo, err1 := strconv.ParseUint(m[2], 10, 64)
	hi, err2 := strconv.ParseUint(m[3], 10, 64)
	return m[1], blockRange{lo, hi}, err1 == nil && err2 == nil
}

// repairDedup takes out of every deduplication log beneath a stopped server's path what promises a part that is
// not there, and returns how many records that were.
//
// ClickHouse writes an inserted block's token to the log before it renames the part into place. A kill -9 in
// between leaves a token without rows; the client's retry is then answered "duplicate", that is "stored", and the
// rows are lost. Each record is "1<tab>part<tab>token" for an insert or "2..." for a drop; a merge replaces parts
// by one that covers their blocks, so a record is good while some part of its partition covers its range. Tokens
// of data that TTL or a DROP PARTITION has removed go too, which is harmless: nothing retries so late. A torn last
// line, cut in mid-write, goes as well: ClickHouse would refuse to load the table.
func repairDedup(dbPath string) (removed int, err error) {
	dirs, err := filepath.Glob(filepath.Join(dbPath, "store", "*", "*", "deduplication_logs"))
	if err != nil {
		return 0, fmt.Errorf("list deduplication logs: %w", err)
	}
	for _, dir := range dirs {
		// What a crash of an earlier repair left behind: ClickHouse trips over names it does not know.
		leftovers, _ := filepath.Glob(filepath.Join(dir, ".deduplication_log_*"))
		for _, f := range leftovers {
			if err := os.Remove(f); err != nil {
				return removed, fmt.Errorf("remove leftover: %w", err)
			}
		}
		logs, err := filepath.Glob(filepath.Join(dir, "deduplication_log_*.txt"))
		if err != nil {
			return removed, fmt.Errorf("list deduplication logs: %w", err)
		}
		if len(logs) == 0 {
			continue
		}
		parts, err := listParts(filepath.Dir(dir))
		if err != nil {
			return removed, err
		}
		for _, log := range logs {
			n, err := repairLog(log, parts)
			removed += n
			if err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// listParts returns the block ranges present in a table's folder, by partition.
func listParts(table string) (map[string][]blockRange, error) {
	entries, err := os.ReadDir(table)
	if err != nil {
		return nil, fmt.Errorf("list parts: %w", err)
	}
	parts := map[string][]blockRange{}
	for _, e := range entries {
		if partition, r, ok := parsePart(e.Name()); ok && e.IsDir() {
			parts[partition] = append(parts[partition], r)
		}
	}
	return parts, nil
}

func repairLog(path string, parts map[string][]blockRange) (removed int, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read deduplication log: %w", err)
	}
	var keep strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") || isDangling(line, parts) {
			removed++
			continue
		}
		keep.WriteString(line)
	}
	if removed == 0 {
		return 0, nil
	}
	return removed, replaceFile(path, []byte(keep.String()), 0o640)
}

// isDangling reports whether a record announces a part that nothing covers. Records it does not understand are
// left alone: a newer ClickHouse knows better.
func isDangling(line string, parts map[string][]blockRange) bool {
	fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
	if len(fields) != 3 || fields[0] != "1" {
		return false
	}
	partition, r, ok := parsePart(fields[1])
	if !ok {
		return false
	}
	for _, have := range parts[partition] {
		if have.min <= r.min && r.max <= have.max {
			return false
		}
	}
	return true
}
