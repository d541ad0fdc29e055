//! Real inputs: windows of photographs, recordings and their log-mel patches.

use std::path::Path;

use ingraft::signal::Recipe;
use ingraft_dataset::{Dataset, Filter, Image, read_image};
use ingraft_models::demo::SAMPLE_RATE;

/// Inputs to calibrate with, and others to compare on.
pub(crate) struct Samples {
    pub(crate) calibration: Vec<Vec<u8>>,
    pub(crate) test: Vec<Vec<u8>>,
}

impl Samples {
    /// The first `calibration` of `inputs` to calibrate with, the others to compare on.
    fn split(inputs: Vec<Vec<u8>>, calibration: usize) -> Self {
        let (calibration, test) = inputs.split_at(calibration);
        Self { calibration: calibration.to_vec(), test: test.to_vec() }
    }
}

/// How a window of a photograph becomes an input.
pub(crate) struct Frame {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) to_bytes: fn(&Image) -> Vec<u8>,
}

/// Windows of the photographs, as many as `counts` says to calibrate with and to compare on.
pub(crate) fn windows(data: &Path, frame: &Frame, counts: [usize; 2]) -> Samples {
    let photographs = ["chelsea", "coffee"].map(|name| {
        read_image(&data.join(format!("images/natural_224/{name}.png"))).expect("the photograph reads")
    });
    let take = |index: usize| {
        let photograph = &photographs[index % 2];
        // Steps that share no factor with the ranges reach all of them.
        let side = 72 + index * 37 % 150;
        let room = photograph.width() - side;
        let (left, top) = (index * 53 % (room + 1), index * 91 % (room + 1));
        let rows = photograph.rgb().chunks_exact(photograph.width() * 3).skip(top).take(side);
        let rgb = rows.flat_map(|row| row[left * 3..(left + side) * 3].to_vec()).collect();
        let window = Image::new(side, side, rgb).expect("the window lies inside");
        (frame.to_bytes)(&window.fit(frame.width, frame.height, Filter::Bilinear))
    };
    Samples::split((0..counts[0] + counts[1]).map(take).collect(), counts[0])
}

/// Channels first, (value − 127)/128.
pub(crate) fn planes(image: &Image) -> Vec<u8> {
    let channel = |c: usize| image.rgb().iter().skip(c).step_by(3).map(|v| (f32::from(*v) - 127.0) / 128.0);
    (0..3).flat_map(channel).flat_map(f32::to_le_bytes).collect()
}

/// Channels last, 0 to 255.
pub(crate) fn pixels(image: &Image) -> Vec<u8> {
    image.rgb().iter().flat_map(|v| f32::from(*v).to_le_bytes()).collect()
}

/// Log-mel patches of the recordings, two of each; those of every fourth recording to calibrate with.
pub(crate) fn patches(data: &Path) -> Samples {
    let recipe = Recipe::preset("yamnet", &[96, 64]).expect("the preset exists");
    let mut memory = vec![0.0; recipe.memory_len()];
    let mut patch = vec![0.0; recipe.out_len()];
    let mut samples = Samples { calibration: Vec::new(), test: Vec::new() };
    for folder in ["esc10_cc0", "uav_detect"] {
        let recordings = Dataset::open(&data.join("audio").join(folder)).expect("the folder reads");
        for index in 0..recordings.items().len() {
            let clip = recordings.audio(index, SAMPLE_RATE).expect("the recording reads");
            for window in recipe.cut(&clip).take(2) {
                recipe.patch(window, &mut memory, &mut patch).expect("the patch has its length");
                let side = if index % 4 == 0 { &mut samples.calibration } else { &mut samples.test };
                side.push(bytes(&patch));
            }
        }
    }
    samples
}

/// Spoken digits, a second of each, padded with silence, drawn evenly over all recordings.
pub(crate) fn utterances(data: &Path, counts: [usize; 2]) -> Samples {
    let recordings = Dataset::open(&data.join("audio/spoken_digits")).expect("the folder reads");
    let all = recordings.items().len();
    let take = |index: usize| {
        let mut clip = recordings.audio(index * 37 % all, SAMPLE_RATE).expect("the recording reads");
        clip.resize(SAMPLE_RATE as usize, 0.0);
        bytes(&clip)
    };
    Samples::split((0..counts[0] + counts[1]).map(take).collect(), counts[0])
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
