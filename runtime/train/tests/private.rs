//! Differentially private sums: what they are made of, and what they give away (`private.py`).

use ingraft_tensor::Rng;
use ingraft_train::private::{
    Entropy, NoEntropy, PrivateSum, SampledGaussian, bounded_norm, gaussian, uniform,
};

/// Bytes that can be drawn again: for tests alone.
struct Seeded(Rng);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        bytes.chunks_mut(8).for_each(|chunk| {
            let drawn = self.0.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        });
        Ok(())
    }
}

/// A generator that gives so many bytes and then none.
struct Drained(usize);

impl Entropy for Drained {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(NoEntropy)?;
        bytes.fill(0x5a);
        Ok(())
    }
}

#[test]
fn the_accountant_agrees_with_integrals() {
    for line in include_str!("golden/private.csv").lines().skip(1) {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let [rate, noise, steps, delta, expected] = fields[..] else { panic!("{line}") };
        let spent = SampledGaussian { rate, noise, steps: steps as u32 }.epsilon(delta);
        assert!((spent / expected - 1.0).abs() < 1e-5, "{line}: {spent}");
    }
}

/// Tutorials of TensorFlow Privacy and Opacus: 60 epochs of MNIST by 256 of 60 000 with noise 1.1 are said to spend
/// ε = 2.92 at δ = 10⁻⁵ by the older conversion, ln(1/δ)/(α−1); the newer one is never above.
#[test]
fn the_accountant_is_no_worse_than_published() {
    let spent = SampledGaussian { rate: 256.0 / 60_000.0, noise: 1.1, steps: 14_063 }.epsilon(1e-5);
    assert!(spent < 2.92 && spent > 2.5, "{spent}");
}

#[test]
fn more_noise_fewer_steps_and_rarer_units_give_less_away() {
    let base = SampledGaussian { rate: 0.2, noise: 1.5, steps: 50 };
    let spent = |mechanism: SampledGaussian| mechanism.epsilon(1e-5);
    let at = spent(base);
    assert!(spent(SampledGaussian { noise: 1.6, ..base }) < at);
    assert!(spent(SampledGaussian { steps: 40, ..base }) < at);
    assert!(spent(SampledGaussian { rate: 0.15, ..base }) < at);
    assert!(base.epsilon(1e-6) > at);
    // Taking every unit is the limit of taking almost every one.
    let loud = SampledGaussian { noise: 8.0, ..base };
    let (all, most) = (SampledGaussian { rate: 1.0, ..loud }, SampledGaussian { rate: 1.0 - 1e-9, ..loud });
    assert!((spent(most) / spent(all) - 1.0).abs() < 0.01);
    for nonsense in [
        SampledGaussian { noise: 0.0, ..base },
        SampledGaussian { noise: f64::NAN, ..base },
        SampledGaussian { rate: 1.5, ..base },
        SampledGaussian { rate: f64::NAN, ..base },
    ] {
        assert_eq!(spent(nonsense), f64::INFINITY);
    }
    assert_eq!(base.epsilon(0.0), f64::INFINITY);
}

#[test]
fn noise_is_found_for_an_epsilon() {
    for (rate, steps, epsilon, delta) in
        [(0.25, 240, 8.0, 1e-4), (1.0, 40, 8.0, 3e-4), (0.01, 1000, 1.0, 1e-6), (0.5, 20, 50.0, 3e-4)]
    {
        let noise = SampledGaussian::noise_for(rate, steps, epsilon, delta).unwrap();
        let spent = SampledGaussian { rate, noise, steps }.epsilon(delta);
        let less = SampledGaussian { rate, noise: noise * (1.0 - 1e-5), steps }.epsilon(delta);
        assert!(spent <= epsilon && less > epsilon, "{spent} {less}");
    }
    assert_eq!(SampledGaussian::noise_for(1.0, 1000, 1e-9, 1e-9), None);
}

