#!/usr/bin/env bash
# On the board: ./record.sh > BOARD-DATE.md, a record for benches/record. ROUNDS (5) is how often each plan is measured,
# with all targets in turn; THREADS (1) how many threads share an inference.
set -euo pipefail
cd "$(dirname "$0")"

# What runs the command: nothing on a board, an emulator where the script itself is tried out.
read -ra ingraft <<< "${INGRAFT:-./ingraft}"
readonly ROUNDS=${ROUNDS:-5} THREADS=${THREADS:-1}

# field NAME: the number in a line of JSON of its own.
field() { sed -n "s/^ *\"$1\": \([0-9.]*\),\?$/\1/p"; }

# median: of the numbers on standard input.
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# targets: the names that `bench` takes on this processor, but the alias of the fastest, and a GPU's only where it has a driver.
targets() {
    "${ingraft[@]}" bench --help | sed -n 's/.*--target.*possible values: \([^]]*\)\].*/\1/p' | tr -d , |
        tr ' ' '\n' | grep -v '^native$' | while read -r name; do
        if [[ $name != cuda ]] || "${ingraft[@]}" bench "$(printf '%s\n' *.plan | head -n 1)" --target cuda > /dev/null 2>&1 < /dev/null; then
            echo "$name"
        fi
    done
}

board=$({ tr -d '\0' < /proc/device-tree/model; } 2> /dev/null || uname -m)
governor=$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2> /dev/null || echo unknown)
clock=$(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq 2> /dev/null || echo unknown)
mapfile -t names < <(targets)

echo "# $board, $(date +%F)"
echo
echo "\`./record.sh\` of benches/board: median of $ROUNDS medians in µs, $THREADS thread(s); commit $(cat commit)."
echo
echo "Linux $(uname -r), $(getconf _NPROCESSORS_ONLN) cores, governor $governor, at most $clock kHz,"
echo "C library $(getconf GNU_LIBC_VERSION 2> /dev/null || echo unknown)."
echo
printf '| model |'
printf ' %s |' "${names[@]}" 'bind ms' 'working memory MB'
printf '\n|%s\n' "$(printf ' --- |%.0s' $(seq $((${#names[@]} + 3))))"
for plan in *.plan; do
    declare -A times=()
    for ((round = 0; round < ROUNDS; round++)); do
        for name in "${names[@]}"; do
            report=$("${ingraft[@]}" bench "$plan" --target "$name" --threads "$THREADS" --json)
            times[$name]+="$(field median_us <<< "$report") "
        done
    done
    printf '| %s |' "${plan%.plan}"
    for name in "${names[@]}"; do
        printf ' %.0f |' "$(tr ' ' '\n' <<< "${times[$name]}" | grep . | median)"
    done
    # Bind and memory are those of the fastest: it is what a user gets.
    report=$("${ingraft[@]}" bench "$plan" --threads "$THREADS" --json)
    awk -v bind="$(field bind_us <<< "$report")" -v peak="$(field peak_bytes <<< "$report")" \
        'BEGIN { printf " %.1f | %.2f |\n", bind / 1e3, peak / 1e6 }'
done
