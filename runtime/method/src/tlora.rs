//! TLoRA: transformed low-rank adaptation by tensor decomposition (Tao et al., 2025).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Node, Start, Tape};
use crate::lokr::factors;
use crate::oft::identity;
use crate::row::{Definition, FUSED, Family, Make, MethodRow, SettingRow, Settings, boxed};

/// Transforms the input and adds a residual, both as tensor rings: `W' = W·T + Δ`.
///
/// row is split into two modes n₁·n₂, the closest factors. T has cores `[ρ, n_k, n_k, ρ]`:
/// `T[(i₁, i₂), (j₁, j₂)] = trace(G₁[:, i₁, j₁, :]·G₂[:, i₂, j₂, :])`, which start as `δ_ij·I`, the first over ρ: T starts as the
/// identity. Δ has cores `[ρ_Δ, mode, ρ_Δ]` over the modes of out and of row, the last of which starts as zero. The paper
/// is known by its abstract; sides, cores and start are our reading. Tensors: `tlora_T0`, `tlora_T1`
/// `[ρ, n_k·n_k·ρ]`; `tlora_D0`…`D3` `[ρ_Δ, mode·ρ_Δ]`. Starts as the base.
/// Parameters: `ρ²·(n₁² + n₂²) + ρ_Δ²·(o₁ + o₂ + n₁ + n₂)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tlora {
    ring: u32,
    residual_ring: u32,
}

impl Tlora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        let ring = |name| settings.number(name, |ring| (1..=64).contains(ring));
        Ok(Self { ring: ring("ring")?, residual_ring: ring("residual_ring")? })
    }
}

/// Closes a ring: the sum over equal first and last of values `[ring, len, ring]`, as a column.
fn trace(x: Node<'_>, ring: usize, len: usize) -> Node<'_> {
    let diagonal = identity(x.tape(), ring, ring).reshape(ring * ring, 1);
    x.permute([1, ring, len, ring], [0, 2, 1, 3], ring * ring).matmul(diagonal)
}

impl Expression for Tlora {
    fn name(&self) -> &'static str {
        "tlora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("ring", Setting::Count(self.ring));
        visit("residual_ring", Setting::Count(self.residual_ring));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let w = tape.weight();
        let ([o1, o2], [n1, n2]) = (factors(w.rows()), factors(w.columns()));
        let ring = self.ring as usize;
        let core = |name, n: usize, scale: f64| {
            let start = tape.fixed(ring, n * n * ring, |values, _| {
                for (i, value) in values.iter_mut().enumerate() {
                    let [left, from, to, right] =
                        [i / (n * n * ring), i / (n * ring) % n, i / ring % n, i % ring];
                    *value = if left == right && from == to { scale } else { 0.0 };
                }
            });
            tape.steady_parameter(name, ring, n * n * ring, Start::Value(start))
        };
        let first = core("tlora_T0", n1, 1.0 / ring as f64).reshape(ring * n1 * n1, ring);
        let both = first.matmul(core("tlora_T1", n2, 1.0));
        let pairs = trace(both, ring, n1 * n1 * n2 * n2);
        let transform = pairs.permute([n1, n1, n2, n2], [0, 2, 1, 3], n1 * n2);
        let ring = self.residual_ring as usize;
        let modes = [("tlora_D0", o1), ("tlora_D1", o2), ("tlora_D2", n1), ("tlora_D3", n2)];
        let mut product: Option<Node<'t>> = None;
        for (k, (name, n)) in modes.into_iter().enumerate() {
            let start = if k == 3 { Start::ZERO } else { Start::Normal(1.0 / libm::sqrt(ring as f64)) };
            let core = tape.parameter(name, ring, n * ring, start);
            let next = product.map_or(core, |product| product.matmul(core));
            product = Some(next.reshape(next.rows() * n, ring));
        }
        let residual =
            product.map(|product| trace(product, ring, o1 * o2 * n1 * n2).reshape(o1 * o2, n1 * n2));
        let turned = w.matmul(transform);
        Ok(Form::weight(residual.map_or(turned, |residual| turned + residual)))
    }
}

/// `tlora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "tlora",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { name: "ring", default: "2", expected: "a whole number in 1..=64" },
        SettingRow { name: "residual_ring", default: "4", expected: "a whole number in 1..=64" },
    ],
    deploy: FUSED,
    source: "Transformed Low-rank Adaptation via Tensor Decomposition and Its Applications to Text-to-image Models (2025)",
    definition: Definition::Inferred,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Tlora::new(s))),
};
