//! The list of methods, each with a row in its own file.

use alloc::boxed::Box;
use alloc::string::ToString;

use ingraft_train::Method;

use crate::expression::Expressed;
use crate::row::{Make, MethodRow, Settings};
use crate::{MethodError, Saliency, Score};
use crate::{
    abba, adalora, beft, bias, bitfit, boft, bone, bora, c3a, context_peft, deft, delora, diablo, dora,
    edora, esft, ether, flix, fourierft, full, gralora, hd_pissa, head, hira, hra, hut, ia3, id3, kradapter,
    l4q, ln, loha, loki, lokr, lora, lorat, loretta, losia, map, melora, miss, moka, msplora, neuroada, oft,
    paca, peqa, pissa, poly, psoft, quantum_peft, qwha, randlora, road, rosa, rslora, s2ft, s2lora, shira,
    sketchtune, smt, snell, soka, sora, sparsegrad, spectral_adapter, speft, spt, sqft, ssf, supertuning,
    surm, svft, tinylora, tlora, unilora, vblora, vectorfit, vera, wara, waveft,
};

/// Every method, in order of name.
pub static METHODS: &[MethodRow] = &[
    abba::ROW,
    adalora::ROW,
    beft::ROW,
    bias::ROW,
    bitfit::ROW,
    boft::ROW,
    bone::ROW,
    bora::ROW,
    c3a::ROW,
    context_peft::ROW,
    deft::ROW,
    delora::ROW,
    diablo::ROW,
    dora::ROW,
    edora::ROW,
    esft::ROW,
    ether::ROW,
    ether::PLUS,
    flix::ROW,
    fourierft::ROW,
    full::ROW,
    gralora::ROW,
    hd_pissa::ROW,
    head::ROW,
    hira::ROW,
    hra::ROW,
    hut::ROW,
    ia3::ROW,
    id3::ROW,
    kradapter::ROW,
    l4q::ROW,
    ln::ROW,
    loha::ROW,
    loki::ROW,
    lokr::ROW,
    lora::ROW,
    lorat::ROW,
    loretta::ROW,
    losia::ROW,
    map::ROW,
    melora::ROW,
    poly::MHR,
    miss::ROW,
    moka::ROW,
    msplora::ROW,
    neuroada::ROW,
    oft::ROW,
    paca::ROW,
    peqa::ROW,
    pissa::ROW,
    poly::ROW,
    psoft::ROW,
    quantum_peft::ROW,
    qwha::ROW,
    randlora::ROW,
    road::ROW,
    rosa::ROW,
    rslora::ROW,
    s2ft::ROW,
    s2lora::ROW,
    shira::ROW,
    sketchtune::ROW,
    smt::ROW,
    snell::ROW,
    snell::ALLOCATED,
    soka::ROW,
    sora::ROW,
    sparsegrad::ROW,
    spectral_adapter::ROW,
    speft::ROW,
    spt::ROW,
    sqft::ROW,
    ssf::ROW,
    supertuning::ROW,
    surm::ROW,
    svft::ROW,
    tinylora::ROW,
    tlora::ROW,
    unilora::ROW,
    vblora::ROW,
    vectorfit::ROW,
    vera::ROW,
    wara::ROW,
    waveft::ROW,
];

/// The method `name` with `settings` over its defaults; the last of equal names counts.
///
/// # Errors
/// [`MethodError`] for a name, a setting or a value that there is not.
pub fn build(name: &str, settings: &[(&str, &str)]) -> Result<Box<dyn Method>, MethodError> {
    make(name, settings, None)
}

/// What must be measured on training data before the method `name` with `settings` can train; most need nothing.
///
/// # Errors
/// As [`build`].
pub fn score_for(name: &str, settings: &[(&str, &str)]) -> Result<Option<Score>, MethodError> {
    let settings = checked(name, settings, None)?;
    match settings.row.make {
        Make::Measured { score, .. } | Make::MeasuredExpression { score, .. } => {
            score(&settings).map(|score| Some(score).filter(|s| s.needs_data()))
        }
        Make::Terms(_) | Make::Expression(_) => Ok(None),
    }
}

