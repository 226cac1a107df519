#!/usr/bin/env bash
# Adds one line to tests/ledger.csv: what ran, on which commit, how often, and what came of it.
#   tests/ledger.sh SUITE SETTING COUNT RESULT      (no commas; RESULT is `ok` or says what failed)
# A run that began on another commit than the present one names it in LEDGER_COMMIT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# -eq 4 ] || { sed -n 2,4p ledger.sh >&2; exit 2; }
for field; do
  case $field in *[,$'\n']*) echo "ledger.sh: a comma or a line end in '$field'" >&2; exit 2 ;; esac
done
changed=$(git status --porcelain -- ../protocol ../broker | grep -q . && echo + || true)
commit=${LEDGER_COMMIT:-$(git rev-parse --short HEAD)$changed}
printf '%s,%s,%s,%s,%s,%s\n' "$(date -u +%F)" "$commit" "$@" >>ledger.csv
