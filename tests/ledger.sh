#!/usr/bin/env bash
# Adds one line to tests/ledger.csv: what ran, on which commit, how often, and what came of it.
#   tests/ledger.sh SUITE SETTING COUNT RESULT      (no commas; RESULT is `ok` or says what failed)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# -eq 4 ] || { sed -n 2,3p ledger.sh >&2; exit 2; }
for field; do
  case $field in *[,$'\n']*) echo "ledger.sh: a comma or a line end in '$field'" >&2; exit 2 ;; esac
done
changed=$(git status --porcelain -- ../protocol ../broker | grep -q . && echo + || true)
printf '%s,%s%s,%s,%s,%s,%s\n' "$(date -u +%F)" "$(git rev-parse --short HEAD)" "$changed" "$@" >>ledger.csv
