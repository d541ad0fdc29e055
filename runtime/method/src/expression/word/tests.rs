//! Every word: its gradient against finite differences, and its value where one is known otherwise.

use alloc::vec;
use alloc::vec::Vec;

use ingraft_tensor::Rng;

use super::{Matrix, Shape, Word};
use crate::expression::{Node, Tape};

/// A word said of operands of these shapes; a second operand may be constant and whole.
struct Case {
    name: &'static str,
    say: for<'t> fn(Node<'t>, Node<'t>) -> Node<'t>,
    shapes: [(usize, usize); 2],
    /// The second operand is places below this number.
    places: usize,
}

const fn case(
    name: &'static str,
    shapes: [(usize, usize); 2],
    places: usize,
    say: for<'t> fn(Node<'t>, Node<'t>) -> Node<'t>,
) -> Case {
    Case { name, say, shapes, places }
}

const CASES: [Case; 35] = [
    case("add", [(3, 4), (3, 4)], 0, |x, y| x + y),
    case("add a row", [(3, 4), (1, 4)], 0, |x, y| x + y),
    case("cayley", [(6, 3), (1, 1)], 0, |x, _| x.cayley()),
    case("cayley of one", [(2, 1), (1, 1)], 0, |x, _| x.cayley()),
    case("crop", [(3, 5), (1, 1)], 0, |x, _| x.crop(2, 3)),
    case("fourier", [(3, 5), (1, 1)], 0, |x, _| x.inverse_fourier()),
    case("reciprocal", [(2, 3), (1, 1)], 0, |x, _| x.reciprocal()),
    case("square root", [(2, 3), (1, 1)], 0, |x, _| (x.times(x)).square_root()),
    case("sigmoid", [(2, 3), (1, 1)], 0, |x, _| x.sigmoid()),
    case("clamp", [(4, 5), (1, 1)], 0, |x, _| x.clamp(-0.5, 0.25)),
    case("at least", [(4, 5), (1, 1)], 0, |x, _| x.at_least(0.1)),
    case("cosine", [(2, 3), (1, 1)], 0, |x, _| x.cosine()),
    case("sine", [(2, 3), (1, 1)], 0, |x, _| x.sine()),
    case("gather", [(3, 4), (2, 7)], 12, |x, y| x.gather(y)),
    case("haar", [(4, 6), (1, 1)], 0, |x, _| x.inverse_haar()),
    case("hadamard", [(3, 4), (3, 4)], 0, |x, y| x.times(y)),
    case("hadamard with a column", [(3, 4), (3, 1)], 0, |x, y| x.times(y)),
    case("khatri-rao", [(3, 4), (3, 2)], 0, |x, y| x.khatri_rao(y)),
    case("kronecker", [(2, 3), (3, 2)], 0, |x, y| x.kronecker(y)),
    case("matmul", [(3, 4), (4, 2)], 0, |x, y| x.matmul(y)),
    case("block matmul", [(6, 2), (4, 5)], 0, |x, y| x.block_matmul(2, y)),
    case("row norms", [(3, 4), (1, 1)], 0, |x, _| x.row_norms()),
    case("column norms", [(3, 4), (1, 1)], 0, |x, _| x.column_norms()),
    case("orthonormal", [(5, 3), (1, 1)], 0, |x, _| x.orthonormal()),
    case("orthonormal square", [(3, 3), (1, 1)], 0, |x, _| x.orthonormal()),
    case("permute", [(6, 10), (1, 1)], 0, |x, _| x.permute([2, 3, 5, 2], [2, 0, 3, 1], 12)),
    case("reflect", [(3, 4), (4, 2)], 0, |x, y| x.reflect(2, y)),
    case("deflect", [(3, 4), (4, 1)], 0, |x, y| x.deflect(1, -1.0, y)),
    case("rotate", [(8, 3), (1, 2)], 0, |x, y| x.rotate_qubits(1, y)),
    case("scale", [(2, 3), (1, 1)], 0, |x, _| x * -1.5),
    case("scatter", [(2, 7), (2, 7)], 12, |x, y| x.scatter(y, 3, 4)),
    case("select", [(3, 4), (1, 5)], 3, |x, y| x.rows_at(y)),
    case("softmax", [(3, 5), (1, 1)], 0, |x, _| x.softmax()),
    case("stack", [(2, 3), (4, 3)], 0, |x, y| x.above(y)),
    case("walsh", [(3, 8), (1, 1)], 0, |x, _| x.walsh_hadamard()),
];

#[test]
fn gradients_are_slopes() {
    for case in CASES {
        super::super::tape::words::check(case.name, case.shapes, case.places, case.say);
    }
}

/// The value of a word of one operand.
fn value(word: impl Into<Word>, shape: (usize, usize), x: &[f64]) -> Vec<f64> {
    let (word, shape) = (word.into(), Shape::new(shape.0, shape.1));
    let shapes = [shape, Shape::default()];
    let mut y = vec![f64::NAN; word.shape(shapes).unwrap().len()];
    let mut memory = vec![f64::NAN; word.memory(shapes)];
    word.forward([Matrix { shape, data: x }, Matrix::NONE], &mut y, &mut memory);
    y
}

#[test]
fn transforms_undo_themselves() {
    let mut rng = Rng::new(1);
    let x: Vec<f64> = (0..32).map(|_| rng.uniform(-1.0, 1.0)).collect();
    let twice = value(super::walsh::Walsh, (4, 8), &value(super::walsh::Walsh, (4, 8), &x));
    twice.iter().zip(&x).for_each(|(y, x)| assert!((y - 8.0 * x).abs() < 1e-12));
}

#[test]
fn of_equal_values_the_first_is_the_largest() {
    let tape = Tape::counting(super::super::tape::words::SITE);
    let node = tape.constant("x", 2, 4, |_, _| ()).largest(2);
    assert_eq!(node.shape(), Shape::new(2, 4));
    let x = [1.0, 3.0, 3.0, 3.0, -1.0, 0.5, -2.0, 0.0];
    let y = value(super::largest::Largest { kept: 2 }, (2, 4), &x);
    let kept: Vec<bool> = y.iter().map(|y| *y == 0.0).collect();
    assert_eq!(kept, [false, true, true, false, false, true, false, true]);
}

#[test]
fn columns_become_orthonormal_with_the_signs_of_lapack() {
    let q = value(super::orthonormalize::Orthonormalize, (3, 2), &[3.0, 1.0, 0.0, 2.0, 4.0, -1.0]);
    // numpy.linalg.qr of the same matrix.
    let want = [-0.6, -0.4587698754906626, 0.0, -0.8192319205190404, -0.8, 0.3440774066179969];
    q.iter().zip(want).for_each(|(q, want)| assert!((q - want).abs() < 1e-12, "{q} {want}"));
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let tape = Tape::counting(super::super::tape::words::SITE);
    let x = tape.constant("x", 3, 5, |_, _| ());
    for (refused, node) in
        [("walsh", x.walsh_hadamard()), ("permute", x.permute([2, 2, 2, 2], [0, 1, 2, 3], 4))]
    {
        assert_eq!(node.shape(), Shape::default(), "{refused}");
    }
    assert_eq!(x.transpose().orthonormal().shape(), Shape::new(5, 3));
    assert_eq!(x.orthonormal().shape(), Shape::default());
}
