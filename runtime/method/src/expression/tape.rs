//! The tape: values in the order they were said, in memory of the caller.

mod row_norms;

use core::cell::RefCell;
use core::ops::Range;

use ingraft_kernel::SiteDesc;
use ingraft_tensor::Rng;
use ingraft_train::{FrozenSite, Latent, LatentGradients, LatentHolder, LatentTensor};

use super::start::normal;
use super::svd::{self, Svd};
use super::word::{Matrix, Shape, Word};
use super::{Node, Start};
use crate::place::in_kernel;

/// Records an expression while it is evaluated, at one site.
///
/// Without a weight it only counts what an evaluation needs. With one, every value
/// is computed when it is said, and [`Self::backward`] goes back over them.
#[derive(Debug)]
pub(crate) struct Tape<'m> {
    site: SiteDesc<'m>,
    state: RefCell<State<'m>>,
}

/// What an expression needs, or has used so far: numbers of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(super) values: usize,
    pub(super) gradients: usize,
    pub(super) constants: usize,
    pub(super) decaying: usize,
    pub(super) steady: usize,
    /// With whom the last two are shared, as in [`ingraft_train::LatentLayout`].
    pub(super) shared: [u64; 2],
}

/// The sites that hold a parameter in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// All that the method adapts.
    All,
    /// Those whose weight has this shape.
    Shape,
}

#[derive(Debug, Default)]
struct State<'m> {
    entries: Entries,
    used: Needs,
    weight: Option<usize>,
    /// Whether a word did not fit its operands, or there were more than [`MAX_ENTRIES`].
    faulty: bool,
    /// Whether what starts as zero is drawn instead.
    draws_zeros: bool,
    memory: Option<Memory<'m>>,
}

#[derive(Debug)]
struct Memory<'m> {
    site: FrozenSite<'m>,
    latent: Latent<'m>,
    gradients: &'m mut [f64],
    /// Present while parameters and constants are set for the first time.
    rng: Option<&'m mut Rng>,
    /// Whether terms were computed of the same parameters before.
    goes_back: bool,
}

#[derive(Debug)]
struct Entries {
    list: [Entry; MAX_ENTRIES],
    len: usize,
}

