#!/usr/bin/env bash
# eval and verify where a rank may take little memory: the figures are the same to the last bit from 1 to 4 ranks whose activations
# are in a file, and where not even that fits they are refused with what takes how much. (On devices: cuda.sh.)
. "$(dirname "$0")/common.sh"

must() { # must RANKS ARGS...
  run "$@" >"$work/stdout" || { cat "$work/err" >&2; fail "$*"; }
}

# least RANKS ARGS...: a --memory with which all but the activations fits, by what the refusal of less says; 0.1 MiB for its rounding
least() {
  expect 2 "$@" --memory 1M
  expect_message "a rank needs "
  grep -q 'may take 1.0 MiB: weights .*, activations .* (already in a file), .*; more ranks, fewer samples or a larger --memory would fit' \
    "$work/err" || { cat "$work/err" >&2; fail "no figures: $*"; }
  sed -n 's/.*a rank needs \([0-9.]*\) MiB .*/\1/p' "$work/err" | awk '{ printf "%d", ($1 + 0.1) * 1048576 }'
}

figures() { sed 's/,"compute".*//' "$work/stdout"; } # without the time they took

same() { # same COMMAND OPTION...: what it finds with much memory and with little
  local ranks wanted memory
  must 1 "$@"
  ! grep -q "in a file" "$work/err" || fail "$1: the activations are in a file without need"
  wanted=$(figures)
  [ -n "$wanted" ] || fail "$1 prints nothing"
  for ranks in 1 2 3 4; do
    memory=$(least "$ranks" "$@")
    must "$ranks" "$@" --memory "$memory"
    grep -q "per rank, activations in a file$" "$work/err" || { cat "$work/err" >&2; fail "$1: the activations fit $ranks ranks"; }
    [ "$(figures)" = "$wanted" ] || fail "$1: others on $ranks ranks with $memory bytes"
  done
}

check() { # check MODEL REFERENCE OPTION...
  tokens "$work/tokens" 96 64 "$(vocabulary "$1")" 1
  must 1 quantize --model "$GOLDEN/$1" --tokens "$work/tokens" --threads 1 --backend cpu --out "$work/out" "${@:3}"
  same eval --model "$work/out" --tokens "$work/tokens" --threads 1 --backend cpu --json
  same eval --model "$work/out" --against "$GOLDEN/$2" --tokens "$work/tokens" --threads 1 --backend cpu --json
  same verify --model "$GOLDEN/$1" --checkpoint "$work/out" --tokens "$work/tokens" --threads 1 --backend cpu --json
  rm -r "$work/out"*
}

check llama mistral
check qwen2_moe qwen2_moe --experts top-up --expert-tokens 20
