//! Poly and MHR: skills mixed by task (Ponti et al., 2023; Page-Caccia et al., 2023).

use ingraft_train::{Setting, Unfit};

use crate::MethodError;
use crate::expression::{Expression, Form, Start, Tape};
use crate::melora::divides;
use crate::row::{Definition, Family, Make, MethodRow, RANK, SettingRow, Settings, TWO_FACTOR, boxed, count};

/// LoRA factors that a task mixes from S skills, split by split: `W' = W + (1/r)·B_t·A_t`.
///
/// Split h of A_t is `Σ_s α_hs·A_hs`, of B_t likewise; `α_hs = σ(Z_ths)/(Σ_s σ(Z_ths) + 10⁻¹²)` for task t's logits. Parameters
/// are mixed, not outputs. The published training draws σ from a relaxed Bernoulli distribution; here, as in the authors' later
/// code, it is the plain logistic. `poly` has one split; `mhr` several, which must divide out and row. Tensors
/// as in HF PEFT: `poly_lora_A` `[H, S, row/H, r]` as rows of r, `poly_lora_B` `[H, S, r, out/H]` as rows of out/H, and
/// `module_logits` `[tasks, H·S]`. For its task a plain pair of factors. Starts as the base.
/// Parameters: `S·r·(out + row) + tasks·H·S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Poly {
    name: &'static str,
    splits: u32,
    skills: u32,
    tasks: u32,
    task: u32,
    rank: u32,
}

impl Poly {
    fn new(name: &'static str, settings: &Settings<'_>) -> Result<Self, MethodError> {
        let tasks = settings.count("tasks")?;
        Ok(Self {
            name,
            splits: if name == "poly" { 1 } else { settings.count("splits")? },
            skills: settings.count("skills")?,
            tasks,
            task: settings.number("task", |task| *task < tasks)?,
            rank: settings.rank()?,
        })
    }
}

impl Expression for Poly {
    fn name(&self) -> &'static str {
        self.name
    }

    fn settings(&self, visit: &mut dyn FnMut(&'static str, Setting)) {
        if self.name != "poly" {
            visit("splits", Setting::Count(self.splits));
        }
        visit("skills", Setting::Count(self.skills));
        visit("tasks", Setting::Count(self.tasks));
        visit("task", Setting::Count(self.task));
        visit("rank", Setting::Count(self.rank));
    }

    fn express<'t>(&self, tape: &'t Tape<'t>) -> Result<Form<'t>, Unfit> {
        let (out, row) = (tape.site().out, tape.site().row());
        let (splits, skills, rank) = (self.splits as usize, self.skills as usize, self.rank as usize);
        let (wide, high) = (divides("splits", splits, row)?, divides("splits", splits, out)?);
        let a = tape.parameter("poly_lora_A", splits * skills * wide, rank, Start::kaiming(wide));
        let b = tape.parameter("poly_lora_B", splits * skills * rank, high, Start::ZERO);
        let logits = tape.steady_parameter(
            "module_logits",
            self.tasks as usize,
            splits * skills,
            Start::Uniform(1e-3),
        );
        let task = tape.fixed(1, 1, |rows, _| rows.fill(f64::from(self.task)));
        let ones = tape.fixed(skills, 1, |ones, _| ones.fill(1.0));
        let least = tape.fixed(1, 1, |value, _| value.fill(1e-12));
        let weights = logits.rows_at(task).sigmoid().reshape(splits, skills);
        let shares = weights.times((weights.matmul(ones) + least).reciprocal());
        // Row h is the mixture of the skills of split h.
        let mixed = |x: crate::expression::Node<'t>, len: usize| {
            shares.block_matmul(splits, x.reshape(splits * skills, len))
        };
        let down = mixed(a, wide * rank).reshape(row, rank).transpose();
        let up = mixed(b, rank * high).permute([1, splits, rank, high], [0, 1, 3, 2], rank);
        Ok(Form::two_factor(up * (1.0 / f64::from(self.rank)), down))
    }
}

const SKILLS: SettingRow = count("skills", "4");
const TASKS: SettingRow = count("tasks", "1");
const TASK: SettingRow = SettingRow { name: "task", default: "0", expected: "a whole number below tasks" };

/// `poly` as the list has it.
pub(crate) const ROW: MethodRow = MethodRow {
    name: "poly",
    family: Family::Reparameterized,
    settings: &[SKILLS, TASKS, TASK, RANK],
    deploy: TWO_FACTOR,
    source: "Combining Parameter-efficient Modules for Task-level Generalisation (2023)",
    definition: Definition::Verified,
    starts_as_base: true,
    make: Make::Expression(|s| boxed(Poly::new("poly", s))),
};

/// `mhr` as the list has it.
pub(crate) const MHR: MethodRow = MethodRow {
    name: "mhr",
    settings: &[count("splits", "2"), SKILLS, TASKS, TASK, RANK],
    source: "Multi-Head Adapter Routing for Cross-Task Generalization (2023)",
    make: Make::Expression(|s| boxed(Poly::new("mhr", s))),
    ..ROW
};
