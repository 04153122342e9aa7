#!/usr/bin/env bash
# Mixtures of experts: the same bytes from 1, 2, 3, 4 and more ranks than experts, for each family, policy and way of
# propagation, with an expert that no token comes to; a job killed in the middle of a block's experts goes on with
# another number of ranks; few tokens are reported; both layouts of Mixtral give the same checkpoint.
. "$(dirname "$0")/common.sh"
export OMPI_MCA_btl_vader_backing_directory=$work # what a killed mpirun leaves goes with the rest

check() { # check SETTINGS MODEL OPTION...: each setting of ranks:threads against one rank with one thread
  local settings=$1 model=$2 setting
  shift 2
  tokens "$work/tokens" 9 14 104 1
  for setting in 1:1 $settings; do
    run "${setting%:*}" quantize --model "$GOLDEN/$model" --tokens "$work/tokens" --out "$work/$setting" \
      --store "$work/$setting.h5" --threads "${setting#*:}" "$@" || { cat "$work/err"; fail "$model on $setting: $*"; }
    cmp "$work/1:1.h5" "$work/$setting.h5" || fail "$model: another store from $setting ranks:threads: $*"
    same_folder "$work/1:1" "$work/$setting"
  done
  rm -rf "$work"/[0-9]*
}

check "2:2 3:1 4:1 8:1" qwen3_moe # 6 experts
grep -q 'block 1: no token came to expert 4; it is plainly rounded' "$work/err" || fail "expert 4 is not reported"
check "2:1 3:2 4:1 5:1" mixtral --propagation original
check "2:2 3:1 4:1 7:1" gpt_oss # 5 experts with biases
grep -q 'block 1: no token came to expert 4; it is plainly rounded' "$work/err" || fail "expert 4 of GPT-OSS is not reported"
check "2:1 3:2 4:1" gpt_oss_mxfp4 --experts top-up --expert-tokens 40 --skip 'experts\.(1|3\.up)'
check "2:2 3:1 4:1" deepseek_v2
check "2:1 3:1 4:2 13:1" deepseek_v3_fp8 --experts top-up --expert-tokens 40 # 12 experts
check "2:1 3:1 4:1 7:2" qwen2_moe --experts top-up --expert-tokens 60 --strict
grep -q 'calibrated with 60 to' "$work/err" || fail "the experts were not topped up to 60 tokens"
check "2:2 3:1 4:1" olmoe --experts all --compute fp32 --expert-tokens 100 --strict
grep -q 'calibrated with 126 to 126 tokens; 0 with fewer than' "$work/err" || { cat "$work/err"; fail "not all tokens"; }
check "2:1 3:1" olmoe --experts top-up --propagation original --expert-tokens 50 --solver rtn
check "2:1 5:1" mixtral_fused --format compressed-tensors --skip 'experts\.(1|3\.w3)'
check "3:1" qwen3_moe_fused --bits 3 --dequantized

# --- figures ---

job=(quantize --model "$GOLDEN/qwen3_moe" --tokens "$work/tokens" --threads 1)
expect 1 2 "${job[@]}" --out "$work/strict" --strict --log "$work/log"
expect_message "--strict: there were warnings: layers: "
grep -q "experts of few tokens: [0-9]*)" "$work/err" || { cat "$work/err"; fail "--strict does not name experts of few tokens"; }
grep -q '"name":"model.layers.0.mlp.experts.4.up_proj".*"tokens":0,"routed":0' "$work/log" || fail "no count of tokens in --log"
tail -n 1 "$work/log" | python3 -c 'import json, sys; e = json.load(sys.stdin)["experts"]; sys.exit(not (e["count"] == e["starved"] == 6 and
  e["fewest_tokens"] == 0 < e["most_tokens"]))' || { tail -n 1 "$work/log"; fail "no experts in --log"; }
[ "$(grep -c 'warning: .*block 1: .*expert' "$work/err")" -eq 6 ] || fail "not one warning for each expert"

# verify finds the errors that quantize reported, with the tokens that the experts were calibrated with; on any number of
# ranks the same
check_verify() { # check_verify FOLDER LOG: of qwen3_moe
  run 1 verify --model "$GOLDEN/qwen3_moe" --checkpoint "$1" --tokens "$work/tokens" --json >"$work/one"
  run 3 verify --model "$GOLDEN/qwen3_moe" --checkpoint "$1" --tokens "$work/tokens" --json >"$work/three"
  cmp "$work/one" "$work/three" || fail "verify differs on three ranks"
  python3 - "$work/one" "$2" <<'END' || fail "verify finds other errors: $1"
import json, sys
found = {layer["name"]: layer["error"] for layer in map(json.loads, open(sys.argv[1]))}
events = [json.loads(line) for line in open(sys.argv[2])]
wanted = {event["name"]: event["error"] for event in events if event["event"] == "layer"}
# both are sums of the same numbers in another order; an expert that no token came to has H = I in both
sys.exit(found.keys() != wanted.keys() or any(abs(found[name] - wanted[name]) > 1e-4 * wanted[name] for name in wanted))
END
}
check_verify "$work/strict" "$work/log"
run 2 "${job[@]}" --out "$work/topped" --experts top-up --expert-tokens 60 --log "$work/log2" || { cat "$work/err"; fail "top-up"; }
check_verify "$work/topped" "$work/log2"
figures() { # figures RANKS: of the checkpoint, against the original
  run "$1" eval --model "$work/strict" --tokens "$work/tokens" --against "$GOLDEN/qwen3_moe" --json | sed 's/,"compute".*//'
}
[ "$(figures 2)" = "$(figures 4)" ] || fail "eval differs on four ranks"

