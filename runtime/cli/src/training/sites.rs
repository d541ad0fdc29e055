//! Which sites a method is offered, and what a head reads.

use ingraft_kernel::head::{POOL_HEIGHT, POOL_WIDTH};
use ingraft_kernel::{NO_SITE, Sites};
use ingraft_plan::PlanView;
use ingraft_signal::{Axes, Recipe};
use ingraft_train::Readout;
use regex::bytes::{Regex, RegexBuilder};

use crate::CliError;

/// `--sites`.
#[derive(Clone, Debug)]
pub(crate) enum SiteChoice {
    /// Pointwise sites behind the last but one stage of stride 2.
    Late,
    /// Every site the training schedule reaches.
    All,
    /// Those of them that are worth most within a budget of memory.
    Useful,
    /// Those whose name contains a match.
    Matching(Regex),
}

/// `--head`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeadChoice {
    /// No head: the model's own classes are trained for.
    None,
    /// A head on the averaged output of a site.
    On {
        /// Its name; `None` for the input of the last linear layer.
        site: Option<String>,
        /// What is averaged over.
        pool: Pool,
    },
}

/// What a head averages over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Height and width.
    All,
    /// Nothing.
    None,
    /// Height alone.
    Height,
    /// Width alone.
    Width,
    /// The axis of the front end's spectrogram that is time.
    Time,
}

impl SiteChoice {
    /// Reads `late`, `all`, `useful` or a regular expression.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "late" => Ok(Self::Late),
            "all" => Ok(Self::All),
            "useful" => Ok(Self::Useful),
            // Names are matched as bytes: without Unicode tables classes such as \d are ASCII.
            pattern => {
                let regex = RegexBuilder::new(pattern).unicode(false).build();
                regex.map(Self::Matching).map_err(|error| error.to_string())
            }
        }
    }

    /// The chosen sites of `plan`, of which training reaches `reached`, ascending.
    ///
    /// `late` and `all` leave out what cannot be trained; a pattern does not, so
    /// that the trainer names the site it cannot train. Of `useful` all that it chooses from.
    pub(super) fn select(&self, plan: &PlanView<'_>, reached: &[u32]) -> Vec<u32> {
        match self {
            Self::Late => reached.iter().copied().filter(|site| plan.site_is_late(*site as usize)).collect(),
            Self::All | Self::Useful => reached.to_vec(),
            Self::Matching(regex) => (0..plan.site_count() as u32)
                .filter(|&site| {
                    plan.site(site as usize).is_some_and(|site| regex.is_match(site.name.as_bytes()))
                })
                .collect(),
        }
    }
}

impl HeadChoice {
    /// On the input of the last linear layer, averaged over height and width.
    pub(crate) const LAST: Self = Self::On { site: None, pool: Pool::All };

    /// Reads `none`, `SITE` or `SITE:POOL`; the site `last` is the input of the last linear layer.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let pools = [
            ("all", Pool::All),
            ("none", Pool::None),
            ("height", Pool::Height),
            ("width", Pool::Width),
            ("time", Pool::Time),
        ];
        // Names of weights may hold colons, so only what names a pool is one.
        let named = text.rsplit_once(':').and_then(|(site, name)| {
            pools.iter().find(|(known, _)| *known == name).map(|(_, pool)| (site, *pool))
        });
        match named.unwrap_or((text, Pool::All)) {
            ("", _) => Err("expected SITE, SITE:all|none|height|width|time, or none".to_owned()),
            ("none", _) => Ok(Self::None),
            ("last", pool) => Ok(Self::On { site: None, pool }),
            (site, pool) => Ok(Self::On { site: Some(site.to_owned()), pool }),
        }
    }

    /// The readout in `plan` for this many classes.
    ///
    /// # Errors
    /// [`CliError::Setting`] for a site that is not there, or `time` without a spectral front end.
    pub(crate) fn resolve(&self, plan: &PlanView<'_>, classes: usize) -> Result<Readout, CliError> {
        let wrong = |value: &str, expected: &str| CliError::Setting {
            option: "--head",
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        let Self::On { site, pool } = self else { return Ok(Readout::Logits) };
        let site = match site {
            None => NO_SITE,
            Some(name) => {
                let found =
                    (0..plan.site_count()).find(|&i| plan.site(i).is_some_and(|site| site.name == name));
                found.ok_or_else(|| wrong(name, "no site is called that; `ingraft inspect` lists them"))?
                    as u32
            }
        };
        let pool = match pool {
            Pool::All => POOL_HEIGHT | POOL_WIDTH,
            Pool::None => 0,
            Pool::Height => POOL_HEIGHT,
            Pool::Width => POOL_WIDTH,
            Pool::Time => {
                match axes(plan).ok_or_else(|| wrong("time", "the front end gives no spectrogram"))? {
                    Axes::FramesBands => POOL_HEIGHT,
                    Axes::BandsFrames => POOL_WIDTH,
                }
            }
        };
        Ok(Readout::Head { site, pool, classes: classes as u32 })
    }
}

/// The order of the axes of the spectrogram that `plan` takes.
fn axes(plan: &PlanView<'_>) -> Option<Axes> {
    match Recipe::from_words(plan.inputs().next()?.recipe)? {
        Recipe::LogMel(log_mel) => Some(log_mel.config().axes),
        Recipe::Mfcc(mfcc) => Some(mfcc.log_mel().config().axes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_with_and_without_a_pool() {
        let head = |text| HeadChoice::parse(text).unwrap();
        let on = |site: Option<&str>, pool| HeadChoice::On { site: site.map(str::to_owned), pool };
        assert_eq!(head("last"), on(None, Pool::All));
        assert_eq!(head("last:none"), on(None, Pool::None));
        assert_eq!(head("block6.weight:time"), on(Some("block6.weight"), Pool::Time));
        assert_eq!(head("a:0"), on(Some("a:0"), Pool::All));
        assert_eq!(head("a:0:width"), on(Some("a:0"), Pool::Width));
        assert_eq!(head("none"), HeadChoice::None);
        assert!(HeadChoice::parse(":all").is_err());
    }

    #[test]
    fn patterns_need_no_unicode_tables() {
        let SiteChoice::Matching(regex) = SiteChoice::parse(r"^block[67]\.\w+").unwrap() else { panic!() };
        assert!(regex.is_match(b"block7.pw") && !regex.is_match(b"block5.pw"));
        assert!(SiteChoice::parse("block[").is_err());
        assert!(matches!(SiteChoice::parse("late"), Ok(SiteChoice::Late)));
        assert!(matches!(SiteChoice::parse("useful"), Ok(SiteChoice::Useful)));
    }
}
