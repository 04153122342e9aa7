#!/usr/bin/env bash
# The Debian package: made, installed into an empty root by dpkg itself, and run from there with two ranks. Exit code 77: this
# is no Debian system, or the package cannot be installed without root.
. "$(dirname "$0")/whole/common.sh"
: "${BUILD:?}"
for program in cpack dpkg dpkg-deb dpkg-shlibdeps; do
  command -v $program >/dev/null || { echo "skipped: there is no $program"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "skipped: only root can install packages"; exit 77; }

cpack --config "$BUILD/CPackConfig.cmake" -G DEB -B "$work/made" >"$work/cpack.log" 2>&1 || { cat "$work/cpack.log"; fail "cpack"; }
package=$(ls "$work"/made/*.deb)
depends=$(dpkg-deb -f "$package" Depends)
for library in libhdf5-openmpi libdnnl libopenblas libyaml libpcre2 libjansson libxxhash libopenmpi openmpi-bin; do
  [[ $depends == *$library* ]] || fail "the package does not depend on $library: $depends"
done

root=$work/root
mkdir -p "$root"/var/lib/dpkg/{info,updates}
: >"$root/var/lib/dpkg/status"
# what it depends on is on this system, not in that root
dpkg --root="$root" --force-depends --force-script-chrootless -i "$package" >"$work/dpkg.log" 2>&1 ||
  { cat "$work/dpkg.log"; fail "dpkg -i"; }
for file in bin/shardq share/shardq/tokenize.py share/shardq/slurm/quantize.sbatch share/shardq/configs/reference.yaml; do
  [ -e "$root/usr/$file" ] || fail "the package has no $file"
done
[ -x "$root/usr/share/shardq/slurm/check.sh" ] || fail "its scripts cannot be run"
! readelf -d "$root/usr/bin/shardq" | grep -E 'RPATH|RUNPATH' || fail "the program looks for libraries where it was built"

tokens "$work/tokens" 16 32 "$(vocabulary llama)" 7
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1)
run 2 "${job[@]}" --out "$work/built" || { cat "$work/err"; fail "the program that was built"; }
SHARDQ=$root/usr/bin/shardq
run 2 "${job[@]}" --out "$work/installed" || { cat "$work/err"; fail "the program that was installed"; }
same_folder "$work/built" "$work/installed"
"$SHARDQ" tokenize --help >"$work/help" 2>&1 || grep -q "No module named" "$work/help" || { cat "$work/help"; fail "tokenize"; }