# --- layouts of Mixtral: one checkpoint, under the names of published ones ---

tokens "$work/tokens" 9 14 104 1
tokens "$work/eval" 3 14 104 2
layout="$(dirname "$0")/layout.py"
python3 "$layout" "$GOLDEN/mixtral" "$work/fused" fused

alone() { "$SHARDQ" "$@" --threads 1 2>"$work/err" || { cat "$work/err" >&2; fail "$*"; }; }
figures_of() { alone eval --model "$1" --tokens "$work/eval" --compute fp32 --json | sed 's/,"compute".*//'; }

write_both() { # write_both OPTION...: $work/each and $work/whole, from one tensor for each expert and from fused ones
  rm -rf "$work"/each* "$work"/whole*
  alone quantize --model "$GOLDEN/mixtral" --tokens "$work/tokens" --out "$work/each" "$@" >"$work/stdout"
  alone quantize --model "$work/fused" --tokens "$work/tokens" --out "$work/whole" "$@" >"$work/stdout"
  rm "$work/each/shardq.json" "$work/whole/shardq.json" # they name the source
}

rule=(--skip 'experts\.(1|3\.w3)') # so that settings name single experts
for form in --dequantized --format=compressed-tensors --format=gptq; do
  write_both "$form" "${rule[@]}"
  same_folder "$work/each" "$work/whole"
  grep -q 'layers.1.block_sparse_moe.gate.weight' "$work/whole/model.safetensors" || fail "$form: no router of that name"
  grep -q 'layers.0.block_sparse_moe.experts.3.w3.weight' "$work/whole/model.safetensors" || fail "$form: no expert of that name"
  [ -n "$(figures_of "$work/whole")" ] || fail "$form: no figures"
done
grep -q 'block_sparse_moe.*experts.*3.*w3' "$work/whole/config.json" || fail "the kept expert is not named in config.json"
[ "$(figures_of "$GOLDEN/mixtral")" = "$(figures_of "$work/fused")" ] || fail "fused experts give other figures"
python3 "$layout" "$work/whole" "$work/renamed" renamed
for settings in config.json quantize_config.json; do
  sed 's/block_sparse_moe/mlp/g; s/w3/up_proj/g' "$work/whole/$settings" >"$work/renamed/$settings"
done
[ "$(figures_of "$work/whole")" = "$(figures_of "$work/renamed")" ] || fail "the other names give other figures"

# --- inputs of all experts that are too large: it is said once ---

cp -r "$GOLDEN/mixtral" "$work/huge"
tokens "$work/tokens" 16 16 104 7
run 2 quantize --model "$work/huge" --tokens "$work/tokens" --threads 1 --out "$work/usual" || { cat "$work/err"; fail "before"; }
for folder in huge usual; do
  poke "$work/$folder/model.safetensors" model.layers.0.post_attention_layernorm.weight '\0000\0142' # 2^69
done
for ranks in 1 3 6; do
  expect 1 $ranks quantize --model "$work/huge" --tokens "$work/tokens" --threads 1 --out "$work/none"
  expect_message "the inputs of model.layers.0.block_sparse_moe.experts.0.w1 are too large: their Hessian is not finite"
  rm -rf "$work/none"*
  expect 1 $ranks verify --model "$work/huge" --checkpoint "$work/usual" --tokens "$work/tokens" --threads 1
  expect_message "the inputs of model.layers.0.block_sparse_moe.experts.0.w1 are too large: their Hessian is not finite"
done

# --- killed among the experts of a block ---

tokens "$work/tokens" 384 64 104 7
job=(quantize --model "$GOLDEN/olmoe" --tokens "$work/tokens" --threads 1)
in_store() { sed -n 's/.*(\([0-9]*\) in the store).*/\1/p' "$work/err"; }

# kill_at RANKS FLUSH: starts or goes on with the job, and kills its ranks where they mark layers for that time: those before it
# are in the store. A block has 22 layers.
kill_at() {
  start_held "$2" "$1" "${job[@]}" --propagation "$mode" --out "$work/resumed" --resume
  { kill -9 "${pids[@]}"; wait "$job_pid" || true; } 2>/dev/null
  starts="$starts $(in_store)"
}

declare -A wanted=([quantized]=" 0 10 13" [original]=" 0 6 9")
for mode in quantized original; do
  run 2 "${job[@]}" --propagation "$mode" --out "$work/$mode" || { cat "$work/err"; fail "the undisturbed run"; }
  starts=""
  kill_at 2 2
  kill_at 3 2
  run 4 "${job[@]}" --propagation "$mode" --out "$work/resumed" --resume || { cat "$work/err"; fail "the resumed run"; }
  starts="$starts $(in_store)"
  echo "$mode: layers in the store at each start:$starts"
  [ "$starts" = "${wanted[$mode]}" ] || fail "$mode: instead of those in the middle of a block:${wanted[$mode]}"
  cmp "$work/$mode.store.h5" "$work/resumed.store.h5" || fail "$mode: the store differs"
  same_folder "$work/$mode" "$work/resumed"
  rm -rf "$work/resumed"*
done
echo "experts: the same bytes on any number of ranks, also after kills in the middle of a block"
