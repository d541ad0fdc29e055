//! The command line.

use core::str::FromStr;
use std::path::PathBuf;

use ingraft_dataset::augment::{Augmentation, RecipeError};

use crate::course::{Course, Decay, State};

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// Names of the tasks.
    pub(crate) tasks: Vec<String>,
    /// A method's name, or `lr`.
    pub(crate) method: String,
    /// Settings of the method, over those of the recipe.
    pub(crate) settings: Vec<(String, String)>,
    /// How many of the last pointwise blocks are trained.
    pub(crate) blocks: usize,
    /// The block whose output, averaged over time, the head reads; by default it reads the embedding.
    pub(crate) head_at: Option<usize>,
    /// Versions of each training clip; by default the task's.
    pub(crate) views: Option<u32>,
    /// Changes of the training clips, instead of the task's.
    pub(crate) augment: Option<Vec<Augmentation>>,
    /// Number of training seeds.
    pub(crate) seeds: u64,
    /// The first of them.
    pub(crate) first_seed: u64,
    /// Suffix of the split file.
    pub(crate) split: Option<String>,
    /// Learning rate of the terms, instead of the recipe's.
    pub(crate) rate: Option<f32>,
    /// Learning rate of the head, instead of the recipe's.
    pub(crate) head_rate: Option<f32>,
    /// Weight decay of the head, instead of the recipe's.
    pub(crate) head_decay: Option<f32>,
    /// Epochs, instead of the recipe's.
    pub(crate) epochs: Option<u32>,
    /// Epochs of the head alone before terms join it, instead of the recipe's.
    pub(crate) head_first: Option<u32>,
    /// Examples between two steps, instead of the recipe's.
    pub(crate) batch: Option<usize>,
    /// How rates fall, instead of the recipe's way.
    pub(crate) decay: Option<Decay>,
    /// Share of all steps over which rates rise, instead of the recipe's.
    pub(crate) warm_up: Option<f32>,
    /// Share of the target that goes to all classes alike, instead of the recipe's.
    pub(crate) smoothing: Option<f32>,
    /// In what the optimizer keeps its state, instead of f32.
    pub(crate) state: Option<State>,
    /// Where to write what `search.py` reads, instead of measuring.
    pub(crate) dump: Option<PathBuf>,
    /// Print the grid on inner folds instead of measuring.
    pub(crate) choose: bool,
    /// Of the three inner folds of each split, how many `choose` tries.
    pub(crate) inner: usize,
    /// One split and one seed: a smoke test whose figures mean nothing.
    pub(crate) quick: bool,
    /// Runs at a time.
    pub(crate) threads: usize,
}

impl Arguments {
    /// Reads the words behind the program's name.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut it = Self {
            tasks: Vec::new(),
            method: "lora".to_owned(),
            settings: Vec::new(),
            blocks: 2,
            head_at: None,
            views: None,
            augment: None,
            seeds: 3,
            first_seed: 0,
            split: None,
            rate: None,
            head_rate: None,
            head_decay: None,
            epochs: None,
            head_first: None,
            batch: None,
            decay: None,
            warm_up: None,
            smoothing: None,
            state: None,
            dump: None,
            choose: false,
            inner: usize::MAX,
            quick: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let mut words = words;
        while let Some(word) = words.next() {
            it.take(&word, &mut words)?;
        }
        Ok(it)
    }

    /// The method's settings.
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// The recipe with what the command line says instead.
    pub(crate) fn course(&self, recipe: Course) -> Course {
        Course {
            rate: self.rate.unwrap_or(recipe.rate),
            head_rate: self.head_rate.unwrap_or(recipe.head_rate),
            head_decay: self.head_decay.unwrap_or(recipe.head_decay),
            epochs: self.epochs.unwrap_or(recipe.epochs),
            head_first: self.head_first.unwrap_or(recipe.head_first),
            batch: self.batch.unwrap_or(recipe.batch).max(1),
            decay: self.decay.unwrap_or(recipe.decay),
            warm_up: self.warm_up.unwrap_or(recipe.warm_up),
            smoothing: self.smoothing.unwrap_or(recipe.smoothing),
            state: self.state.unwrap_or(recipe.state),
        }
    }

    /// Learning rates of terms to choose from: the one given, or those that suit the method.
    pub(crate) fn rates(&self) -> Vec<f32> {
        match (self.rate, self.method.as_str()) {
            (Some(rate), _) => vec![rate],
            // Whole weights want smaller steps than factors that start at zero.
            (None, "full") => vec![1e-4, 3e-4, 1e-3],
            (None, _) => vec![5e-4, 1e-3, 3e-3],
        }
    }

    /// The method with its settings.
    pub(crate) fn describe(&self) -> String {
        let settings = self.settings.iter().map(|(name, value)| format!(" {name}={value}"));
        let state = self.state.map_or(String::new(), |state| format!(", state in {state:?}"));
        self.method.clone() + &settings.collect::<String>() + &state
    }

    fn take(&mut self, word: &str, rest: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let mut value = || rest.next().ok_or(format!("{word} wants a value"));
        match word {
            // Cargo's own, for every bench program.
            "--bench" => {}
            "--method" => self.method = value()?,
            "--set" => {
                let text = value()?;
                let (name, value) = text.split_once('=').ok_or("--set wants NAME=VALUE")?;
                self.settings.push((name.to_owned(), value.to_owned()));
            }
            "--blocks" => self.blocks = number(word, &value()?)?,
            "--head-at" => self.head_at = Some(number(word, &value()?)?),
            "--views" => self.views = Some(number(word, &value()?)?),
            "--augment" => {
                let steps = value()?.split(',').map(str::parse).collect::<Result<_, RecipeError>>();
                self.augment = Some(steps.map_err(|error| error.to_string())?);
            }
            "--seeds" => self.seeds = number(word, &value()?)?,
            "--first-seed" => self.first_seed = number(word, &value()?)?,
            "--split" => self.split = Some(value()?),
            "--lr" => self.rate = Some(number(word, &value()?)?),
            "--head-lr" => self.head_rate = Some(number(word, &value()?)?),
            "--head-decay" => self.head_decay = Some(number(word, &value()?)?),
            "--epochs" => self.epochs = Some(number(word, &value()?)?),
            "--head-first" => self.head_first = Some(number(word, &value()?)?),
            "--batch" => self.batch = Some(number(word, &value()?)?),
            "--schedule" => {
                let name = value()?;
                let decay = Decay::named(&name).ok_or(format!("{name}: constant, linear or cosine"))?;
                self.decay = Some(decay);
            }
            "--state" => {
                let name = value()?;
                self.state = Some(State::named(&name).ok_or(format!("{name}: f32, bf16 or int8"))?);
            }
            "--smoothing" => self.smoothing = Some(number(word, &value()?)?),
            "--warmup" => self.warm_up = Some(number(word, &value()?)?),
            "--threads" => self.threads = number(word, &value()?)?,
            "--inner" => self.inner = number(word, &value()?)?,
            "--dump" => self.dump = Some(value()?.into()),
            "--choose" => self.choose = true,
            "--quick" => self.quick = true,
            _ if word.starts_with('-') => return Err(format!("there is no option {word}")),
            _ => self.tasks.push(word.to_owned()),
        }
        Ok(())
    }
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option} {text}: not a number of its kind"))
}
