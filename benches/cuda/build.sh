#!/usr/bin/env bash
# What a GPU machine needs for a record, in target/gpu/ingraft-gpu.tar.xz: benches/cuda/build.sh [MODEL ...]
#
# Tests, benches and data go along; nothing is built there, and nothing is fetched. Without MODELs those below are taken. Needs
# cargo, python3 and the development data (INGRAFT_DATA, or ../shared/data beside the repository); where python3 has `onnx`, the
# networks that PyTorch is measured with go along too.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly BUILT=${CARGO_TARGET_DIR:-$PWD/target} PYTHON=${PYTHON:-python3}
readonly DATA=${INGRAFT_DATA:-../shared/data}
models=("$@")
if [[ ${#models[@]} -eq 0 ]]; then
    models=(mlperf_tiny_kws_dscnn_int8 mlperf_tiny_kws_dscnn_weightonly_int8 mlperf_tiny_ic_resnet8_int8
        mlperf_tiny_ic_resnet8_f32 yamnet_audioset521_int8 efficientnet_lite0_int8_qdq kwt1_12labels_f32
        ppocr_textline_cls_mobilenetv3_f32)
fi
readonly models

# binary NAME: the executable that cargo built for test or bench NAME.
binary() {
    cargo test --release --test cuda --bench cuda --no-run --message-format=json 2> /dev/null |
        "$PYTHON" -c '
import json, sys
kind = sys.argv[1]
found = [json.loads(line) for line in sys.stdin if "compiler-artifact" in line]
print(next(a["executable"] for a in found if a["executable"] and a["target"]["kind"] == [kind] and a["target"]["name"] == "cuda"))
' "$1"
}

cargo test --release --test cuda --bench cuda --no-run
package=$BUILT/gpu/ingraft-gpu
rm -rf "$package"
mkdir -p "$package/data/models/onnx" "$package/data/models/golden" "$package/benches/peers" "$package/benches/cuda"
for kind in test bench; do
    cp "$(binary "$kind")" "$package/cuda-$kind"
    strip "$package/cuda-$kind"
done
cp benches/cuda/{record.sh,pytorch.py,pytorch_train.py} "$package/benches/cuda"
cp benches/peers/{graph,network}.py "$package/benches/peers"
git describe --always --dirty > "$package/commit"
for model in "${models[@]}"; do
    cp "$DATA/models/onnx/$model.onnx" "$package/data/models/onnx"
    cp "$DATA/models/golden/$model.npz" "$package/data/models/golden"
    chmod u+w "$package/data/models"/*/"$model".*
done
if "$PYTHON" -c 'import onnx' 2> /dev/null; then
    for model in yamnet_audioset521_int8 efficientnet_lite0_int8_qdq; do
        "$PYTHON" benches/peers/graph.py "$DATA/models/onnx/$model.onnx" "$package/$model.pickle"
    done
fi
tar -C "$BUILT/gpu" -cJf "$package.tar.xz" ingraft-gpu
echo "$package.tar.xz: copy it to the GPU machine, unpack it, run benches/cuda/record.sh OUT and put what stands in OUT into benches/record"
