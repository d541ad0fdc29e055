//! Models, clips, pictures and arrays to feed.

use std::path::PathBuf;

use ingraft_compile::Tensor;
use ingraft_compile::onnx::proto::dimension_proto::Value as Dim;
use ingraft_compile::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use ingraft_dataset::Array;
use ingraft_dataset::npy::{from_npy_bytes, from_npz_bytes, to_npy_bytes, to_npz_bytes};
use ingraft_models::demo::synth::Sound;
use ingraft_models::demo::{BASE_F32, BASE_INT8, LABELS, PATCH_SAMPLES, SAMPLE_RATE};
use ingraft_tensor::DType;

use crate::process::Folder;

/// The development data, or `None` with a note where it is absent. In CI absence fails.
pub(crate) fn data() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let path = std::env::var_os("INGRAFT_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    if path.is_dir() {
        return Some(path.canonicalize().expect("the data has a path"));
    }
    assert!(std::env::var_os("CI").is_none(), "the development data is absent: {}", path.display());
    eprintln!("skipped: no data at {} (set INGRAFT_DATA)", path.display());
    None
}

/// The sounds that adapters learn here.
pub(crate) const SOUNDS: [Sound; 3] = [Sound::Normal, Sound::Siren, Sound::Beeper];

/// A clip of `sound`, `len` samples long.
pub(crate) fn clip(sound: Sound, seed: u64, len: usize) -> Vec<i16> {
    let mut samples = vec![0.0; len];
    sound.clip(seed, &mut samples);
    samples.iter().map(|sample| (sample * 32_767.0) as i16).collect()
}

/// Samples as raw PCM.
pub(crate) fn pcm(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Samples as a 16-bit mono WAV file.
pub(crate) fn wav(samples: &[i16]) -> Vec<u8> {
    let data = pcm(samples);
    let mut file = b"RIFF".to_vec();
    file.extend((36 + data.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend(SAMPLE_RATE.to_le_bytes());
    file.extend((2 * SAMPLE_RATE).to_le_bytes());
    file.extend(b"\x02\0\x10\0data");
    file.extend((data.len() as u32).to_le_bytes());
    file.extend(data);
    file
}

/// An 8-bit RGB picture.
pub(crate) fn picture(width: u32, height: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..width * height * 3).map(|i| (i * 37 % 251) as u8).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header can be written");
    writer.write_image_data(&pixels).expect("pixels can be written");
    writer.finish().expect("a picture can be written");
    file
}

/// Floats of this shape, in −1…1.
pub(crate) fn floats(shape: &[usize]) -> Array {
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| (i * 7 % 19) as f32 / 9.0 - 1.0).collect();
    Array::from_values(shape, &values).expect("the values fill the shape")
}

/// `array` as a `.npy` file.
pub(crate) fn npy(array: &Array) -> Vec<u8> {
    to_npy_bytes(array)
}

/// Arrays as an `.npz` file.
pub(crate) fn npz(arrays: &[(&str, &Array)]) -> Vec<u8> {
    let arrays: Vec<(String, Array)> =
        arrays.iter().map(|(name, array)| ((*name).to_owned(), (*array).clone())).collect();
    to_npz_bytes(&arrays).expect("an archive can be written")
}

/// The floats in a `.npy` file.
pub(crate) fn read_npy(bytes: &[u8]) -> (Vec<usize>, Vec<f32>) {
    let array = from_npy_bytes(bytes).expect("a result reads");
    (array.shape().to_vec(), array.to_f32().expect("results are floats"))
}

/// The arrays in an `.npz` file.
pub(crate) fn read_npz(bytes: &[u8]) -> Vec<(String, Array)> {
    from_npz_bytes(bytes).expect("a result reads")
}

/// A float model that applies a ReLU to an input of this shape.
pub(crate) fn relu(dims: &[Dim]) -> Vec<u8> {
    let node = NodeProto { name: "rectify".to_owned(), ..NodeProto::new("Relu", &["x"], &["y"]) };
    let graph = GraphProto::new("relu")
        .with_input("x", DType::F32, dims)
        .with_node(node)
        .with_output("y", DType::F32);
    ModelProto::new(13, graph).to_bytes()
}

/// A float model of a linear layer and an exponential, of two samples of four.
pub(crate) fn exponential() -> Vec<u8> {
    let weight: Vec<f32> = (0..12).map(|i| (i % 5) as f32 / 5.0 - 0.4).collect();
    let weight = Tensor::from_f32(&[4, 3], &weight).expect("the values fill the shape");
    let exponential = NodeProto { name: "exponential".to_owned(), ..NodeProto::new("Exp", &["z"], &["y"]) };
    let graph = GraphProto::new("exponential")
        .with_input("x", DType::F32, &[2.into(), 4.into()])
        .with_constant(TensorProto::new("w", &weight))
        .with_node(NodeProto::new("MatMul", &["x", "w"], &["z"]))
        .with_node(exponential)
        .with_output("y", DType::F32);
    ModelProto::new(13, graph).to_bytes()
}

/// Puts the built-in model (`base.onnx`, `base_f32.onnx`, `labels.txt`) and clips of [`SOUNDS`] into `folder`: in
/// `clips/` one folder per class, `count` of a second each, and `clip.wav`, one patch long.
pub(crate) fn lay_out(folder: &Folder, count: u64) {
    folder.write("base.onnx", BASE_INT8);
    folder.write("base_f32.onnx", BASE_F32);
    folder.write("labels.txt", LABELS.join("\n").as_bytes());
    for sound in SOUNDS {
        for seed in 0..count {
            let name = format!("clips/{}/{seed}.wav", sound.name());
            folder.write(name, &wav(&clip(sound, seed, SAMPLE_RATE as usize)));
        }
    }
    folder.write("clip.wav", &wav(&clip(Sound::Siren, 100, PATCH_SAMPLES)));
}
