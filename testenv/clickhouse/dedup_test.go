package clickhouse

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// table makes a table's folder with the given parts and deduplication log, as ClickHouse lays them out.
func table(t *testing.T, db string, parts []string, log string) (logFile string) {
	t.Helper()
	dir := filepath.Join(db, "store", "abc", "abcdef01-0000-4000-8000-000000000000")
	for _, p := range append(slices.Clone(parts), "deduplication_logs", "detached") {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	logFile = filepath.Join(dir, "deduplication_logs", "deduplication_log_1.txt")
	if err := os.WriteFile(logFile, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	return logFile
}

func TestRepairDedup(t *testing.T) {
	tests := []struct {
		name        string
		parts       []string
		log, want   string
		wantRemoved int
	}{
		{"a stored block stays", []string{"all_1_1_0"}, "1\tall_1_1_0\ta\n", "1\tall_1_1_0\ta\n", 0},
		{"a block that was never renamed goes", []string{"all_1_1_0", "tmp_insert_all_2_2_0"},
			"1\tall_1_1_0\ta\n1\tall_2_2_0\tb\n", "1\tall_1_1_0\ta\n", 1},
		{"merged blocks stay", []string{"all_1_5_2"}, "1\tall_1_1_0\ta\n1\tall_5_5_0\tb\n", "1\tall_1_1_0\ta\n1\tall_5_5_0\tb\n", 0},
		{"mutated parts cover their blocks", []string{"all_1_5_2_9"}, "1\tall_3_3_0\ta\n", "1\tall_3_3_0\ta\n", 0},
		{"blocks of another partition do not cover", []string{"20261120_1_9_1"},
			"1\t20261121_3_3_0\ta\n1\t20261120_3_3_0\tb\n", "1\t20261120_3_3_0\tb\n", 1},
		{"a range only half covered goes", []string{"all_1_2_1"}, "1\tall_2_3_1\ta\n", "", 1},
		{"the order of what stays is kept", []string{"all_1_1_0", "all_3_3_0"},
			"1\tall_1_1_0\ta\n2\tall_0_0_0\tz\n1\tall_2_2_0\tb\n1\tall_3_3_0\tc\n",
			"1\tall_1_1_0\ta\n2\tall_0_0_0\tz\n1\tall_3_3_0\tc\n", 1},
		{"drops and records of unknown form stay", nil, "2\tall_1_1_0\ta\n7\tall_1_1_0\ta\tnew\nodd\n1\tnot-a-part\tx\n",
			"2\tall_1_1_0\ta\n7\tall_1_1_0\ta\tnew\nodd\n1\tnot-a-part\tx\n", 0},
		{"a token may hold tabs", []string{"all_1_1_0"}, "1\tall_1_1_0\ta\tb\n", "1\tall_1_1_0\ta\tb\n", 0},
		{"a line torn by the kill goes", []string{"all_1_1_0"}, "1\tall_1_1_0\ta\n1\tall_1", "1\tall_1_1_0\ta\n", 1},
		{"an empty log", nil, "", "", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			db := t.TempDir()
			log := table(t, db, test.parts, test.log)
			leftover := filepath.Join(filepath.Dir(log), ".deduplication_log_1.txt.123")
			if err := os.WriteFile(leftover, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for pass, wantRemoved := range []int{test.wantRemoved, 0} { // repairing twice changes nothing more
				removed, err := repairDedup(db)
				if err != nil || removed != wantRemoved {
					t.Fatalf("pass %d: repairDedup = %d, %v; want %d", pass, removed, err, wantRemoved)
				}
				got, err := os.ReadFile(log)
				if err != nil || string(got) != test.want {
					t.Fatalf("pass %d: log = %q, %v; want %q", pass, got, err, test.want)
				}
			}
			names, _ := os.ReadDir(filepath.Dir(log))
			if len(names) != 1 {
				t.Errorf("left beside the log: %v", names)
			}
		})
	}
}

func TestRepairDedupWithoutTables(t *testing.T) {
	if n, err := repairDedup(filepath.Join(t.TempDir(), "nothing")); n != 0 || err != nil {
		t.Errorf("repairDedup = %d, %v; want nothing to do", n, err)
	}
}

func TestParsePart(t *testing.T) {
	for name, want := range map[string]string{
		"all_1_1_0": "all 1 1", "all_1_7_2_9": "all 1 7", "20261120_3_4_1": "20261120 3 4", "-5_1_1_0": "-5 1 1",
		"20261120-7_1_1_0": "20261120-7 1 1",
	} {
		partition, r, ok := parsePart(name)
		fields := strings.Fields(want)
		if !ok || partition != fields[0] || !strings.HasSuffix(want, " "+strconv.FormatUint(r.min, 10)+" "+strconv.FormatUint(r.max, 10)) {
			t.Errorf("parsePart(%q) = %q, %v, %v; want %s", name, partition, r, ok, want)
		}
	}
	for _, name := range []string{"tmp_insert_all_1_1_0", "tmp_merge_all_1_5_1", "delete_tmp_all_1_1_0", "detached", "all_1_1",
		"all_99999999999999999999_1_0", "", "format_version.txt"} {
		if _, _, ok := parsePart(name); ok {
			t.Errorf("parsePart(%q) took it for a part", name)
		}
	}
}