/// Whatever one unit is, the sum with it and without it are no further apart than the bound.
#[test]
fn one_unit_moves_the_sum_by_no_more_than_the_bound() {
    let mut rng = Rng::new(3);
    for trial in 0..300 {
        let width = 1 + rng.below(40);
        let bound = rng.uniform(0.01, 5.0);
        let units: Vec<Vec<f32>> = (0..1 + rng.below(6))
            .map(|_| {
                let size = libm::exp(rng.uniform(-20.0, 40.0));
                (0..width).map(|_| (rng.uniform(-1.0, 1.0) * size) as f32).collect()
            })
            .collect();
        let sum_of = |units: &mut dyn Iterator<Item = &Vec<f32>>| {
            let mut memory = vec![f64::NAN; width];
            let mut sum = PrivateSum::new(&mut memory, bound);
            units.for_each(|unit| sum.add(unit));
            memory
        };
        let all = sum_of(&mut units.iter());
        for left_out in 0..units.len() {
            let rest = sum_of(&mut units.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, u)| u));
            let apart: f64 = all.iter().zip(&rest).map(|(a, b)| (a - b) * (a - b)).sum();
            assert!(apart.sqrt() <= bound * (1.0 + 1e-12), "trial {trial}: {} of {bound}", apart.sqrt());
            let own = bounded_norm(&units[left_out], bound);
            assert!((apart.sqrt() - own).abs() <= 1e-9 * bound, "trial {trial}");
        }
    }
}

#[test]
fn what_is_not_finite_adds_nothing_and_is_not_told() {
    let mut memory = [0.0; 3];
    let mut sum = PrivateSum::new(&mut memory, 1.0);
    for unit in [[f32::NAN, 0.0, 1.0], [f32::INFINITY, 0.0, 0.0], [0.0, f32::NEG_INFINITY, f32::NAN]] {
        sum.add(&unit);
        assert_eq!(bounded_norm(&unit, 1.0), 0.0);
    }
    sum.add(&[1.0]);
    sum.add(&[3e38, 3e38, 3e38]);
    assert!(memory.iter().all(|value| (value - 1.0 / 3f64.sqrt()).abs() < 1e-9), "{memory:?}");
}

#[test]
fn noise_is_normal_and_of_the_size_said() {
    let mut entropy = Seeded(Rng::new(5));
    let (bound, noise, expected) = (2.0, 3.0, 7.0);
    let mut memory = vec![0.0; 50_000];
    let mut sum = PrivateSum::new(&mut memory, bound);
    sum.add(&[1.0; 50_000]);
    let mut out = vec![0.0; 50_000];
    sum.release(noise, expected, &mut entropy, &mut out).unwrap();
    let moment = |power: i32, mean: f64| {
        out.iter().map(|v| (f64::from(*v) - mean).powi(power)).sum::<f64>() / out.len() as f64
    };
    let mean = moment(1, 0.0);
    let deviation = moment(2, mean).sqrt();
    let said = noise * bound / expected;
    // The unit's own share is its length, 2, over all values: 0.0013 each.
    assert!(mean.abs() < 4.0 * said / 50_000f64.sqrt() + 0.002, "{mean}");
    assert!((deviation / said - 1.0).abs() < 0.02, "{deviation} {said}");
    assert!(moment(3, mean).abs() / said.powi(3) < 0.06);
    assert!((moment(4, mean) / said.powi(4) - 3.0).abs() < 0.15);
    // Shares of one, two and three deviations.
    for (reach, share) in [(1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)] {
        let inside = out.iter().filter(|v| (f64::from(**v) - mean).abs() < reach * said).count();
        assert!((inside as f64 / 50_000.0 - share).abs() < 0.01, "{reach}");
    }
    // It began anew: what follows is noise alone.
    let sum: f64 = {
        let mut next = vec![0.0; 50_000];
        sum.release(1e-9, 1.0, &mut entropy, &mut next).unwrap();
        next.iter().map(|v| f64::from(*v).abs()).sum()
    };
    assert!(sum < 1e-3, "{sum}");
}

#[test]
fn units_are_taken_as_often_as_said() {
    let mut entropy = Seeded(Rng::new(6));
    let taken = (0..40_000).filter(|_| uniform(&mut entropy).unwrap() < 0.3).count();
    assert!((taken as f64 / 40_000.0 - 0.3).abs() < 0.01, "{taken}");
    assert!((0..1000).all(|_| (0.0..1.0).contains(&uniform(&mut entropy).unwrap())));
    assert!((0..1000).all(|_| gaussian(&mut entropy).unwrap().is_finite()));
}

/// Without randomness nothing is released, and nothing is lost.
#[test]
fn without_entropy_nothing_is_released() {
    let mut memory = [0.0; 4];
    let mut sum = PrivateSum::new(&mut memory, 1.0);
    sum.add(&[0.5; 4]);
    let mut out = [9.0; 4];
    assert_eq!(sum.release(1.0, 1.0, &mut Drained(2 * 32), &mut out), Err(NoEntropy));
    assert_eq!(out, [0.0; 4]);
    assert_eq!(memory, [0.5; 4]);
}
