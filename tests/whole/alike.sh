#!/usr/bin/env bash
# Ranks that were given different settings or models, as a stale file on one node does it: one line says in what they differ, no rank
# waits for another, and nothing is written.
. "$(dirname "$0")/common.sh"
model=$GOLDEN/llama
tokens "$work/tokens" 8 32 128 1

refuses() { # refuses WORDS OPTION...: the options are those of the last of 3 ranks alone; "together" holds those of all
  local words=$1
  shift
  timeout 60 mpirun -n 2 "$SHARDQ" "${together[@]}" : -n 1 "$SHARDQ" "${together[@]}" "$@" </dev/null >"$work/stdout" 2>"$work/err" &&
    fail "taken: $*"
  local code=$?
  [ $code = 2 ] || { cat "$work/err"; fail "exit code $code: $*"; }
  [ "$(grep -c 'shardq: error' "$work/err")" = 1 ] || { cat "$work/err"; fail "not one line: $*"; }
  grep -qF "$words" "$work/err" || { cat "$work/err"; fail "not \"$words\": $*"; }
  [ -z "$(ls -d "$work"/out* 2>/dev/null)" ] || fail "something was written: $*"
}

# the same path on all ranks, but not the same folder, as of a node's own disk: one bit of a weight is another one
mkdir "$work/first" "$work/last"
cp -r "$model" "$work/first/model"
cp -r "$model" "$work/last/model"
python3 - "$(ls "$work"/last/model/*.safetensors | tail -1)" <<'EOF'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(-1, 2)
    last = file.read(1)[0]
    file.seek(-1, 2)
    file.write(bytes([last ^ 1]))
EOF

together=(quantize --model "$model" --tokens "$work/tokens" --out "$work/out")
refuses "bits: rank 0 has 4, rank 2 has 3" --bits 3
refuses "damping: rank 0 has 0.01, rank 2 has 0.5" --damping 0.5
refuses "shards: rank 0 has 16, rank 2 has 4" --shards 4
refuses "lm_head: rank 0 has false, rank 2 has true" --lm-head
refuses "propagation: rank 0 has quantized, rank 2 has original" --propagation original
refuses "resume: rank 0 has false, rank 2 has true" --resume
refuses "llama_bias is not the same model on rank 2 as on rank 0" --model "$GOLDEN/llama_bias"

apart() { # apart COMMAND OPTION...: "model" is another folder for the last rank
  timeout 60 mpirun -n 2 --wdir "$work/first" "$SHARDQ" "$@" : -n 1 --wdir "$work/last" "$SHARDQ" "$@" </dev/null >"$work/stdout" 2>"$work/err" &&
    fail "taken: $*"
  local code=$?
  [ $code = 2 ] || { cat "$work/err"; fail "exit code $code: $*"; }
  grep -q "model is not the same model on rank 2 as on rank 0" "$work/err" || { cat "$work/err"; fail "$*"; }
  [ "$(grep -c 'shardq: error' "$work/err")" = 1 ] || { cat "$work/err"; fail "not one line: $*"; }
}
apart quantize --model model --tokens "$work/tokens" --out "$work/out"
apart eval --model model --tokens "$work/tokens"
apart eval --model "$model" --against model --tokens "$work/tokens"
[ -z "$(ls -d "$work"/out* 2>/dev/null)" ] || fail "something was written"
run 3 quantize --model "$model" --tokens "$work/tokens" --out "$work/q" --no-assemble || { cat "$work/err"; fail "a store"; }
apart assemble --store "$work/q.store.h5" --model model --out "$work/out"

# threads, memory, and where it finds the model are a rank's own
mpirun -n 1 "$SHARDQ" "${together[@]}" --threads 1 : -n 1 "$SHARDQ" "${together[@]}" --threads 2 --memory 1G --model "$work/first/model" </dev/null \
  >"$work/stdout" 2>"$work/err" || { cat "$work/err"; fail "threads and memory"; }
