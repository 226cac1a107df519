#!/usr/bin/env bash
# Every answer to a push follows a sync that covers the message on two of three nodes: system calls, counted.
#   tests/audit.sh [PUSHES]                              10,000 by default
#   QUEUED_MUTANT=ack-before-sync tests/audit.sh 1000    the same with a planted bug: must find exceptions
# Exit 0 if there is no exception, 1 if there is, 2 if the traces show too little; skipped where there is no strace.
# How, and what it does not prove: tests/torture/audit.rs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --quiet --locked -p tests --bins
exec "${CARGO_TARGET_DIR:-target}/debug/torture" audit "${1:-10000}"
