#!/usr/bin/env bash
# A folder includes only itself and what stands below it. Exit code 1 and one line for each include that breaks this.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A may=(
  [src/base]="base" [src/tensor]="base tensor" [src/tensor/kernels]="base tensor" [src/config]="base tensor config" [src/help]="base help"
  [mpi]="base tensor mpi" [cuda]="base tensor mpi cuda" [cuda/kernels]="base tensor cuda" [io]="base tensor config mpi io" [src/model]="base tensor config mpi io model"
  [src/gptq]="base tensor config mpi io cuda model gptq"
  [src/report]="base tensor config mpi io model gptq report"
)
bad=0 seen=0
for folder in "${!may[@]}"; do
  while IFS=: read -r file line include; do
    seen=$((seen + 1))
    target=${include#*\"} target=${target%%/*}
    case " ${may[$folder]} " in
      *" $target "*) ;;
      *) echo "$file:$line: $folder may not include from $target/" && bad=1 ;;
    esac
  done < <(grep -nE '^#include "[a-z_]+/' "$folder"/*.[ch]* /dev/null)
done
[ "$seen" -gt 100 ] || { echo "only $seen includes were found: the check itself is broken" && exit 1; }
exit $bad
