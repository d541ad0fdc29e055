//! Writes the synthetic clips as recordings, one folder per class: a data set for `ingraft train --data`.
//!
//! ```text
//! cargo run --release -p ingraft-models --example synthesize -- DIR [CLIPS_PER_CLASS] [FIRST_SEED]
//! ```

use core::error::Error;
use std::path::Path;
use std::{env, fs};

use ingraft_models::demo::SAMPLE_RATE;
use ingraft_models::demo::synth::Task;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().ok_or("usage: synthesize DIR [CLIPS_PER_CLASS=40] [FIRST_SEED=0]")?;
    let clips: u64 = arguments.next().map_or(Ok(40), |text| text.parse())?;
    let first: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let mut samples = vec![0.0; 2 * SAMPLE_RATE as usize];
    for task in Task::ALL {
        for sound in task.sounds() {
            let class = Path::new(&folder).join(task.name()).join(sound.name());
            fs::create_dir_all(&class)?;
            for seed in first..first + clips {
                sound.clip(seed, &mut samples);
                fs::write(class.join(format!("{seed:04}.wav")), wav(&samples))?;
            }
        }
    }
    Ok(())
}

/// Mono 16-bit PCM.
fn wav(samples: &[f32]) -> Vec<u8> {
    let data = 2 * samples.len() as u32;
    let mut file = Vec::with_capacity(44 + data as usize);
    file.extend(b"RIFF");
    file.extend((36 + data).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    for field in [1_u16, 1] {
        file.extend(field.to_le_bytes());
    }
    file.extend(SAMPLE_RATE.to_le_bytes());
    file.extend((2 * SAMPLE_RATE).to_le_bytes());
    for field in [2_u16, 16] {
        file.extend(field.to_le_bytes());
    }
    file.extend(b"data");
    file.extend(data.to_le_bytes());
    for sample in samples {
        file.extend(((sample * 32_767.0).round() as i16).to_le_bytes());
    }
    file
}
