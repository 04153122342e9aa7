# shellcheck shell=bash
# What tests of the program on devices share. share: options of jobs of several ranks.
. "$(dirname "$0")/common.sh"
export CUDASIM_CHECK=off # of each access of a kernel the contract tests take care
share=()

must() { # must RANKS ARGS...
  run "$@" >"$work/stdout" || { cat "$work/err" >&2; fail "$*"; }
}

figures() { # figures RANKS OPTION...: of the first checkpoint, as JSON without the time it took
  must "$1" eval --model "$work/one" --tokens "$work/eval" --threads 1 --json "${@:2}"
  sed 's/,"compute".*//' "$work/stdout"
}

prepare() { # prepare MODEL OPTION...: what one rank makes of it
  model=$1 options=(--threads 1 "${@:2}")
  rm -rf "${work:?}"/*
  tokens "$work/tokens" 9 14 "$(vocabulary "$model")" 1
  tokens "$work/eval" 5 14 "$(vocabulary "$model")" 2
  job=(quantize --model "$GOLDEN/$model" --tokens "$work/tokens")
  must 1 "${job[@]}" "${options[@]}" --backend cuda --out "$work/one"
  grep -q " on sm_[0-9]*x[0-9]*; " "$work/err" || { cat "$work/err"; fail "it did not run on a device"; }
}

same_checkpoint() { # same_checkpoint RANKS OPTION...
  must "$1" "${job[@]}" "${options[@]}" --backend cuda "${share[@]}" --out "$work/again" "${@:2}"
  cmp "$work/one.store.h5" "$work/again.store.h5" || fail "$model: another store from $1 ranks: ${*:2}"
  same_folder "$work/one" "$work/again"
  rm -r "$work/again"*
}

# Of $model in fp32, as not every processor has bf16. Sums in another order differ in their last bits; a weight that lies just
# between two codes may then get the other one, and those behind it make up for that. Seen: 1 code of 290,000.
close_to_cpu() { # close_to_cpu [RANKS...]: whose perplexity is the same
  local differ device cpu ranks
  must 1 "${job[@]}" "${options[@]}" --backend cpu --out "$work/cpu"
  differ=$("$(dirname "$0")/codes.py" "$work/one" "$work/cpu" 0.0005) || fail "$model ${options[*]}: $differ"
  echo "$model ${options[*]}: $differ from the CPU's"
  device=$(figures 1 --backend cuda --compute fp32) cpu=$(figures 1 --backend cpu --compute fp32)
  for ranks in "$@"; do
    [ "$(figures "$ranks" --backend cuda --compute fp32 "${share[@]}")" = "$device" ] || fail "$model: eval differs on $ranks ranks"
  done
  near "${device#*:}" "${cpu#*:}" 1e-5 "$model: nll on the device and on the CPU"
}

check() { # check RANKS MODEL OPTION...
  local ranks
  prepare "$2" --compute fp32 "${@:3}"
  for ranks in $1; do same_checkpoint "$ranks"; done
}

# Products of bf16; layer errors again from the files.
check_bf16() { # check_bf16 RANKS_OF_QUANTIZE RANKS_OF_VERIFY
  prepare mixtral
  grep -q ", bf16 on sm_" "$work/err" || { cat "$work/err"; fail "not in bf16"; }
  same_checkpoint "$1"
  local verify=(verify --model "$GOLDEN/mixtral" --checkpoint "$work/one" --tokens "$work/tokens" --backend cuda --threads 1 --json)
  must 1 "${verify[@]}"
  cp "$work/stdout" "$work/errors"
  must "$2" "${verify[@]}" "${share[@]}"
  cmp "$work/errors" "$work/stdout" || fail "verify differs on $2 ranks"
}
