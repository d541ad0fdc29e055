//! VB-LoRA: low-rank factors out of one bank of vectors (Li et al., 2024).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Among, Expression, Form, Start, Tape};
use crate::melora::divides;
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count};

/// Every piece of both factors is a mixture of a few vectors of one bank that all sites share: `W' = W + B·A`, where a
/// piece of `vector_length` values is `Σ softmax(the topk largest logits)·bank`.
///
/// The bank starts uniform in ±0.02 and the logits normal with deviation 0.1, as HF PEFT has it: the adapter does not start
/// as the base. Which logits are kept is held constant in the gradient. Tensors: `vblora_vector_bank` `[vectors,
/// vector_length]`, the same at every site and in files once; `vblora_logits_A` `[r·row/vector_length, vectors]`,
/// `vblora_logits_B` `[out/vector_length·r, vectors]`. Parameters: `vectors·r·(out + row)/vector_length` for every site
/// and `vectors·vector_length` once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VbLora {
    rank: u32,
    vectors: u32,
    vector_length: u32,
    topk: u32,
}

impl VbLora {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<Self, MethodError> {
        Ok(Self {
            rank: settings.rank()?,
            vectors: settings.count("vectors")?,
            vector_length: settings.count("vector_length")?,
            topk: settings.count("topk")?,
        })
    }
}

impl Expression for VbLora {
    fn name(&self) -> &'static str {
        "vblora"
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        visit("rank", Setting::Count(self.rank));
        visit("vectors", Setting::Count(self.vectors));
        visit("vector_length", Setting::Count(self.vector_length));
        visit("topk", Setting::Count(self.topk));
    }

    fn detached(&self) -> &'static [&'static str] {
        &["which vectors are mixed"]
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row, rank) = (tape.site().out, tape.site().row(), self.rank as usize);
        let (vectors, length, kept) =
            (self.vectors as usize, self.vector_length as usize, self.topk as usize);
        let (wide, high) = (divides("vector_length", length, row)?, divides("vector_length", length, out)?);
        tape.share(Among::All);
        let bank = tape.parameter("vblora_vector_bank", vectors, length, Start::Uniform(0.02));
        let mixed = |name, pieces| {
            let logits = tape.steady_parameter(name, pieces, vectors, Start::Normal(0.1));
            (logits + logits.largest(kept).detach()).softmax().matmul(bank)
        };
        let down = mixed("vblora_logits_A", rank * wide).reshape(rank, row);
        // Pieces of B are columns' parts: [high, rank, length] becomes [high, length, rank].
        let up = mixed("vblora_logits_B", high * rank);
        let up = up.permute([high, rank, length, 1], [0, 2, 1, 3], rank);
        Ok(Form::two_factor(up, down))
    }
}

/// `vblora` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "vblora",
    family: Family::Reparameterized,
    settings: &[
        SettingRow { default: "4", ..RANK },
        count("vectors", "64"),
        count("vector_length", "16"),
        count("topk", "2"),
    ],
    deploy: TWO_FACTOR,
    source: "VB-LoRA: Extreme Parameter Efficient Fine-Tuning with Vector Banks (2024)",
    definition: Definition::Verified,
    starts_as_base: false,
    make: Make::Expression(|s| boxed(VbLora::new(s))),
};
