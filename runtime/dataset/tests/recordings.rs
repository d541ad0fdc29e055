//! Recordings: agreement with libsndfile, hostile files, and the development data.

use std::path::{Path, PathBuf};

use ingraft_dataset::audio::{from_wav, read_clip};
use ingraft_dataset::{Clip, Dataset, read_npz};

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).join(name)
}

/// The largest difference between our reading of `name` and libsndfile's, over the samples both have.
fn difference(name: &str) -> (Clip, f32) {
    let reference =
        read_npz(&golden("recordings.npz")).unwrap().into_iter().find(|(entry, _)| entry == name).unwrap();
    let reference = reference.1.to_f32().unwrap();
    let clip = read_clip(&golden(name)).unwrap();
    assert!(clip.samples.len() >= reference.len(), "{name}: {} samples", clip.samples.len());
    let differences = clip.samples.iter().zip(&reference).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    (clip, largest)
}

#[test]
fn wav_files_read_as_in_libsndfile() {
    for name in ["u8.wav", "s16.wav", "s24.wav", "s32.wav", "f32.wav"] {
        let (clip, largest) = difference(name);
        assert_eq!((clip.rate, clip.samples.len()), (16_000, 1600), "{name}");
        assert!(largest <= f32::EPSILON / 4.0, "{name} differs by {largest}");
    }
}

#[test]
fn truncated_wav_files_never_panic() {
    for name in ["u8.wav", "s24.wav", "f32.wav"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        for cut in (0..200).chain([bytes.len() / 2, bytes.len() - 1]) {
            let clip = from_wav(&bytes[..cut.min(bytes.len())]);
            assert!(cut >= bytes.len() || clip.is_err(), "{name} cut at {cut}");
        }
        for at in 0..120 {
            for value in [0, 1, 3, 0x7f, 0xfe, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                let _ = from_wav(&broken[..]);
            }
        }
    }
}

#[cfg(feature = "media")]
#[test]
fn compressed_recordings_are_read() {
    // The decoders differ in rounding, and in whether they trim MP3's padding.
    let (clip, largest) = difference("s16.flac");
    assert_eq!((clip.rate, clip.samples.len()), (16_000, 1600));
    assert!(largest <= f32::EPSILON, "{largest}");
    let (clip, largest) = difference("vorbis.ogg");
    assert!(clip.rate == 16_000 && largest < 1e-4, "{largest}");
    let (clip, largest) = difference("layer3.mp3");
    assert!(clip.rate == 16_000 && largest < 1e-3, "{largest}");
}

#[cfg(feature = "media")]
#[test]
fn truncated_compressed_recordings_never_panic() {
    let cut_file = std::env::temp_dir().join(format!("ingraft-recordings-{}", std::process::id()));
    for name in ["s16.flac", "vorbis.ogg", "layer3.mp3"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        let path = cut_file.with_extension(name.rsplit_once('.').unwrap().1);
        for cut in (0..bytes.len()).step_by(7) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let _ = read_clip(&path);
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[cfg(not(feature = "media"))]
#[test]
fn compressed_recordings_name_the_feature_they_need() {
    let refusal = read_clip(&golden("s16.flac")).unwrap_err().to_string();
    assert!(refusal.contains("`media`"), "{refusal}");
}

#[test]
fn development_recordings_have_the_lengths_their_cards_state() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var_os("INGRAFT_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if !data.exists() {
        assert!(std::env::var_os("CI").is_none(), "no data in {}; set INGRAFT_DATA", data.display());
        println!("skipped: no data in {}; set INGRAFT_DATA", data.display());
        return;
    }
    for (name, clips, seconds) in [("esc10_cc0", 98, 5), ("uav_detect", 59, 10), ("uav_motor_prop", 66, 2)] {
        let dataset = Dataset::open(&data.join("audio").join(name)).unwrap();
        assert_eq!(dataset.items().len(), clips);
        for item in (0..clips).step_by(7) {
            let samples = dataset.audio(item, 16_000).unwrap();
            // The polyphase filter that made uav_detect left one sample more.
            assert!(samples.len().abs_diff(seconds * 16_000) <= 1, "{}", dataset.items()[item].path);
            assert!(
                samples.iter().any(|sample| *sample != 0.0)
                    && samples.iter().all(|s| (-1.0..=1.0).contains(s))
            );
        }
    }
    let digits = Dataset::open(&data.join("audio/spoken_digits")).unwrap();
    assert_eq!((digits.items().len(), digits.classes().len()), (1000, 10));
    for item in (0..1000).step_by(97) {
        let own = digits.audio(item, 8_000).unwrap();
        let doubled = digits.audio(item, 16_000).unwrap();
        assert_eq!(doubled.len(), 2 * own.len());
        // Interpolation to twice the rate leaves the energy per second as it was, but for the band edge.
        let power =
            |samples: &[f32]| samples.iter().map(|s| f64::from(s * s)).sum::<f64>() / samples.len() as f64;
        let ratio = power(&doubled) / power(&own);
        assert!((0.9..=1.01).contains(&ratio), "{}: {ratio}", digits.items()[item].path);
    }
}
