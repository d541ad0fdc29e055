//! Ternary deltas on the way to a device: a bit or two per kept entry (ComPEFT: Yadav et al., 2023).
//!
//! An adapter file holds what a kernel runs, sixteen bits of position per entry and its value. This file holds signs, one
//! size γ per site, and positions either as a bitmap or as Golomb-coded gaps; it is decoded to an adapter where it
//! arrives. Little-endian, its hash over everything behind it:
//!
//! | bytes | what |
//! |---|---|
//! | 8, 4 | `INGRTERN`, format version |
//! | 32, 32 | content hash, hash of the base |
//! | 4 | sites; then for each: |
//! | 4, … | length of its name, name |
//! | 4, 4, 4 | γ (f32), entries, and the Rice parameter of the gaps or 255 for a bitmap |
//! | 4, … | values of Δb or none (f32), and those |
//! | 4, … | bytes of the code, and those: positions, then a sign bit per entry |

use ingraft_adapter::{Adapter, TermSource};
use ingraft_method::TermFormat;
use ingraft_tensor::hash::blake3;

use crate::algebra::compress::ternary;
use crate::algebra::effect::Effect;
use crate::algebra::{Writer, head};
use crate::base::Base;
use crate::matrix::Matrix;
use crate::native::hex;
use crate::{Aligned, Fault, ImportError, Imported};

type Result<T> = core::result::Result<T, ImportError>;

/// How positions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// A bit for every entry of the weight.
    Bitmap,
    /// The gaps between kept entries by Golomb's code with a power of two (Rice), the one that is shortest.
    Golomb,
}

/// The adapter `bytes` as a coded ternary file: of every site's delta the share `density` of entries that are largest, each ±γ, γ = `scale`·σ(Δ).
///
/// # Errors
/// [`Fault::Combine`] for an adapter with a head, which has no delta.
pub fn encode_ternary(
    base: &Base<'_>,
    bytes: &[u8],
    density: f64,
    scale: f64,
    coding: Coding,
) -> Result<Vec<u8>> {
    if !(density > 0.0 && density <= 1.0 && scale > 0.0) {
        return Err(Fault::Combine("a density is above 0, at most 1; a scale is above 0").into());
    }
    let file = Aligned::copy_of(bytes);
    let adapter = Adapter::attach(file.as_slice(), &base.plan)?;
    if head(&[adapter])?.is_some() {
        return Err(
            Fault::Combine("a head is no delta and cannot be coded; compress without --coding").into()
        );
    }
    let sites: Vec<(usize, &str)> = adapter.site_terms().map(|(site, name, _)| (site, name)).collect();
    let mut body = Vec::new();
    body.extend(base.plan.hash());
    number(&mut body, sites.len());
    for (site, name) in sites {
        let place = base.place(site)?;
        let (out, row) = place.shape();
        let effect = Effect::read(&place.frozen, &adapter.terms(site));
        let delta = ternary(&effect.whole(out, row), density, scale);
        number(&mut body, name.len());
        body.extend(name.as_bytes());
        let size = delta.data.iter().find(|v| **v != 0.0).map_or(0.0, |v| v.abs() as f32);
        body.extend(size.to_le_bytes());
        let kept: Vec<usize> = (0..delta.data.len()).filter(|at| delta.data[*at] != 0.0).collect();
        number(&mut body, kept.len());
        let parameter = if coding == Coding::Bitmap { BITMAP } else { best_parameter(&kept) };
        number(&mut body, parameter as usize);
        let shift = effect.shift.unwrap_or_default();
        number(&mut body, shift.len());
        shift.iter().for_each(|v| body.extend((*v as f32).to_le_bytes()));
        let mut bits = Bits::default();
        positions(&kept, delta.data.len(), parameter, &mut bits);
        kept.iter().for_each(|at| bits.push(delta.data[*at] < 0.0));
        number(&mut body, bits.bytes.len());
        body.extend(bits.bytes);
    }
    let mut coded = MAGIC.to_vec();
    coded.extend(VERSION.to_le_bytes());
    coded.extend(blake3(&body));
    coded.extend(body);
    Ok(coded)
}

