#!/usr/bin/env bash
# As many ranks as a small cluster has, as processes of this machine: the bytes of one rank, and what each rank sends grows
# with the logarithm of their number in messages (counted by Open MPI itself, collectives and MPI-IO included), as the plan has it.
# SCALE_RANKS ("8 64"): numbers of ranks, the smallest first.
. "$(dirname "$0")/common.sh"
counts=${SCALE_RANKS:-8 64}
ompi_info --param pml monitoring --level 9 2>/dev/null | grep -q pml_monitoring_enable || { echo "skipped: this MPI does not count"; exit 77; }
export OMPI_MCA_pml_monitoring_enable=1 OMPI_MCA_pml_monitoring_enable_output=3 OMPI_MCA_orte_tmpdir_base=$work
tokens "$work/tokens" 64 24 "$(vocabulary llama)" 7

# sent FIELD RANKS: the most that any rank has sent; field 4: bytes, 6: messages.
sent() {
  cat "$work/sent.$2".*.prof | awk -v field="$1" '
    $1 == "E" { sum[$2] += $field }
    END { for (rank in sum) if (sum[rank] > most) most = sum[rank]; print most + 0 }'
}

log2() { awk -v n="$1" 'BEGIN { printf "%d", log(n) / log(2) + 0.999 }'; }

# planned RANKS: messages and bytes of a rank, by what simulate.c says of trees and rings.
planned() {
  "$SHARDQ" plan --model "$GOLDEN/llama" --machine "$machine" --ranks "$1" --samples 64 --length 24 --threads 1 --json |
    python3 -c '
import json, math, sys
ranks, c = int(sys.argv[1]), json.load(sys.stdin)["collectives"]
both = ("sum", "agree")  # up a tree and down
calls = sum(kind["calls"] * (2 if name in both else 1) for name, kind in c.items())
size = sum(kind["bytes"] * (2 if name in both else 1) for name, kind in c.items())
print(calls * math.ceil(math.log2(ranks)), round(size * (ranks - 1) / ranks))' "$1"
}
machine=$(dirname "$0")/../../configs/machines/laptop.yaml

job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1)
OMPI_MCA_pml_monitoring_enable=0 run 1 "${job[@]}" --out "$work/1" || { cat "$work/err"; fail "one rank"; }
per_level=
for ranks in $counts; do
  export OMPI_MCA_pml_monitoring_filename=$work/sent.$ranks
  run "$ranks" "${job[@]}" --out "$work/$ranks" || { cat "$work/err"; fail "$ranks ranks"; }
  cmp "$work/1.store.h5" "$work/$ranks.store.h5" || fail "another store from $ranks ranks"
  same_folder "$work/1" "$work/$ranks"
  messages=$(sent 6 "$ranks") bytes=$(sent 4 "$ranks")
  [ "$messages" -gt 0 ] || fail "nothing was counted"
  read -r planned_messages planned_bytes < <(planned "$ranks")
  echo "$ranks ranks: at most $messages messages and $bytes bytes from a rank (planned: $planned_messages and $planned_bytes);" \
    "$(sed -n 's/^  time *//p' "$work/err")"
  # beside what is planned: the start, opening files, and sums that small ones take more bytes for to be there sooner
  [ "$messages" -ge "$planned_messages" ] && [ "$messages" -le $((2 * planned_messages)) ] ||
    fail "$messages messages where $planned_messages are planned"
  : "${per_level:=$((messages / $(log2 "$ranks")))}"
  most=$((per_level * $(log2 "$ranks") * 3 / 2))
  [ "$messages" -le "$most" ] || fail "more than $most messages"
done
