//! `tract-peer MODEL.onnx SECONDS INPUT...`: loads a model in tract, runs it on one thread for so long, and prints the median
//! and what loading took, in microseconds, as JSON.
//!
//! An input is `f32|i64|i8:EXTENTxEXTENT...:FILE`, in the model's order; the file holds the little-endian values.

use std::fs;
use std::time::{Duration, Instant};

use tract_onnx::prelude::*;

/// Share of the time spent before measuring.
const WARM_UP: f64 = 0.1;
/// Least measured runs.
const LEAST: usize = 10;

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, seconds, inputs @ ..] = arguments.as_slice() else {
        bail!("usage: tract-peer MODEL.onnx SECONDS TYPE:EXTENTS:FILE...");
    };
    let (seconds, inputs) = (
        seconds.parse::<f64>()?,
        inputs.iter().map(|input| read(input)).collect::<TractResult<TVec<Tensor>>>()?,
    );
    let start = Instant::now();
    let mut graph = onnx().model_for_path(model)?;
    for (index, input) in inputs.iter().enumerate() {
        graph.set_input_fact(index, InferenceFact::dt_shape(input.datum_type(), input.shape()))?;
    }
    let plan = graph.into_optimized()?.into_runnable()?;
    let load = start.elapsed();
    let values: TVec<TValue> = inputs.into_iter().map(TValue::from).collect();
    let mut times = Vec::new();
    for budget in [seconds * WARM_UP, seconds] {
        times.clear();
        let end = Instant::now() + Duration::from_secs_f64(budget);
        while Instant::now() < end || times.len() < LEAST {
            let start = Instant::now();
            plan.run(values.clone())?;
            times.push(start.elapsed());
        }
    }
    times.sort();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{{\"median_us\": {:.3}, \"load_us\": {:.1}}}", micros(times[times.len() / 2]), micros(load));
    Ok(())
}

/// The tensor that an argument names.
fn read(argument: &str) -> TractResult<Tensor> {
    let mut parts = argument.splitn(3, ':');
    let (Some(kind), Some(extents), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("{argument}: not TYPE:EXTENTS:FILE");
    };
    let extents: Vec<usize> =
        extents.split('x').filter(|extent| !extent.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    let bytes = fs::read(path)?;
    match kind {
        "f32" => Tensor::from_shape(&extents, &words(&bytes, f32::from_le_bytes)),
        "i64" => Tensor::from_shape(&extents, &words(&bytes, i64::from_le_bytes)),
        "i8" => Tensor::from_shape(&extents, &words(&bytes, i8::from_le_bytes)),
        _ => bail!("{kind}: an unknown type"),
    }
}

fn words<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|word| from(*word)).collect()
}
