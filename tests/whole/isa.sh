#!/usr/bin/env bash
# Instruction sets that are asked for: the same bytes from 1 and 3 ranks with each, the libraries held to them, a store that stays
# with its own, and ranks that would compute different bits refused.
. "$(dirname "$0")/common.sh"
model=$GOLDEN/smollm2
tokens "$work/tokens" 6 24 "$(vocabulary smollm2)" 1

declare -A onednn=([generic]=0x1 [avx2]=0x7 [avx512]=0x27 [avx512bf16]=0xe7 [amx]=0x3e7) # what it may then use
have=()
for isa in generic avx2 avx512 avx512bf16 amx; do
  job=(quantize --model "$model" --tokens "$work/tokens" --threads 1 --isa "$isa")
  status=0
  run 1 "${job[@]}" --out "$work/$isa" || status=$?
  if [ "$status" -ne 0 ]; then
    expect_message "does not have the instruction set"
    continue
  fi
  have+=("$isa")
  grep -q "on $isa;" "$work/err" || fail "$isa is not what was used"
  grep -q "(instructions ${onednn[$isa]})" "$work/$isa/shardq.json" || fail "oneDNN is not held to $isa"
  expect 0 3 "${job[@]}" --out "$work/$isa-3"
  same_folder "$work/$isa" "$work/$isa-3"
done
[ ${#have[@]} -gt 1 ] || { echo "skipped: this processor has one instruction set only: ${have[*]}" && exit 77; }

other=${have[1]}
expect 2 1 "${job[@]}" --isa generic --store "$work/$other.store.h5" --resume --out "$work/mixed"
expect_message "backend: store has cpu $other"

options=(--model "$model" --tokens "$work/tokens" --threads 1)

# --- a record: what auto came to, so that it is the same bytes or a refusal anywhere ---

expect 0 1 quantize "${options[@]}" --out "$work/auto"
record=$work/auto/shardq.json
best=$(sed -n 's/.* on \([a-z0-9]*\);.*/\1/p' "$work/err")
if grep -q 'instructions' "$record"; then
  grep -q "\"isa\": \"$best\"" "$record" || grep -q '"isa": "auto"' "$record" || fail "neither $best nor auto in the record"
fi
! grep -qE '"(compute|group_size|backend)": "auto"' "$record" || fail "auto in the record"
for isa in auto "${have[@]}"; do
  expect 0 1 quantize --config "$work/$isa/shardq.json" --threads 2 --out "$work/$isa-again"
  same_folder "$work/$isa" "$work/$isa-again"
done
case $(<"$record") in # as on another processor
  *"Prescott"*) export OPENBLAS_CORETYPE=Nehalem ;;
  *) export OPENBLAS_CORETYPE=Prescott ;;
esac
expect 2 3 quantize --config "$record" --out "$work/elsewhere"
expect_message "libraries: the record has oneDNN"
expect 0 1 quantize --config "$record" --out "$work/elsewhere" --damping 0.02 # other bytes are asked for
"$SHARDQ" config --config "$record" >"$work/settings.yaml"
expect 0 1 quantize --config "$work/settings.yaml" --out "$work/settings"
unset OPENBLAS_CORETYPE

# --- ranks that would compute different bits ---

mixed() { # mixed COMMAND OPTION...: rank 1 with another instruction set than rank 0
  timeout 60 mpirun -n 1 "$SHARDQ" "$@" --isa generic : -n 1 "$SHARDQ" "$@" --isa "$other" </dev/null 2>"$work/err" >"$work/stdout"
}
if mixed quantize "${options[@]}" --out "$work/mixed"; then fail "ranks with different instruction sets were accepted"; fi
expect_message "rank 0 computes with cpu generic"
expect_message "rank 1 with cpu $other"
if mixed eval "${options[@]}"; then fail "ranks with different instruction sets were accepted by eval"; fi
expect_message "rank 1 with cpu $other"
