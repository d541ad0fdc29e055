#!/usr/bin/env bash
# What a 64-bit Arm board needs for its record, in target/board/ingraft-board.tar.gz: benches/board/build.sh
#
# The command is what `binary` makes: for glibc 2.31 on. Needs cargo, python3 with venv, git and readelf.
# The models are compiled here, from the development data (INGRAFT_DATA, or ../shared/data beside the repository).
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly BUILT=${CARGO_TARGET_DIR:-$PWD/target}
readonly DATA=${INGRAFT_DATA:-../shared/data}/models
# Each with the options of `compile`: a dimension that a model does not have is an error.
readonly MODELS=(
    "mlperf_tiny_kws_dscnn_int8 --dim N=1"
    "mlperf_tiny_ic_resnet8_int8 --dim N=1"
    "yamnet_audioset521_int8 --dim N=1"
    "efficientnet_lite0_int8_qdq --dim N=1"
    "minilm_l6_int8_dynamic --dim B=1 --dim L=128"
    "mlperf_tiny_ic_resnet8_f32 --float --dim N=1"
    "efficientnet_lite0_f32 --float --dim N=1"
    "kwt1_12labels_f32 --float"
)

mkdir -p "$BUILT/board"
OUT=$(cd "$BUILT/board" && pwd)
readonly OUT
binary=$(benches/board/binary --release)
cargo build --release -p ingraft-cli

package=$OUT/ingraft-board
rm -rf "$package"
mkdir -p "$package"
cp "$binary" benches/board/record.sh "$package"
git describe --always --dirty > "$package/commit"
for model in "${MODELS[@]}"; do
    read -r name options <<< "$model"
    # shellcheck disable=SC2086 # Options are words.
    "$BUILT/release/ingraft" compile "$DATA/onnx/$name.onnx" -o "$package/$name.plan" \
        --allow-float $options > /dev/null
done
tar -C "$OUT" -czf "$package.tar.gz" ingraft-board
echo "$package.tar.gz: copy it to the board, unpack it, run ./record.sh and put what it prints into benches/record"
