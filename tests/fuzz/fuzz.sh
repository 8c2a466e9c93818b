#!/bin/sh
# One target of libFuzzer. What it has found is said last, the input with it: of a long log, what is
# kept is often only the end.
#
#     sh tests/fuzz/fuzz.sh TARGET SECONDS
#
# What is new goes into build/fuzz, not into the corpus: that is chosen by hand.
set -u
target=$1 seconds=$2
into=build/fuzz/$target log=build/fuzz/$target.log found=build/fuzz/$target.found
mkdir -p "$into" && rm -f "$found"
if ASAN_OPTIONS=print_legend=0 "build/fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" \
    -max_len=512 -len_control=0 -verbosity=0 -print_final_stats=1 -exact_artifact_path="$found" \
    "$into" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    echo "fuzz_$target"
    tail -n 5 "$log"
    exit 0
fi
tail -n 200 "$log"
echo "fuzz_$target has found an input that fails, here with where:"
grep -E '^[a-z_]+\.c:[0-9]+: |ERROR: |^ +#[0-9] ' "$log" | head -n 12
test ! -f "$found" || base64 "$found"
exit 255
