#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}
go list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do
	# A package without tests has no files to look in.
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //'); do
		echo "fuzz: $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
	done
done
