#!/usr/bin/env bash
# A disk that is full: one clear line, nothing half written, finished layers kept; with room again, --resume ends in the bytes
# of an undisturbed run. Exit code 77: a small file system cannot be mounted here.
. "$(dirname "$0")/common.sh"
disk=$work/disk
mkdir "$disk"
mount -t tmpfs -o size=64K none "$disk" 2>/dev/null || exit 77
trap 'umount "$disk"; cleanup' EXIT

resize() { mount -o "remount,size=$1" "$disk"; }
is_empty() { [ -z "$(ls -A "$disk")" ] || fail "left on the full disk:" "$(ls -A "$disk")"; }

tokens "$work/tokens" 64 32 "$(vocabulary llama)" 7
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1 --state-seconds 0)
run 2 "${job[@]}" --out "$work/whole" || { cat "$work/err"; fail "the undisturbed run"; }

# no room for the store, for the saved activations, for activations that do not fit the memory
expect 1 2 "${job[@]}" --out "$work/out" --store "$disk/store.h5"
expect_message "for $disk/store.h5.tmp: No space left on device"
is_empty
resize 256K
expect 1 2 "${job[@]}" --out "$work/out" --store "$disk/store.h5"
expect_message "for $disk/store.h5.state.tmp: No space left on device"
is_empty
expect 1 1 "${job[@]}" --out "$work/out" --store "$disk/store.h5" --memory "$(tight_memory "$GOLDEN/llama" 64 32)"
expect_message "for activations in $disk: No space left on device"
is_empty

# no room for the checkpoint: the store, elsewhere, is complete
resize 64K
expect 1 3 "${job[@]}" --out "$disk/out" --store "$work/store.h5"
expect_message "No space left on device"
is_empty
cmp "$work/whole.store.h5" "$work/store.h5" || fail "the store is not complete"
resize 4M
run 2 "${job[@]}" --out "$disk/out" --store "$work/store.h5" --resume || { cat "$work/err"; fail "resuming with room"; }
! grep -q '^block' "$work/err" || fail "finished layers were quantized again"
same_folder "$work/whole" "$disk/out"

# full while the job runs: its own room was reserved, only the checkpoint finds none; then there is room again
rm -rf "${disk:?}"/*
start_held 4 2 "${job[@]}" --out "$disk/out" # in its second block, with activations saved
dd if=/dev/zero of="$disk/rest" bs=4K 2>/dev/null || true
let_go
status=0
wait "$job_pid" || status=$?
[ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1"; }
expect_message "No space left on device"
[ "$(ls "$disk")" = "$(printf '%s\n' out.store.h5 out.store.h5.state rest)" ] || fail "on the full disk: $(ls "$disk")"
rm "$disk/rest"
run 3 "${job[@]}" --out "$disk/out" --resume || { cat "$work/err"; fail "resuming with room"; }
same_folder "$work/whole" "$disk/out"
cmp "$work/whole.store.h5" "$disk/out.store.h5" || fail "the store differs"

# no room for the log: a warning that is counted, whole lines, and the job goes on; with --strict it fails when all is done
rm -rf "${disk:?}"/* "$work/out" "$work/out".*
resize 64K
dd if=/dev/zero of="$disk/rest" bs=4K 2>/dev/null || true
truncate -s -4K "$disk/rest"
run 2 "${job[@]}" --out "$work/out" --log "$disk/log" || { cat "$work/err"; fail "a log without room"; }
[ "$(grep -c 'warning: .*cannot write to log file' "$work/err")" -eq 1 ] || { cat "$work/err"; fail "not one warning of the log"; }
grep -q "cannot write to log file $disk/log: No space left on device; it ends with the line before" "$work/err" || fail "no name"
grep -q '^  warnings  *1;' "$work/err" || { cat "$work/err"; fail "the summary does not count it"; }
python3 -c 'import json, sys; sys.exit(len([json.loads(line) for line in sys.stdin]) < 2)' <"$disk/log" || fail "no whole lines"
same_folder "$work/whole" "$work/out"
rm -rf "$work/out" "$work/out".* "$disk/log"
expect 1 2 "${job[@]}" --out "$work/out" --log "$disk/log" --strict
expect_message "--strict: log file $disk/log could not be written to its end"
same_folder "$work/whole" "$work/out"
