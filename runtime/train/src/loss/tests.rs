use super::*;

const SOFT: Loss = Loss::CrossEntropy { smoothing: 0.1 };
const TAUGHT: Loss = Loss::Distillation { temperature: 2.5, share: 0.7 };
const NEAR: Loss = Loss::Contrastive { temperature: 0.4 };

const VALUES: [f32; 4] = [0.1, 0.6, 0.3, 0.0];
const TEACHER: [f32; 4] = [1.0, -0.5, 2.0, 0.7];
const KEYS: [f32; 12] = [1.0, 0.2, 0.3, -0.4, -0.6, 0.9, 1.4, 0.1, 0.0, -1.0, 0.5, 2.0];

/// Every loss with every truth it takes.
const CASES: [(Loss, Truth<'_>); 11] = [
    (Loss::CrossEntropy { smoothing: 0.0 }, Truth::Class(1)),
    (Loss::CrossEntropy { smoothing: 0.0 }, Truth::Values(&VALUES)),
    (SOFT, Truth::Class(1)),
    (SOFT, Truth::Values(&VALUES)),
    (Loss::BinaryCrossEntropy, Truth::Class(1)),
    (Loss::BinaryCrossEntropy, Truth::Values(&VALUES)),
    (Loss::MeanSquaredError, Truth::Class(1)),
    (Loss::MeanSquaredError, Truth::Values(&VALUES)),
    (TAUGHT, Truth::Taught { class: 2, teacher: &TEACHER }),
    (NEAR, Truth::Keys { keys: &KEYS, positive: 0 }),
    (NEAR, Truth::Keys { keys: &KEYS, positive: 2 }),
];

#[test]
fn gradients_match_finite_differences() {
    let logits = [0.3f32, -1.2, 2.5, 0.0];
    for (loss, truth) in CASES {
        let mut grad = [0.0f32; 4];
        loss.evaluate(&logits, truth, &mut grad).unwrap();
        for (i, slope) in grad.iter().enumerate() {
            let at = |offset: f32| {
                let mut moved = logits;
                moved[i] += offset;
                f64::from(loss.evaluate(&moved, truth, &mut [0.0; 4]).unwrap())
            };
            let difference = (at(0.01) - at(-0.01)) / 0.02;
            assert!(
                (f64::from(*slope) - difference).abs() < 2e-4,
                "{loss:?} {truth:?} {i}: {slope} {difference}"
            );
        }
    }
}

/// Values worked out by hand.
#[test]
fn values_are_those_of_the_definitions() {
    let value = |loss: Loss, logits: &[f32], truth| loss.evaluate(logits, truth, &mut [0.0; 2]).unwrap();
    // Equal logits, T = 1: ln 2 for the class, KL((3/4, 1/4) ‖ (1/2, 1/2)) = ln 2 − H(1/4) for the teacher.
    let teacher = [3f32.ln(), 0.0];
    let loss = Loss::Distillation { temperature: 1.0, share: 0.25 };
    let entropy = -(0.75 * 0.75f32.ln() + 0.25 * 0.25f32.ln());
    let want = 0.75 * 2f32.ln() + 0.25 * (2f32.ln() - entropy);
    let got = value(loss, &[0.4, 0.4], Truth::Taught { class: 0, teacher: &teacher });
    assert!((got - want).abs() < 1e-6, "{got} {want}");
    // Whoever says what the teacher says, at any temperature, has lost nothing to it.
    let loss = Loss::Distillation { temperature: 3.0, share: 1.0 };
    let got = value(loss, &[1.5, -0.5], Truth::Taught { class: 1, teacher: &[1.5, -0.5] });
    assert!(got.abs() < 1e-6, "{got}");
    // Cosines 1 and 0, T = 1: ln(1 + e⁻¹), whatever the lengths.
    let got = value(
        Loss::Contrastive { temperature: 1.0 },
        &[0.0, 7.0],
        Truth::Keys { keys: &[0.0, 0.1, 30.0, 0.0], positive: 0 },
    );
    assert!((got - (1.0 + (-1f32).exp()).ln()).abs() < 1e-6, "{got}");
}

#[test]
fn extreme_logits_stay_finite() {
    for (loss, truth) in [
        (Loss::CrossEntropy { smoothing: 0.0 }, Truth::Class(1)),
        (SOFT, Truth::Class(1)),
        (Loss::BinaryCrossEntropy, Truth::Class(1)),
        (TAUGHT, Truth::Taught { class: 1, teacher: &TEACHER[..3] }),
        (NEAR, Truth::Keys { keys: &KEYS[..6], positive: 1 }),
    ] {
        let extreme = if matches!(loss, Loss::Contrastive { .. }) { 1e15 } else { 1e30 };
        for logits in [[extreme, -extreme, 0.0], [0.0; 3]] {
            let mut grad = [0.0f32; 3];
            let value = loss.evaluate(&logits, truth, &mut grad).unwrap();
            assert!(value.is_finite() && grad.iter().all(|g| g.is_finite()), "{loss:?}");
        }
    }
}

#[test]
fn refuses_a_truth_that_does_not_fit() {
    let (loss, keys) = (Loss::CrossEntropy { smoothing: 0.0 }, &KEYS);
    let refused = |loss: Loss, logits: &[f32], truth, grad: usize| {
        assert_eq!(loss.evaluate(logits, truth, &mut [0.0; 8][..grad]), None, "{loss:?} {truth:?}");
    };
    refused(loss, &[0.0; 3], Truth::Class(3), 3);
    refused(loss, &[0.0; 3], Truth::Values(&[0.0; 2]), 3);
    refused(loss, &[0.0; 3], Truth::Class(0), 2);
    refused(loss, &[], Truth::Values(&[]), 0);
    refused(loss, &[0.0; 4], Truth::Taught { class: 0, teacher: &TEACHER }, 4);
    refused(loss, &[0.0; 4], Truth::Keys { keys, positive: 0 }, 4);
    refused(TAUGHT, &[0.0; 4], Truth::Class(0), 4);
    refused(TAUGHT, &[0.0; 4], Truth::Taught { class: 4, teacher: &TEACHER }, 4);
    refused(TAUGHT, &[0.0; 4], Truth::Taught { class: 0, teacher: &TEACHER[1..] }, 4);
    refused(NEAR, &[0.0; 4], Truth::Values(&VALUES), 4);
    refused(NEAR, &[0.0; 4], Truth::Keys { keys, positive: 3 }, 4);
    refused(NEAR, &[0.0; 5], Truth::Keys { keys, positive: 0 }, 5);
}
