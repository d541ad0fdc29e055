//! The classes of a data set among those of a model.

use ingraft_dataset::stats::{Confusion, argmax};

use crate::CliError;
use crate::predict::Output;

/// Which score belongs to which class of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassMap {
    /// The score of each class; `usize::MAX` for one that the model lacks.
    score_of: Vec<usize>,
}

impl ClassMap {
    /// Finds `classes` among the `labels` of a model by name; by position where it has no labels but as many scores.
    ///
    /// # Errors
    /// [`CliError::UnknownClass`] for the first class that is not there; [`CliError::NoLabels`].
    pub(crate) fn new(classes: &[String], labels: &[String], scores: usize) -> Result<Self, CliError> {
        let map = Self::partial(classes, labels, scores)?;
        match classes.iter().zip(&map.score_of).find(|(_, score)| **score == usize::MAX) {
            Some((class, _)) => Err(CliError::UnknownClass { class: class.clone(), known: labels.to_vec() }),
            None => Ok(map),
        }
    }

    /// The same for a model that may lack some of `classes`: clips of those are taken for none of their own.
    ///
    /// # Errors
    /// [`CliError::NoLabels`].
    pub(crate) fn partial(classes: &[String], labels: &[String], scores: usize) -> Result<Self, CliError> {
        if labels.is_empty() {
            let alike = classes.len() == scores;
            let map = Self { score_of: (0..scores).collect() };
            return if alike { Ok(map) } else { Err(CliError::NoLabels { classes: classes.len(), scores }) };
        }
        let find = |class: &String| labels.iter().position(|label| label == class).unwrap_or(usize::MAX);
        Ok(Self { score_of: classes.iter().map(find).collect() })
    }

    /// The score of class `class`.
    pub(crate) fn score(&self, class: usize) -> Option<usize> {
        self.score_of.get(class).copied().filter(|&score| score != usize::MAX)
    }

    /// The score of every class in `output`, which is one sample's; and counts the clip of classes `labels` in
    /// `confusion`: right where it is taken for one of its own. A clip of no class is not counted.
    ///
    /// # Errors
    /// [`CliError::NotAClassifier`].
    pub(crate) fn count(
        &self,
        labels: &[usize],
        output: &Output,
        confusion: &mut Confusion,
    ) -> Result<Vec<f32>, CliError> {
        let scores = sample(output)?;
        let class = self.best(&scores)?;
        let truth = if labels.contains(&class) { Some(&class) } else { labels.first() };
        truth.into_iter().for_each(|truth| confusion.add(*truth, class));
        Ok(self.score_of.iter().map(|&score| scores.get(score).copied().unwrap_or(f32::NAN)).collect())
    }

    /// The class of the data that a clip is taken for: that of the highest score among all the model's classes.
    /// `usize::MAX` where that is no class of the data.
    ///
    /// # Errors
    /// [`CliError::NotAClassifier`].
    pub(crate) fn class(&self, output: &Output) -> Result<usize, CliError> {
        self.best(&sample(output)?)
    }

    fn best(&self, scores: &[f32]) -> Result<usize, CliError> {
        let best = argmax(scores).ok_or(CliError::NotAClassifier)?;
        Ok(self.score_of.iter().position(|&score| score == best).unwrap_or(usize::MAX))
    }
}

/// The scores of `output`'s one sample.
fn sample(output: &Output) -> Result<Vec<f32>, CliError> {
    output.scores().and_then(|samples| samples.into_iter().next()).ok_or(CliError::NotAClassifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_go_before_positions() {
        let labels = names(&["background", "dog", "rain"]);
        let map = ClassMap::new(&names(&["dog", "background"]), &labels, 3).unwrap();
        assert_eq!(map.score_of, [1, 0]);
        let unknown = ClassMap::new(&names(&["cat"]), &labels, 3).unwrap_err();
        assert!(matches!(unknown, CliError::UnknownClass { class, .. } if class == "cat"));
        let partial = ClassMap::partial(&names(&["cat", "rain"]), &labels, 3).unwrap();
        assert_eq!([0, 1, 2].map(|class| partial.score(class)), [None, Some(2), None]);
        assert_eq!(partial.best(&[0.0, 1.0, 0.5]).unwrap(), usize::MAX);
        assert_eq!(partial.best(&[0.0, 1.0, 1.5]).unwrap(), 1);
        assert_eq!(ClassMap::new(&names(&["a", "b"]), &[], 2).unwrap().score_of, [0, 1]);
        for scores in [1, 521] {
            let refused = ClassMap::new(&names(&["a", "b"]), &[], scores);
            assert!(matches!(refused, Err(CliError::NoLabels { classes: 2, scores: s }) if s == scores));
        }
    }
}