impl Default for Entries {
    fn default() -> Self {
        Self { list: [Entry::NONE; MAX_ENTRIES], len: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    shape: Shape,
    /// Where its value begins; the word's memory follows it.
    first: usize,
    /// Where its gradient begins; `None` when nothing trained lies below it.
    gradient: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Set once; its value lies among the constants.
    Constant { name: &'static str },
    /// The frozen weight, or what is read off it.
    Weight,
    /// Trained, at this place of its vector.
    Parameter { name: &'static str, decays: bool, first: usize },
    /// Said of one or two earlier entries.
    Word { word: Word, x: [usize; 2] },
}

impl Entry {
    const NONE: Self = Self { kind: Kind::Weight, shape: Shape::new(0, 0), first: 0, gradient: None };
}

impl<'m> Tape<'m> {
    /// A tape that counts.
    pub(crate) fn counting(site: SiteDesc<'m>) -> Self {
        Self { site, state: RefCell::default() }
    }

    /// A tape that evaluates in memory that holds `needs`; with `rng` it sets constants and parameters first.
    pub(super) fn evaluating(
        site: FrozenSite<'m>,
        latent: Latent<'m>,
        needs: Needs,
        rng: Option<&'m mut Rng>,
    ) -> Option<Self> {
        let Latent { decaying, steady, constants, workspace } = latent;
        let (values, gradients) = workspace.split_at_mut_checked(needs.values)?;
        let gradients = gradients.get_mut(..needs.gradients)?;
        let latent = Latent { decaying, steady, constants, workspace: values };
        let memory = Memory { site, latent, gradients, rng, goes_back: false };
        Some(Self {
            site: site.desc,
            state: RefCell::new(State { memory: Some(memory), ..State::default() }),
        })
    }

    /// The same, behind terms of the same parameters: what was kept of them is not computed again.
    pub(super) fn going_back(mut self) -> Self {
        self.state.get_mut().memory.iter_mut().for_each(|memory| memory.goes_back = true);
        self
    }

    /// The site.
    pub(crate) fn site(&self) -> &SiteDesc<'m> {
        &self.site
    }

    /// What was needed so far; `None` when a word did not fit its operands.
    pub(super) fn needs(&self) -> Option<Needs> {
        let state = self.state.borrow();
        (!state.faulty).then_some(state.used)
    }

    /// What was declared so far, in order.
    pub(super) fn tensors(&self, visit: &mut dyn FnMut(LatentTensor)) {
        let state = self.state.borrow();
        for entry in state.entries.list.iter().take(state.entries.len) {
            let (name, holder, first) = match entry.kind {
                Kind::Constant { name } if name.is_empty() || name.starts_with(STATE) => continue,
                Kind::Constant { name } => (name, LatentHolder::Constants, entry.first),
                Kind::Parameter { name, decays: true, first } => (name, LatentHolder::Decaying, first),
                Kind::Parameter { name, decays: false, first } => (name, LatentHolder::Steady, first),
                Kind::Weight | Kind::Word { .. } => continue,
            };
            visit(LatentTensor { name, rows: entry.shape.rows, columns: entry.shape.columns, holder, first });
        }
    }

    /// Where the first tensor called `name` is held, state included.
    pub(super) fn find(&self, wanted: &str) -> Option<(LatentHolder, Range<usize>)> {
        let state = self.state.borrow();
        let entries = state.entries.list.iter().take(state.entries.len);
        let mut held = entries.filter_map(|entry| {
            let (name, holder, first) = match entry.kind {
                Kind::Constant { name } => (name, LatentHolder::Constants, entry.first),
                Kind::Parameter { name, decays: true, first } => (name, LatentHolder::Decaying, first),
                Kind::Parameter { name, decays: false, first } => (name, LatentHolder::Steady, first),
                Kind::Weight | Kind::Word { .. } => return None,
            };
            (name == wanted).then(|| (holder, first..first + entry.shape.len()))
        });
        held.next()
    }

    pub(super) fn shape(&self, index: usize) -> Shape {
        self.state.borrow().shape(index)
    }
}

impl<'t> Tape<'t> {
    fn node(&'t self, index: usize) -> Node<'t> {
        Node::new(self, index)
    }

    /// The frozen weight, `[out, row]`, rows in published order.
    pub(crate) fn weight(&'t self) -> Node<'t> {
        let mut state = self.state.borrow_mut();
        if let Some(index) = state.weight {
            return self.node(index);
        }
        let shape = Shape::new(self.site.out, self.site.row());
        let index = state.push(Kind::Weight, shape, 0, false);
        state.weight = Some(index);
        let first = state.entry(index).first;
        if let Some(memory) = &mut state.memory {
            let values = &mut memory.latent.workspace[first..first + shape.len()];
            for (i, value) in values.iter_mut().enumerate() {
                let (channel, position) = (i / shape.columns, in_kernel(&self.site, i % shape.columns));
                *value = f64::from(memory.site.weight(channel, position));
            }
        }
        self.node(index)
    }

    /// The frozen bias, a column; zeros where the base has none.
    pub(crate) fn bias(&'t self) -> Node<'t> {
        let out = self.site.out;
        let site = self.state.borrow().memory.as_ref().map(|memory| memory.site);
        self.fixed(out, 1, |values, _| {
            let Some(site) = site else { return };
            values.iter_mut().enumerate().for_each(|(channel, to)| *to = f64::from(site.real_bias(channel)));
        })
    }

    /// The step of the quantizer of every output channel, a column: the base's own, or that of int8 on a float base.
    pub(crate) fn weight_steps(&'t self) -> Node<'t> {
        let out = self.site.out;
        let site = self.state.borrow().memory.as_ref().map(|memory| memory.site);
        self.constant("base_scale", out, 1, |values, _| {
            let Some(site) = site else { return };
            values.iter_mut().enumerate().for_each(|(channel, to)| {
                let row = 0..site.desc.row();
                let largest = row.fold(0.0f32, |most, at| most.max(site.weight(channel, at).abs()));
                *to = f64::from(site.weight_step(channel).unwrap_or(largest / 127.0));
            });
        })
    }

    /// Says that the parameters that decay are one set `among` sites: each reads the same values, and they follow the
    /// sum of the sites' gradients.
    pub(crate) fn share(&self, among: Among) {
        self.state.borrow_mut().used.shared[0] = self.number(among);
    }

    /// Says the same of those that weight decay leaves alone.
    pub(crate) fn share_steady(&self, among: Among) {
        self.state.borrow_mut().used.shared[1] = self.number(among);
    }

    /// What sites that share have in common; not 0.
    fn number(&self, among: Among) -> u64 {
        match among {
            Among::All => 1,
            Among::Shape => (self.site.out as u64) << 32 | self.site.row() as u64,
        }
    }

    /// From here on draws what would start as zero, as Kaiming has it; or does so no more.
    pub(crate) fn draw_zeros(&self, draws: bool) {
        self.state.borrow_mut().draws_zeros = draws;
    }

    /// A matrix drawn once: normal with mean 0.
    pub(crate) fn normal(
        &'t self,
        name: &'static str,
        rows: usize,
        columns: usize,
        deviation: f64,
    ) -> Node<'t> {
        self.constant(name, rows, columns, |values, rng| {
            values.iter_mut().for_each(|value| *value = deviation * normal(rng));
        })
    }

    /// A matrix computed once, at the start, from the value of `from`, and kept.
    pub(crate) fn derived(
        &'t self,
        name: &'static str,
        from: Node<'t>,
        rows: usize,
        columns: usize,
        fill: impl FnOnce(Matrix<'_>, &mut [f64]),
    ) -> Node<'t> {
        let source = {
            let state = self.state.borrow();
            let starting = state.memory.as_ref().is_some_and(|memory| memory.rng.is_some());
            starting.then(|| (state.shape(from.index), state.value(from.index).data.to_vec()))
        };
        self.constant(name, rows, columns, |values, _| {
            let Some((shape, data)) = &source else { return };
            fill(Matrix { shape: *shape, data }, values);
        })
    }

    /// A trained matrix whose zero is the base.
    pub(crate) fn parameter(
        &'t self,
        name: &'static str,
        rows: usize,
        columns: usize,
        start: Start<'t>,
    ) -> Node<'t> {
        self.trained(name, Shape::new(rows, columns), start, true)
    }

    /// A trained matrix that weight decay leaves alone: its zero is not the base.
    pub(crate) fn steady_parameter(
        &'t self,
        name: &'static str,
        rows: usize,
        columns: usize,
        start: Start<'t>,
    ) -> Node<'t> {
        self.trained(name, Shape::new(rows, columns), start, false)
    }

    fn trained(&'t self, name: &'static str, shape: Shape, start: Start<'t>, decays: bool) -> Node<'t> {
        let mut state = self.state.borrow_mut();
        let used = if decays { &mut state.used.decaying } else { &mut state.used.steady };
        let first = *used;
        *used += shape.len();
        let index = state.push(Kind::Parameter { name, decays, first }, shape, 0, true);
        let at = state.entry(index).first;
        state.start(start, decays, first, shape);
        if let Some(memory) = &mut state.memory {
            let latent = &mut memory.latent;
            let held = if decays { &*latent.decaying } else { &*latent.steady };
            let values = &mut latent.workspace[at..at + shape.len()];
            values.iter_mut().zip(&held[first..]).for_each(|(to, from)| *to = f64::from(*from));
        }
        self.node(index)
    }

    /// A matrix set once, by `fill`, and kept.
    pub(crate) fn constant(
        &'t self,
        name: &'static str,
        rows: usize,
        columns: usize,
        fill: impl FnOnce(&mut [f64], &mut Rng),
    ) -> Node<'t> {
        let mut state = self.state.borrow_mut();
        let index = state.push(Kind::Constant { name }, Shape::new(rows, columns), 0, false);
        let (first, len) = (state.entry(index).first, rows.saturating_mul(columns));
        if let Some(Memory { latent, rng: Some(rng), .. }) = &mut state.memory {
            fill(&mut latent.constants[first..first + len], rng);
        }
        self.node(index)
    }

    /// A matrix set once, by `fill`, that follows from the shapes and the weight alone: it has no name in files.
    pub(crate) fn fixed(
        &'t self,
        rows: usize,
        columns: usize,
        fill: impl FnOnce(&mut [f64], &mut Rng),
    ) -> Node<'t> {
        self.constant("", rows, columns, fill)
    }

    /// A matrix that a revision keeps between steps, from zero. Its name begins with [`STATE`]; files do not have it.
    pub(crate) fn state(&'t self, name: &'static str, rows: usize, columns: usize) -> Node<'t> {
        self.constant(name, rows, columns, |_, _| ())
    }

    /// The first `rank` singular triplets of `matrix`: U, σ as a row, Vᵀ; constants.
    pub(crate) fn svd(&'t self, matrix: Node<'t>, rank: usize) -> [Node<'t>; 3] {
        let shape = matrix.shape();
        let rank = rank.min(shape.rows).min(shape.columns);
        let svd = {
            let state = self.state.borrow();
            let starting = state.memory.as_ref().is_some_and(|memory| memory.rng.is_some());
            starting.then(|| svd::svd(state.value(matrix.index)))
        };
        let part = |name, rows, columns, pick: &dyn Fn(&Svd, usize, usize) -> f64| {
            self.constant(name, rows, columns, |values, _| {
                let Some(svd) = &svd else { return };
                values.iter_mut().enumerate().for_each(|(i, to)| *to = pick(svd, i / columns, i % columns));
            })
        };
        [
            part("U", shape.rows, rank, &|svd, row, k| svd.left(row, k)),
            part("S", 1, rank, &|svd, _, k| svd.value(k)),
            part("Vh", rank, shape.columns, &|svd, k, column| svd.right(k, column)),
        ]
    }

    /// Whether some value counts as a constant on the way back that was trained.
    #[cfg(test)]
    pub(crate) fn detaches(&self) -> bool {
        let state = self.state.borrow();
        let trained = |index: &usize| *index < MAX_ENTRIES && state.entry(*index).gradient.is_some();
        (0..state.entries.len).any(|index| match state.entry(index).kind {
            Kind::Word { word, x } => !word.differentiable() && x.iter().any(trained),
            _ => false,
        })
    }

    /// Says `word` of `x` and `y`.
    pub(super) fn say(&'t self, word: Word, x: Node<'t>, y: Option<Node<'t>>) -> Node<'t> {
        let mut state = self.state.borrow_mut();
        let x = [Some(x.index), y.map(|y| y.index)].map(|index| index.unwrap_or(MAX_ENTRIES));
        let shapes = x.map(|index| state.shape(index));
        let Some(shape) = word.shape(shapes) else {
            state.faulty = true;
            return self.node(MAX_ENTRIES);
        };
        let trained = word.differentiable() && x.iter().any(|index| state.entry(*index).gradient.is_some());
        let index = state.push(Kind::Word { word, x }, shape, word.memory(shapes), trained);
        state.evaluate(index);
        self.node(index)
    }

    /// Calls `visit(position, value)` for every element of `node`.
    pub(super) fn read(&self, node: Node<'t>, mut visit: impl FnMut(usize, f64)) {
        let state = self.state.borrow();
        state.value(node.index).data.iter().enumerate().for_each(|(i, value)| visit(i, *value));
    }

    /// Adds `gradient(position)` to the gradient of every element of `node`.
    pub(super) fn seed(&self, node: Node<'t>, mut gradient: impl FnMut(usize) -> f64) {
        let mut state = self.state.borrow_mut();
        let entry = state.entry(node.index);
        if let (Some(first), Some(memory)) = (entry.gradient, &mut state.memory) {
            let places = &mut memory.gradients[first..first + entry.shape.len()];
            places.iter_mut().enumerate().for_each(|(i, to)| *to += gradient(i));
        }
    }

    /// Forgets all gradients, before seeding.
    pub(super) fn clear(&self) {
        if let Some(memory) = &mut self.state.borrow_mut().memory {
            memory.gradients.fill(0.0);
        }
    }

    /// Goes back from what was seeded, and adds what arrives at parameters to `into`.
    pub(super) fn backward(&self, into: &mut LatentGradients<'_>) {
        let mut state = self.state.borrow_mut();
        for index in (0..state.entries.len).rev() {
            state.backward(index, into);
        }
    }
}

impl State<'_> {
    /// Entry `index`; an empty one where there is none.
    fn entry(&self, index: usize) -> Entry {
        self.entries.list.get(index).copied().unwrap_or(Entry::NONE)
    }

    fn shape(&self, index: usize) -> Shape {
        self.entry(index).shape
    }

    /// Adds an entry with room for its value, `memory` values behind it, and its gradient.
    fn push(&mut self, kind: Kind, shape: Shape, memory: usize, trained: bool) -> usize {
        let constant = matches!(kind, Kind::Constant { .. });
        let used = if constant { &mut self.used.constants } else { &mut self.used.values };
        let first = *used;
        *used = used.saturating_add(shape.len()).saturating_add(memory);
        let gradient = trained.then_some(self.used.gradients);
        self.used.gradients = self.used.gradients.saturating_add(if trained { shape.len() } else { 0 });
        let index = self.entries.len;
        match self.entries.list.get_mut(index) {
            Some(entry) => *entry = Entry { kind, shape, first, gradient },
            None => self.faulty = true,
        }
        self.entries.len = index.saturating_add(1).min(MAX_ENTRIES);
        index
    }

    /// Sets a parameter while starting.
    fn start(&mut self, start: Start<'_>, decays: bool, first: usize, shape: Shape) {
        let drawn = self.draws_zeros && matches!(start, Start::Constant(0.0));
        let start = if drawn { Start::kaiming(shape.columns) } else { start };
        let State { memory: Some(Memory { latent, rng: Some(rng), .. }), entries, .. } = self else { return };
        let Latent { decaying, steady, constants, workspace } = latent;
        let held = &mut (if decays { decaying } else { steady })[first..first + shape.len()];
        match start {
            Start::Constant(value) => held.fill(value as f32),
            Start::Uniform(bound) => held.iter_mut().for_each(|to| *to = rng.uniform(-bound, bound) as f32),
            Start::Normal(deviation) => held.iter_mut().for_each(|to| *to = (deviation * normal(rng)) as f32),
            Start::Value(node) => {
                let from = entries.list.get(node.index).map(|entry| entry.value(constants, workspace));
                held.iter_mut().zip(from.into_iter().flatten()).for_each(|(to, from)| *to = *from as f32);
            }
        }
    }

    /// The value of entry `index`.
    fn value(&self, index: usize) -> Matrix<'_> {
        let entry = self.entry(index);
        let latent = self.memory.as_ref().map(|memory| &memory.latent);
        let data = latent.map_or(&[][..], |latent| entry.value(latent.constants, latent.workspace));
        Matrix { shape: entry.shape, data }
    }

    /// Computes the value of the word at `index`.
    fn evaluate(&mut self, index: usize) {
        let entry = self.entry(index);
        let (Kind::Word { word, x }, Some(memory)) = (entry.kind, &mut self.memory) else { return };
        let latent = &mut memory.latent;
        let (before, own) = latent.workspace.split_at_mut(entry.first);
        let x = x.map(|index| operand(&self.entries, index, latent.constants, before));
        let (y, rest) = own.split_at_mut(entry.shape.len());
        let kept = word.memory(x.map(|x| x.shape));
        word.forward(x, y, &mut rest[..kept]);
    }

    /// Hands the gradient of entry `index` on.
    fn backward(&mut self, index: usize, into: &mut LatentGradients<'_>) {
        let entry = self.entry(index);
        let (Some(first), Some(memory)) = (entry.gradient, &mut self.memory) else { return };
        let (below, own) = memory.gradients.split_at_mut(first);
        let dy = Matrix { shape: entry.shape, data: &own[..entry.shape.len()] };
        match entry.kind {
            Kind::Constant { .. } | Kind::Weight => {}
            Kind::Parameter { decays, first, .. } => {
                let to = if decays { &mut *into.decaying } else { &mut *into.steady };
                to.iter_mut().skip(first).zip(dy.data).for_each(|(to, dy)| *to += *dy as f32);
            }
            Kind::Word { word, x } => {
                let latent = &mut memory.latent;
                let (before, own) = latent.workspace.split_at_mut(entry.first);
                let values = x.map(|index| operand(&self.entries, index, latent.constants, before));
                let (y, rest) = own.split_at_mut(entry.shape.len());
                let kept = word.memory(values.map(|x| x.shape));
                for (which, index) in x.into_iter().enumerate() {
                    let Some(entry) = self.entries.list.get(index) else { continue };
                    let Some(at) = entry.gradient else { continue };
                    let dx = &mut below[at..at + entry.shape.len()];
                    word.backward(which, values, (y, &mut rest[..kept]), dy, dx);
                }
            }
        }
    }
}

impl Entry {
    /// Its value, in the vector that holds it.
    fn value<'v>(&self, constants: &'v [f64], values: &'v [f64]) -> &'v [f64] {
        let held = if matches!(self.kind, Kind::Constant { .. }) { constants } else { values };
        &held[self.first..self.first + self.shape.len()]
    }
}

/// The value of entry `index` of values `before` the present one.
fn operand<'v>(entries: &Entries, index: usize, constants: &'v [f64], before: &'v [f64]) -> Matrix<'v> {
    entries
        .list
        .get(index)
        .map_or(Matrix::NONE, |entry| Matrix { shape: entry.shape, data: entry.value(constants, before) })
}

/// How names of state begin.
const STATE: char = '~';
/// The longest expression, in values.
const MAX_ENTRIES: usize = 128;

#[cfg(test)]
mod counts;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod words;
