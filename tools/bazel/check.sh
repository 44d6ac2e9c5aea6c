#!/usr/bin/env bash
# Builds the native libraries and runs their tests with Bazel, without a network: stubs in
# offline/ stand for the rules that Bazel would download.
#
# PYTHON names the interpreter whose jaxlib has the XLA FFI headers.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v bazel >/dev/null; then
  echo 'bazel is missing: on Debian, apt install bazel-bootstrap' >&2
  exit 1
fi

overrides=()
for repository in rules_cc rules_java remote_coverage_tools; do
  overrides+=("--override_repository=$repository=$PWD/tools/bazel/offline/$repository")
done

mkdir -p build
exec bazel --batch test "${overrides[@]}" \
  --symlink_prefix=build/bazel- --jobs=2 --noshow_progress --test_output=errors \
  //xla_ffi:all
