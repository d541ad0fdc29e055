//! Cross-layer equalization: the channels between two convolutions brought to one range.
//!
//! A factor per channel moves through what lies between two convolutions: W₁ and b₁ are divided by it and W₂ is
//! multiplied by it. With a ReLU in between, or nothing, the network computes what it computed before.
//!
//! Source: M. Nagel et al., *Data-Free Quantization Through Weight Equalization and Bias Correction*, 2019.

use ingraft_kernel::Host;

use super::CalibrateError;
use super::observe::{ChannelPeaks, Watch, observe};
use super::runs::Runs;
use crate::graph::{Diagonals, Graph, NodeId, Tensor, Uses, ValueId};
use crate::op::{Op, Unary};
use crate::quantize::Layer;

/// An equalized graph and the factors that went into its weights.
#[derive(Clone, Debug)]
pub(super) struct Equalized {
    pub(super) graph: Graph,
    pub(super) diagonals: Diagonals,
}

struct Pair {
    first: Layer,
    second: Layer,
    between: ValueId,
    limit: f64,
}

fn pairs(graph: &Graph) -> Vec<Pair> {
    let uses = Uses::of(graph);
    let mut out = vec![];
    let layer = |id: NodeId| {
        let Op::Conv(_) = graph[id].op else { return None };
        let l = Layer::of(graph, &uses, id).ok()?;
        graph.konst(l.weight)?;
        (uses.consumers(l.weight).len() == 1).then_some(l)
    };
    for id in graph.node_ids() {
        let Some(first) = layer(id) else { continue };
        let mut between = first.output;
        let mut limit = f64::INFINITY;
        let Some(mut next) = uses.only_consumer(between) else { continue };
        match graph[next].op {
            Op::Unary(Unary::Relu) => {}
            Op::Unary(Unary::Clip { min: 0.0, max }) => limit = max,
            Op::Conv(_) => {}
            _ => continue,
        }
        if !matches!(graph[next].op, Op::Conv(_)) {
            between = graph[next].outputs[0];
            let Some(n) = uses.only_consumer(between) else { continue };
            next = n;
        }
        let Some(second) = layer(next) else { continue };
        if second.input != between {
            continue;
        }
        let Op::Conv(c) = &graph[next].op else { continue };
        if c.groups != 1 && !second.depthwise {
            continue;
        }
        out.push(Pair { first, second, between, limit });
    }
    out
}

fn rows(graph: &Graph, l: &Layer) -> Vec<f64> {
    let t = graph.konst(l.weight).unwrap();
    let v = t.to_f32();
    v.chunks(v.len() / l.channels).map(|c| c.iter().fold(0.0f32, |m, w| m.max(w.abs())) as f64).collect()
}
fn columns(graph: &Graph, l: &Layer) -> Vec<f64> {
    if l.depthwise {
        return rows(graph, l);
    }
    let t = graph.konst(l.weight).unwrap();
    let s = t.shape();
    let taps: usize = s[2..].iter().product();
    let mut r = vec![0.0f64; s[1]];
    for (i, w) in t.to_f32().iter().enumerate() {
        let c = i / taps % s[1];
        r[c] = r[c].max(w.abs() as f64)
    }
    r
}

