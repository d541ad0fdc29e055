//! The vocabulary. Each word has a file: its shape rule, its value, its gradient,
//! and the method of [`super::Node`] that says it.

mod add;
mod cayley;
mod crop;
mod detach;
mod fourier;
mod function;
mod gather;
mod haar;
mod hadamard;
mod khatri_rao;
mod kronecker;
mod largest;
mod matmul;
mod norm;
mod orthonormalize;
mod permute;
mod quantile;
mod reflect;
mod reshape;
mod rotate;
mod scale;
mod scatter;
mod select;
mod softmax;
mod stack;
mod transpose;
mod walsh;

/// A matrix in row-major order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'v> {
    pub(crate) shape: Shape,
    pub(crate) data: &'v [f64],
}

/// Rows and columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Shape {
    /// `rows` by `columns`.
    pub(crate) const fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns }
    }

    /// Number of elements.
    pub(crate) fn len(self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

impl<'v> Matrix<'v> {
    /// The operand that a word of one operand does not have.
    pub(crate) const NONE: Matrix<'static> = Matrix { shape: Shape::new(0, 0), data: &[] };

    /// Row `index`.
    pub(crate) fn row(&self, index: usize) -> &'v [f64] {
        let start = index * self.shape.columns;
        &self.data[start..start + self.shape.columns]
    }

    /// The rows in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'v [f64]> + use<'v> {
        self.data.chunks_exact(self.shape.columns.max(1))
    }
}

/// What a word knows about itself. Operands have the shapes that `shape` accepted.
trait Rule {
    /// Shape of the value; `None` when the operands do not fit.
    fn shape(&self, x: [Shape; 2]) -> Option<Shape>;

    /// Values kept from `forward` for `backward`, and working memory of both.
    fn memory(&self, x: [Shape; 2]) -> usize {
        let _ = x;
        0
    }

    /// Whether gradients pass.
    fn differentiable(&self) -> bool {
        true
    }

    /// Writes the value into `y`, which is zero.
    fn forward(&self, x: [Matrix<'_>; 2], y: &mut [f64], memory: &mut [f64]);

    /// Adds to `dx` the gradient of operand `which`, given that of the value.
    fn backward(&self, which: usize, pass: Backward<'_>, dx: &mut [f64]);
}

/// What a word sees on the way back.
struct Backward<'p> {
    x: [Matrix<'p>; 2],
    /// Gradient of the value, in its shape.
    dy: Matrix<'p>,
    /// The value.
    y: &'p [f64],
    /// As `forward` left it.
    memory: &'p mut [f64],
}

/// The closed list of words.
macro_rules! vocabulary {
    ($($name:ident($module:ident)),* $(,)?) => {
        /// A word with its settings.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Word { $($name($module::$name)),* }

        impl Word {
            fn rule(&self) -> &dyn Rule {
                match self { $(Self::$name(word) => word),* }
            }
        }

        $(impl From<$module::$name> for Word {
            fn from(word: $module::$name) -> Self {
                Self::$name(word)
            }
        })*
    };
}

vocabulary! {
    Add(add), Cayley(cayley), Crop(crop), Detach(detach), Fourier(fourier), Function(function), Gather(gather),
    Haar(haar), Hadamard(hadamard), KhatriRao(khatri_rao), Kronecker(kronecker), Largest(largest), MatMul(matmul), Norm(norm),
    Orthonormalize(orthonormalize), Permute(permute), Quantile(quantile), Reflect(reflect), Reshape(reshape), Rotate(rotate),
    Scale(scale), Scatter(scatter), Select(select), Softmax(softmax), Stack(stack), Transpose(transpose),
    Walsh(walsh),
}

impl Word {
    /// Shape of the value of operands of shapes `x`; `None` when they do not fit.
    pub(crate) fn shape(&self, x: [Shape; 2]) -> Option<Shape> {
        self.rule().shape(x)
    }

    /// Values of memory that goes with the value.
    pub(crate) fn memory(&self, x: [Shape; 2]) -> usize {
        self.rule().memory(x)
    }

    /// Whether gradients pass.
    pub(crate) fn differentiable(&self) -> bool {
        self.rule().differentiable()
    }

    /// Computes the value.
    pub(crate) fn forward(&self, x: [Matrix<'_>; 2], y: &mut [f64], memory: &mut [f64]) {
        y.fill(0.0);
        self.rule().forward(x, y, memory);
    }

    /// Adds to `dx` the gradient of operand `which`; `y` is the value, `dy` its gradient.
    pub(crate) fn backward(
        &self,
        which: usize,
        x: [Matrix<'_>; 2],
        (y, memory): (&[f64], &mut [f64]),
        dy: Matrix<'_>,
        dx: &mut [f64],
    ) {
        self.rule().backward(which, Backward { x, dy, y, memory }, dx);
    }
}

/// `y += a·x`.
fn axpy(a: f64, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// Inner product, in order.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests;
