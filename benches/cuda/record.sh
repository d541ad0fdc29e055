#!/usr/bin/env bash
# On the GPU machine: benches/cuda/record.sh OUT [PART ...] runs what the package of build.sh brought and leaves in OUT a log of
# each part and record.md with the tables. Parts: tests memcheck racecheck train pytorch coserve batch overlay infer; all without any. Each
# has SECONDS_EACH (300) at the most; one that fails or runs out of time is said so, and the others still run.
set -uo pipefail
cd "$(dirname "$0")/../.."

out=$1
shift
mkdir -p "$out"
out=$(cd "$out" && pwd)
parts=("$@")
[[ ${#parts[@]} -eq 0 ]] && parts=(tests memcheck racecheck train pytorch coserve batch overlay infer)
readonly out parts LIMIT=${SECONDS_EACH:-300}
export INGRAFT_DATA=$PWD/data INGRAFT_CUDA=required
readonly ONNX=$INGRAFT_DATA/models/onnx GOLDEN=$INGRAFT_DATA/models/golden
readonly TRAINED=("$ONNX/yamnet_audioset521_int8.onnx" "$ONNX/efficientnet_lite0_int8_qdq.onnx")

# limited PART COMMAND...: runs it, its output in the part's log.
limited() {
    local part=$1
    shift
    timeout "$LIMIT" "$@" > "$out/$part.log" 2>&1
    local status=$?
    [[ $status -eq 0 ]] || echo "**$part failed: status $status** (124: out of time)"
}

run() {
    case $1 in
        # Threads share the GPU: each test's result stands for itself.
        tests) limited tests ./cuda-test --nocapture ;;
        memcheck) limited memcheck compute-sanitizer --tool memcheck --report-api-errors no ./cuda-test --test-threads=1 \
            every_row lanes the_gpu_moves ;;
        racecheck) limited racecheck compute-sanitizer --tool racecheck ./cuda-test --test-threads=1 every_row ;;
        train) limited train ./cuda-bench --bench train "${TRAINED[@]}" ;;
        pytorch) limited pytorch python3 benches/cuda/pytorch_train.py \
            yamnet_audioset521_int8.pickle=embedding:8 efficientnet_lite0_int8_qdq.pickle=embedding:22 ;;
        coserve) limited coserve ./cuda-bench --bench coserve "${TRAINED[@]}" ;;
        batch | overlay) limited "$1" ./cuda-bench --bench "$1" "${TRAINED[@]}" ;;
        infer)
            local models=()
            for model in "$ONNX"/*.onnx; do
                models+=("$model=$GOLDEN/$(basename "$model" .onnx).npz")
            done
            limited infer ./cuda-bench --bench "${models[@]}"
            ;;
        *) echo "no part $1" >&2 ;;
    esac
}

{
    echo "# CUDA target, $(date +%F), commit $(cat commit)"
    echo
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem --format=csv,noheader 2> /dev/null
    for part in "${parts[@]}"; do
        echo
        echo "## $part"
        echo
        started=$SECONDS
        run "$part"
        case $part in
            tests) grep -E '^test result|cases of|losses|FAILED|panicked' "$out/tests.log" ;;
            memcheck | racecheck) grep -E 'ERROR SUMMARY|RACECHECK SUMMARY|^test result' "$out/$part.log" ;;
            *) grep -E '^(\||PyTorch|Info)' "$out/$part.log" ;;
        esac
        echo
        echo "$((SECONDS - started)) s"
    done
} | tee "$out/record.md"
