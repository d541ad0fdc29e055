//! Networks whose shape alone matters: published architectures with random weights, written in code.
//!
//! What a network takes of memory, instructions and time follows from its shapes. Where its weights are not to be had, or
//! too large to ship, these say it. They recognize nothing.
//!
//! # Examples
//!
//! ```
//! use ingraft_models::tiny::Net;
//!
//! let compiled = Net::AnomalyDetection.quantized(1, &Default::default())?;
//! assert!(compiled.program.notes.float_nodes.is_empty());
//! # Ok::<(), ingraft_compile::CompileError>(())
//! ```

mod build;
#[cfg(test)]
mod tests;

use std::borrow::ToOwned;
use std::vec;
use std::vec::Vec;

use ingraft_compile::{CalibrateOptions, CompileError, CompileOptions, Compiled, compile};
use ingraft_tensor::{Rng, bytes};

use self::build::{Activation, Builder};

/// Inputs that ranges are measured on.
const SAMPLES: usize = 4;

/// A published architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// MLPerf Tiny's anomaly detector: an autoencoder of five spectra of 128 bands, 640-128×4-8-128×4-640 with ReLU
    /// (Banbury et al., 2021; batch normalizations folded).
    AnomalyDetection,
    /// MLPerf Tiny's visual wake words: MobileNetV1 of a quarter of its width, two classes, 96×96×3 (Chowdhery et al.,
    /// 2019; Howard et al., 2017).
    VisualWakeWords,
    /// EfficientNet-B0: inverted bottlenecks with squeeze-and-excitation and SiLU, 224×224×3 (Tan and Le, 2019; batch
    /// normalizations folded).
    EfficientNetB0,
}

impl Net {
    /// Every network.
    pub const ALL: [Self; 3] = [Self::AnomalyDetection, Self::VisualWakeWords, Self::EfficientNetB0];

    /// Name for commands and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnomalyDetection => "anomaly-detection",
            Self::VisualWakeWords => "visual-wake-words",
            Self::EfficientNetB0 => "efficientnet-b0",
        }
    }

    /// The network of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|net| net.name() == name)
    }

    /// Extents of its one input, in the order of ONNX.
    pub const fn input(self) -> &'static [usize] {
        match self {
            Self::AnomalyDetection => &[1, 640],
            Self::VisualWakeWords => &[1, 3, 96, 96],
            Self::EfficientNetB0 => &[1, 3, 224, 224],
        }
    }

    /// The network as an ONNX file of f32. The same seed gives the same bytes.
    pub fn onnx(self, seed: u64) -> Vec<u8> {
        let builder = Builder::new(self.name(), self.input(), seed);
        match self {
            Self::AnomalyDetection => anomaly_detection(builder),
            Self::VisualWakeWords => visual_wake_words(builder),
            Self::EfficientNetB0 => efficientnet_b0(builder),
        }
    }

    /// An input: f32 values in −1…1.
    pub fn sample(self, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        (0..self.input().iter().product::<usize>()).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()
    }

    /// The plan of [`Self::onnx`] in int8, with ranges measured on samples.
    ///
    /// # Errors
    /// [`CompileError`] for `options` that do not fit the network.
    pub fn quantized(self, seed: u64, options: &CompileOptions) -> Result<Compiled, CompileError> {
        let sample = |index| vec![(INPUT.to_owned(), bytes::of(&self.sample(seed + index)).to_vec())];
        let calibrate = CalibrateOptions {
            samples: (0..SAMPLES as u64).map(sample).collect(),
            ..CalibrateOptions::default()
        };
        let options = CompileOptions { calibrate: Some(calibrate), ..options.clone() };
        compile(&self.onnx(seed), &options)
    }
}

/// Name of every network's input.
const INPUT: &str = "input";

fn anomaly_detection(mut net: Builder) -> Vec<u8> {
    for width in [128, 128, 128, 128, 8, 128, 128, 128, 128] {
        net.linear(width);
        net.activate(Activation::Relu);
    }
    net.linear(640);
    net.finish()
}

fn visual_wake_words(mut net: Builder) -> Vec<u8> {
    net.conv(8, 3, 2);
    net.activate(Activation::Relu);
    let pairs = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)];
    let deep = [(128, 1); 5].into_iter().chain([(256, 2), (256, 1)]);
    for (channels, stride) in pairs.into_iter().chain(deep) {
        net.depthwise(3, stride);
        net.activate(Activation::Relu);
        net.conv(channels, 1, 1);
        net.activate(Activation::Relu);
    }
    net.average();
    net.linear(2);
    net.finish()
}

/// A stage of EfficientNet.
struct Stage {
    expansion: usize,
    channels: usize,
    blocks: usize,
    stride: usize,
    kernel: usize,
}

const fn stage(expansion: usize, channels: usize, blocks: usize, stride: usize, kernel: usize) -> Stage {
    Stage { expansion, channels, blocks, stride, kernel }
}

const STAGES: [Stage; 7] = [
    stage(1, 16, 1, 1, 3),
    stage(6, 24, 2, 2, 3),
    stage(6, 40, 2, 2, 5),
    stage(6, 80, 3, 2, 3),
    stage(6, 112, 3, 1, 5),
    stage(6, 192, 4, 2, 5),
    stage(6, 320, 1, 1, 3),
];

fn efficientnet_b0(mut net: Builder) -> Vec<u8> {
    net.conv(32, 3, 2);
    net.activate(Activation::Silu);
    for stage in &STAGES {
        for block in 0..stage.blocks {
            inverted_bottleneck(&mut net, stage, if block == 0 { stage.stride } else { 1 });
        }
    }
    net.conv(1280, 1, 1);
    net.activate(Activation::Silu);
    net.average();
    net.linear(1000);
    net.finish()
}

fn inverted_bottleneck(net: &mut Builder, stage: &Stage, stride: usize) {
    let (entry, channels) = (net.value().to_owned(), net.channels());
    if stage.expansion != 1 {
        net.conv(channels * stage.expansion, 1, 1);
        net.activate(Activation::Silu);
    }
    net.depthwise(stage.kernel, stride);
    net.activate(Activation::Silu);
    net.squeeze_and_excite((channels / 4).max(1));
    net.conv(stage.channels, 1, 1);
    if stride == 1 && channels == stage.channels {
        net.add(&entry);
    }
}
