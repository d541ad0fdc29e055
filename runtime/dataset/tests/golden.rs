//! Agreement with NumPy, Pillow and scikit-learn, whose files `golden/generate.py` wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ingraft_dataset::baseline::{FitOptions, LogisticRegression};
use ingraft_dataset::image::{Filter, from_jpeg, from_png};
use ingraft_dataset::npy::from_npz_bytes;
use ingraft_dataset::{Array, Image, read_image, read_npz};
use ingraft_tensor::DType;

fn path(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

fn arrays(name: &str) -> BTreeMap<String, Array> {
    read_npz(&path(name)).unwrap().into_iter().collect()
}

/// A stored picture (H, W, 3).
fn picture(array: &Array) -> Image {
    Image::new(array.shape()[1], array.shape()[0], array.bytes().to_vec()).unwrap()
}

#[test]
fn archives_of_numpy_are_read() {
    let stored = arrays("stored.npz");
    assert_eq!(stored, arrays("deflated.npz"));
    let reference = stored["int64"].to_vec::<i64>().unwrap();
    assert_eq!(stored["int64"].shape(), [2, 3, 4]);
    for (name, dtype) in [
        ("float16", DType::F16),
        ("float32", DType::F32),
        ("float64", DType::F32),
        ("int8", DType::I8),
        ("uint8", DType::U8),
        ("int16", DType::I16),
        ("int32", DType::I32),
        ("int64", DType::I64),
        ("bool", DType::Bool),
    ] {
        assert_eq!((stored[name].dtype(), stored[name].shape()), (dtype, &[2, 3, 4][..]), "{name}");
    }
    assert_eq!(reference.len(), 24);
    assert_eq!(stored["fortran"], stored["int16"]);
    assert_eq!(stored["big_endian"], stored["int32"]);
    assert_eq!((stored["scalar"].shape(), stored["scalar"].to_f32().unwrap()), (&[][..], vec![2.5]));
    assert_eq!(stored["empty"].shape(), [0, 3]);
    assert_eq!(stored["ramp"].to_vec::<i32>().unwrap(), (0..2000).collect::<Vec<_>>());
}

#[test]
fn truncated_archives_of_numpy_never_panic() {
    for name in ["stored.npz", "deflated.npz"] {
        let bytes = std::fs::read(path(name)).unwrap();
        for cut in 0..bytes.len() {
            assert!(from_npz_bytes(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
        for at in (0..bytes.len()).step_by(3) {
            let mut broken = bytes.clone();
            broken[at] ^= 0xa5;
            let _ = from_npz_bytes(&broken);
        }
    }
}

#[test]
fn pictures_decode_as_in_pillow() {
    let golden = arrays("pictures.npz");
    for name in ["rgb.png", "rgba.png", "gray.png", "palette.png"] {
        assert_eq!(read_image(&path(name)).unwrap(), picture(&golden[&format!("decoded_{name}")]), "{name}");
    }
    // Decoders of JPEG may round differently and interpolate chroma in their own way.
    for (name, mean_bound) in [("baseline.jpg", 0.5), ("progressive.jpg", 0.05)] {
        let (ours, theirs) = (read_image(&path(name)).unwrap(), picture(&golden[&format!("decoded_{name}")]));
        assert_eq!((ours.width(), ours.height()), (theirs.width(), theirs.height()));
        let differences = ours.rgb().iter().zip(theirs.rgb()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / theirs.rgb().len() as f64;
        assert!(mean < mean_bound, "{name} differs by {mean} on average");
    }
}

#[test]
fn truncated_pictures_never_panic() {
    for name in ["rgb.png", "palette.png", "baseline.jpg", "progressive.jpg"] {
        let bytes = std::fs::read(path(name)).unwrap();
        let decode = |bytes: &[u8]| if name.ends_with("png") { from_png(bytes) } else { from_jpeg(bytes) };
        assert!(decode(&bytes).is_ok());
        for cut in 0..bytes.len() {
            let _ = decode(&bytes[..cut]);
        }
        assert!(decode(&bytes[..bytes.len() / 4]).is_err(), "{name}");
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x81;
            let _ = decode(&broken);
        }
    }
}

#[test]
fn resizing_equals_pillow_to_the_bit() {
    let golden = arrays("pictures.npz");
    let source = read_image(&path("rgb.png")).unwrap();
    let mut compared = 0;
    for (name, array) in &golden {
        let filter = match name.split('_').next() {
            Some("bilinear") => Filter::Bilinear,
            Some("bicubic") => Filter::Bicubic,
            _ => continue,
        };
        let expected = picture(array);
        assert_eq!(source.resize(expected.width(), expected.height(), filter), expected, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn fitting_covers_and_crops_the_center() {
    let source = read_image(&path("rgb.png")).unwrap();
    let fitted = source.fit(20, 20, Filter::Bilinear);
    assert_eq!(fitted, source.resize(53 * 20 / 37, 20, Filter::Bilinear).center_crop(20, 20));
    let tall = source.fit(10, 40, Filter::Bicubic);
    assert_eq!((tall.width(), tall.height()), (10, 40));
    let crop = source.center_crop(1, 1);
    assert_eq!(crop.rgb(), &source.rgb()[(18 * 53 + 26) * 3..][..3]);
    assert_eq!(source.center_crop(99, 99), source);
}

#[test]
fn logistic_regression_equals_scikit_learn() {
    let golden = arrays("logistic_regression.npz");
    let features = golden["features"].to_f32().unwrap();
    let labels: Vec<usize> =
        golden["labels"].to_vec::<i64>().unwrap().into_iter().map(|l| l as usize).collect();
    for l2 in ["0.1", "1.0", "10.0"] {
        let options = FitOptions { l2: l2.parse().unwrap(), ..FitOptions::default() };
        let fitted = LogisticRegression::fit(&features, 12, &labels, 4, &options).unwrap();
        let (weights, _) = fitted.folded();
        let expected = golden[&format!("weights_{l2}")].to_f32().unwrap();
        for (ours, theirs) in weights.iter().zip(&expected) {
            assert!((ours - f64::from(*theirs)).abs() < 2e-6, "l2 {l2}: weight {ours} for {theirs}");
        }
        let expected = golden[&format!("probabilities_{l2}")].to_f32().unwrap();
        let probabilities = features.chunks_exact(12).flat_map(|row| fitted.probabilities(row));
        for (ours, theirs) in probabilities.zip(&expected) {
            assert!((ours - f64::from(*theirs)).abs() < 2e-6, "l2 {l2}: probability {ours} for {theirs}");
        }
    }
}