/// The method `name` with `settings`, which trains what `saliency` chose.
///
/// # Errors
/// As [`build`], and [`MethodError::Measured`] when `saliency` is of another score than [`score_for`] says.
pub fn build_on(
    name: &str,
    settings: &[(&str, &str)],
    saliency: &Saliency,
) -> Result<Box<dyn Method>, MethodError> {
    match score_for(name, settings)? {
        Some(wanted) if wanted != saliency.score() => {
            let (wanted, measured) = (wanted.name(), saliency.score().name());
            Err(MethodError::Measured { method: name.to_string(), wanted, measured })
        }
        _ => make(name, settings, Some(saliency)),
    }
}

/// The settings of a method, all of which it has.
fn checked<'s>(
    name: &str,
    given: &'s [(&'s str, &'s str)],
    saliency: Option<&'s Saliency>,
) -> Result<Settings<'s>, MethodError> {
    let row = METHODS.iter().find(|row| row.name == name);
    let row = row.ok_or_else(|| MethodError::Unknown(name.to_string()))?;
    match given.iter().find(|(setting, _)| !row.settings.iter().any(|known| known.name == *setting)) {
        Some((setting, _)) => Err(MethodError::Setting { method: row.name, setting: setting.to_string() }),
        None => Ok(Settings { row, given, saliency }),
    }
}

fn make(
    name: &str,
    given: &[(&str, &str)],
    saliency: Option<&Saliency>,
) -> Result<Box<dyn Method>, MethodError> {
    let settings = checked(name, given, saliency)?;
    match settings.row.make {
        Make::Terms(make) | Make::Measured { make, .. } => make(&settings),
        Make::Expression(make) | Make::MeasuredExpression { make, .. } => {
            Ok(Box::new(Expressed(make(&settings)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::Tape;
    use alloc::vec::Vec;
    use ingraft_kernel::{SiteDesc, SiteKind};
    use ingraft_tensor::DType;

    #[test]
    fn every_method_is_built_with_its_listed_defaults() {
        assert!(METHODS.is_sorted_by_key(|row| row.name));
        for row in METHODS {
            let method = build(row.name, &[]).unwrap();
            assert_eq!(method.name(), row.name);
            let mut settings = Vec::new();
            method.settings(&mut |name, value| settings.push((name, value.to_string())));
            let listed: Vec<_> = row.settings.iter().map(|s| (s.name, s.default.to_string())).collect();
            assert_eq!(settings, listed, "{}", row.name);
        }
    }

    #[test]
    fn what_counts_as_a_constant_on_the_way_back_is_named() {
        let site = SiteDesc {
            name: "site",
            kind: SiteKind::Linear,
            dtype: DType::F32,
            out: 64,
            inputs: 64,
            kernel: [1, 1],
            groups: 1,
            transposed: false,
        };
        let (mut said, mut silent) = (0, 0);
        for row in METHODS {
            let Some(make) = row.make.expression() else {
                assert!(row.detached().is_empty(), "{}", row.name);
                continue;
            };
            for given in [&[][..], &[("quantized", "true")], &[("mode", "hard")], &[("tau", "0")]] {
                let Ok(settings) = checked(row.name, given, None) else { continue };
                let expression = make(&settings).unwrap();
                let tape = Tape::counting(site);
                // Those that choose by data say nothing before it was seen.
                if expression.express(&tape).is_err() {
                    continue;
                }
                assert_eq!(tape.detaches(), !expression.detached().is_empty(), "{} {given:?}", row.name);
                (said, silent) =
                    (said + usize::from(tape.detaches()), silent + usize::from(!tape.detaches()));
            }
        }
        assert!(said > 7 && silent > 40, "{said} {silent}");
    }

    #[test]
    fn refuses_what_there_is_not() {
        let refused = |name, settings: &[(&str, &str)]| build(name, settings).unwrap_err().to_string();
        assert!(refused("lorra", &[]).contains("no method lorra"));
        assert!(refused("ia3", &[("rank", "4")]).contains("no setting rank"));
        assert!(refused("lora", &[("rank", "0")]).contains("rank=0 is not a whole number in 1..=256"));
        assert!(refused("lora", &[("alpha", "inf")]).contains("alpha=inf"));
        assert!(refused("shira", &[("density", "2")]).contains("density=2"));
        assert!(refused("shira", &[("mask", "best")]).contains("mask=best"));
        assert_eq!(build("lora", &[("rank", "4"), ("rank", "2")]).unwrap().name(), "lora");
    }
}