/// Whether these bytes say that they are such a file.
pub fn is_ternary(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The adapter that a coded ternary file stands for.
///
/// # Errors
/// [`Fault::Ternary`] for a damaged file, [`Fault::WrongBase`], or a site that the base has not.
pub fn decode_ternary(base: &Base<'_>, bytes: &[u8]) -> Result<Imported> {
    let broken = || ImportError::new(Fault::Ternary);
    let mut reader = Reader(bytes);
    let whole = reader.take(8) == Some(MAGIC) && reader.number() == Some(VERSION as usize);
    let hash = reader.take(32).filter(|hash| whole && *hash == blake3(reader.0)).ok_or_else(broken)?;
    let wanted = reader.take(32).ok_or_else(broken)?;
    if wanted != base.plan.hash() {
        return Err(Fault::WrongBase { wanted: hex(wanted), found: hex(base.plan.hash()) }.into());
    }
    let mut writer = Writer::new(base, None);
    let count = reader.number().ok_or_else(broken)?;
    let mut last = None;
    for _ in 0..count {
        let len = reader.number().ok_or_else(broken)?;
        let name = reader.take(len).and_then(|name| core::str::from_utf8(name).ok()).ok_or_else(broken)?;
        let site = base.site(name).filter(|site| last.is_none_or(|last| last < *site)).ok_or_else(|| {
            ImportError::at(name, Fault::Setting("a site of this base, in its order".to_owned()))
        })?;
        last = Some(site);
        let place = base.place(site)?;
        let effect =
            read_site(&mut reader, place.shape()).ok_or_else(|| ImportError::at(name, Fault::Ternary))?;
        writer.put(&place, effect, TermFormat::default())?;
    }
    if !reader.0.is_empty() {
        return Err(broken());
    }
    writer.finish("ternary", &format!("ternary file {}", hex(&hash[..8])))
}

fn read_site(reader: &mut Reader<'_>, (out, row): (usize, usize)) -> Option<Effect> {
    let size = reader.real().filter(|size| size.is_finite() && *size >= 0.0)?;
    let kept = reader.number().filter(|kept| *kept <= out * row)?;
    let parameter = u32::try_from(reader.number()?).ok().filter(|p| *p < 32 || *p == BITMAP)?;
    let shift = match reader.number()? {
        0 => None,
        len if len == out => Some(
            (0..out)
                .map(|_| reader.real().filter(|v| v.is_finite()).map(f64::from))
                .collect::<Option<Vec<f64>>>()?,
        ),
        _ => return None,
    };
    let len = reader.number()?;
    let mut bits = BitReader { bytes: reader.take(len)?, at: 0 };
    let mut delta = Matrix::zeros(out, row);
    let mut at = 0usize;
    let mut places = Vec::new();
    if parameter == BITMAP {
        for place in 0..out * row {
            if bits.next()? {
                places.push(place);
            }
        }
        (places.len() == kept).then_some(())?;
    } else {
        for _ in 0..kept {
            let mut high = 0usize;
            while bits.next()? {
                high = high.checked_add(1)?;
            }
            let low = (0..parameter).try_fold(0usize, |low, _| Some(low << 1 | usize::from(bits.next()?)))?;
            at = at.checked_add(high.checked_shl(parameter)?.checked_add(low)?)?;
            (at < out * row).then(|| places.push(at))?;
            at += 1;
        }
    }
    for place in places {
        delta.data[place] = if bits.next()? { -f64::from(size) } else { f64::from(size) };
    }
    // The code ends in the byte it needs, and its rest is zero.
    let rest = bits.bytes.len() * 8 - bits.at;
    (rest < 8 && (0..rest).all(|_| bits.next() == Some(false))).then_some(())?;
    Some(Effect { factors: None, dense: Some(delta), shift })
}

/// Positions as a bitmap of `len`, or as gaps.
fn positions(kept: &[usize], len: usize, parameter: u32, bits: &mut Bits) {
    if parameter == BITMAP {
        let mut next = kept.iter().peekable();
        return (0..len).for_each(|at| bits.push(next.next_if(|kept| **kept == at).is_some()));
    }
    let mut start = 0;
    for at in kept {
        let gap = at - start;
        (0..gap >> parameter).for_each(|_| bits.push(true));
        bits.push(false);
        (0..parameter).rev().for_each(|bit| bits.push(gap >> bit & 1 == 1));
        start = at + 1;
    }
}

/// The parameter that makes the shortest code of these positions.
fn best_parameter(kept: &[usize]) -> u32 {
    let gaps = |parameter: u32| {
        let mut start = 0;
        kept.iter().fold(0, |bits, at| {
            let gap = at - start;
            start = at + 1;
            bits + (gap >> parameter) + 1 + parameter as usize
        })
    };
    (0..24).min_by_key(|parameter| gaps(*parameter)).unwrap_or(0)
}

fn number(to: &mut Vec<u8>, value: usize) {
    to.extend((value as u32).to_le_bytes());
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }
}

struct BitReader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl BitReader<'_> {
    fn next(&mut self) -> Option<bool> {
        let bit = self.bytes.get(self.at / 8)? >> (self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        self.take(4).and_then(|bytes| bytes.try_into().ok()).map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn real(&mut self) -> Option<f32> {
        self.take(4).and_then(|bytes| bytes.try_into().ok()).map(f32::from_le_bytes)
    }
}

const MAGIC: &[u8] = b"INGRTERN";
const VERSION: u32 = 1;
/// In place of a Rice parameter.
const BITMAP: u32 = 255;