pub(super) fn equalize(
    graph: &Graph,
    diagonals: &Diagonals,
    runs: &Runs,
    target: &Host,
) -> Result<Equalized, CalibrateError> {
    let mode = std::env::var("EQ").unwrap_or_default();
    let mut graph = graph.clone();
    let mut pairs = pairs(&graph);
    let mut peaks = vec![ChannelPeaks::default(); pairs.len()];
    let mut watched: Vec<Watch<'_>> = vec![];
    for (p, k) in pairs.iter().zip(&mut peaks) {
        watched.push((p.between, k));
    }
    observe(&graph, runs, target, &mut watched)?;
    let f = |n: &str, d: f64| std::env::var(n).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
    let (alpha, least, margin) = (f("ALPHA", 0.5), f("LEAST", 1.0 / 16.0), f("MARGIN", 1.0));
    let mut touched = 0;
    let mut peaks: Vec<Vec<f64>> =
        peaks.into_iter().map(|p| p.0.into_iter().map(f64::from).collect()).collect();
    for _ in 0..10 {
        for (p, a) in pairs.iter_mut().zip(&mut peaks) {
            let (r1, r2) = (rows(&graph, &p.first), columns(&graph, &p.second));
            let s: Vec<f64> = match mode.as_str() {
                "v1" if p.limit.is_infinite() => r1
                    .iter()
                    .zip(&r2)
                    .map(|(a, b)| if *a > 0.0 && *b > 0.0 { (a / b).sqrt() } else { 1.0 })
                    .collect(),
                "v2" => {
                    let top =
                        if p.limit.is_infinite() { a.iter().copied().fold(0.0, f64::max) } else { p.limit };
                    if top == 0.0 {
                        continue;
                    }
                    let raw: Vec<f64> = if p.second.depthwise {
                        a.iter().map(|a| a / top).collect()
                    } else {
                        let r: Vec<f64> =
                            a.iter()
                                .zip(&r2)
                                .map(|(a, b)| {
                                    if *a > 0.0 && *b > 0.0 {
                                        a.powf(alpha) / b.powf(1.0 - alpha)
                                    } else {
                                        1.0
                                    }
                                })
                                .collect();
                        let norm = r
                            .iter()
                            .zip(a.iter())
                            .filter(|(_, a)| **a > 0.0)
                            .map(|(r, a)| a / r)
                            .fold(0.0, f64::max)
                            / top;
                        r.iter().map(|r| r * norm).collect()
                    };
                    raw.iter()
                        .zip(a.iter())
                        .map(|(s, a)| {
                            let floor = (margin * a / top).max(least);
                            if p.limit.is_finite() { s.max(floor).min(1.0) } else { s.max(least) }
                        })
                        .collect()
                }
                _ => continue,
            };
            touched += 1;
            // apply
            let t = graph.konst(p.first.weight).unwrap().clone();
            let n = t.elements() / p.first.channels;
            let v: Vec<f32> =
                t.to_f32().iter().enumerate().map(|(i, w)| (*w as f64 / s[i / n]) as f32).collect();
            graph.values[p.first.weight.index()].konst = Tensor::from_f32(t.shape(), &v);
            let b: Vec<f32> =
                p.first.biases(&graph).iter().zip(&s).map(|(b, s)| (*b as f64 / s) as f32).collect();
            let id = graph.add_constant("b", Tensor::from_f32(&[p.first.channels], &b).unwrap());
            let inputs = &mut graph.nodes[p.first.node.index()].inputs;
            inputs.truncate(2);
            inputs.push(Some(id));
            p.first.bias = Some(id);
            let t = graph.konst(p.second.weight).unwrap().clone();
            let sh = t.shape().to_vec();
            let taps: usize = sh[2..].iter().product();
            let dw = p.second.depthwise;
            let v: Vec<f32> = t
                .to_f32()
                .iter()
                .enumerate()
                .map(|(i, w)| (*w as f64 * if dw { s[i / taps] } else { s[i / taps % sh[1]] }) as f32)
                .collect();
            graph.values[p.second.weight.index()].konst = Tensor::from_f32(&sh, &v);
            for (a, s) in a.iter_mut().zip(&s) {
                *a /= s
            }
        }
    }
    println!(
        "pairs {} clipped {} touched {touched}",
        pairs.len(),
        pairs.iter().filter(|p| p.limit.is_finite()).count()
    );
    for (p, a) in pairs.iter().zip(&peaks).take(if std::env::var("SHOW").is_ok() { 99 } else { 0 }) {
        let mut v = a.clone();
        v.sort_by(f64::total_cmp);
        println!(
            "{} {} min {:.3} q25 {:.3} med {:.3} max {:.3} at limit {}",
            graph[p.between].name,
            p.second.depthwise,
            v[0],
            v[v.len() / 4],
            v[v.len() / 2],
            v[v.len() - 1],
            v.iter().filter(|x| **x >= p.limit * 0.999).count()
        );
    }
    Ok(Equalized { graph, diagonals: diagonals.clone() })
}
