//! Orders of dimensions.

use crate::op::movement::permute;

/// The order a value's dimensions are stored in: entry `i` is the dimension of the file that stored dimension `i` holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order(Vec<usize>);

impl Order {
    /// The file's own order.
    pub fn identity(rank: usize) -> Self {
        Self((0..rank).collect())
    }

    /// Dimension 1 last.
    pub fn channels_last(rank: usize) -> Self {
        Self([0].into_iter().chain(2..rank).chain([1]).take(rank).collect())
    }

    /// The dimensions of the file, in stored order.
    pub fn axes(&self) -> &[usize] {
        &self.0
    }

    pub(super) fn rank(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_identity(&self) -> bool {
        self.0.is_sorted()
    }

    /// Where dimension `axis` of the file is stored.
    pub(super) fn position(&self, axis: usize) -> usize {
        self.0.iter().position(|&a| a == axis).unwrap_or(axis)
    }

    /// A list with one entry per dimension of the file, in stored order.
    pub(super) fn apply<T: Clone>(&self, list: &[T]) -> Vec<T> {
        permute(list, &self.0)
    }

    /// The permutation that takes data stored so to data stored as `other`.
    pub(super) fn to(&self, other: &Self) -> Vec<usize> {
        other.0.iter().map(|&axis| self.position(axis)).collect()
    }

    /// How a transposed value is stored when nothing is moved: dimension `j` of the result is `perm[j]` of the operand.
    pub(super) fn after_transpose(&self, perm: &[usize]) -> Self {
        let inverse = |axis: usize| perm.iter().position(|&p| p == axis).unwrap_or(axis);
        Self(self.0.iter().map(|&axis| inverse(axis)).collect())
    }

    /// How the operand of a transpose must be stored for the result to be stored so when nothing is moved.
    pub(super) fn before_transpose(&self, perm: &[usize]) -> Self {
        Self(permute(perm, &self.0))
    }

    /// The order of what is left when these dimensions go away.
    pub(super) fn without(&self, gone: &[usize]) -> Self {
        let renumbered = |axis: usize| axis - gone.iter().filter(|&&g| g < axis).count();
        Self(self.0.iter().filter(|axis| !gone.contains(axis)).map(|&axis| renumbered(axis)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_change_orders_consistently() {
        let shape = [2, 3, 5, 7];
        for perm in [[0, 3, 1, 2], [3, 1, 0, 2], [1, 2, 3, 0]] {
            for order in [Order::identity(4), Order::channels_last(4)] {
                let stored = order.apply(&shape);
                let after = order.after_transpose(&perm);
                assert_eq!(after.apply(&permute(&shape, &perm)), stored);
                assert_eq!(after.before_transpose(&perm), order);
                assert_eq!(permute(&stored, &order.to(&Order::identity(4))), shape);
            }
        }
        assert_eq!(Order::channels_last(4).without(&[2, 3]), Order::identity(2));
        assert_eq!(Order::channels_last(4).without(&[0]).axes(), [1, 2, 0]);
        assert_eq!(Order::channels_last(1), Order::identity(1));
    }
}
