#!/usr/bin/env bash
# Builds the fuzzers and runs them, two at a time: tools/fuzz.sh BUILD_FOLDER PYTHON ARGUMENT...
# The arguments are libFuzzer's: -runs=5000000, or -max_total_time=30. What it finds is an
# input in BUILD_FOLDER: <codec>_fuzz FILE runs it again. ONLY="csr narrow" names codecs.
set -euo pipefail
build=$1 python=$2
shift 2
sources=$(cd "$(dirname "$0")/.." && pwd)

compiler=$(command -v clang++ || compgen -c clang++- | sort -V | tail -n 1 || true)
if [ -z "$compiler" ]; then
  echo 'no clang++, which the fuzzers need: on Debian, apt-get install clang' >&2
  exit 1
fi
cmake=$(dirname "$python")/cmake
[ -x "$cmake" ] || cmake=cmake
"$cmake" -S "$sources" -B "$build" -DEPMC_FUZZ=ON -DEPMC_CUDA=OFF \
  -DCMAKE_CXX_COMPILER="$compiler" -DPython_EXECUTABLE="$python" >/dev/null
"$cmake" --build "$build" --parallel 2 --target fuzzers >/dev/null

cd "$build"
fuzz() {
  local codec=$1
  shift
  mkdir -p "corpus/$codec"
  # New inputs go to the first folder; the second has the seeds. A fifth of the time went
  # into weighing which inputs are rare.
  "xla_ffi/${codec}_fuzz" -max_len=1024 -len_control=0 -entropic=0 \
    -artifact_prefix="$codec-" "$@" "corpus/$codec" "$sources/xla_ffi/fuzz/corpus/$codec" \
    >"$codec.log" 2>&1 \
    || { tail -n 40 "$codec.log"; echo "$codec: a finding, $build/$codec.log"; return 1; }
  echo "$codec: $(tail -n 1 "$codec.log")"
}
export -f fuzz
export build sources

for fuzzer in xla_ffi/*_fuzz; do
  codec=$(basename "$fuzzer" _fuzz)
  if [ -n "${ONLY:-}" ] && [[ " $ONLY " != *" $codec "* ]]; then continue; fi
  echo "$codec"
done | xargs -P 2 -I '{}' bash -euo pipefail -c 'fuzz {} "$@"' fuzz "$@"
