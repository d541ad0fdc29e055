//! Arrays and archives: headers that are dictionaries, and checksums that are right.

use std::io::{Read, Write};

use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::{Input, Own, change};

/// Changes a `.npy` file or an `.npz` archive.
pub fn npy(data: &mut [u8], size: usize, seed: u32, own: Own<'_>) -> usize {
    change(data, size, seed, own, |input, most| {
        if input.once_in(3) {
            return input.own_whole(most);
        }
        if !input.bytes.starts_with(b"PK") {
            return array(input, most);
        }
        let Some(mut entries) = entries(&input.bytes) else { return input.own_whole(most) };
        let chosen = input.random.below(entries.len().max(1));
        match (input.random.below(6), entries.get(chosen).cloned()) {
            (0, Some(entry)) => entries.push(entry),
            (1, Some(_)) => drop(entries.remove(chosen)),
            (2, Some(_)) => entries[chosen].2 = !entries[chosen].2,
            (_, Some((_, content, _))) => {
                let archive = core::mem::replace(&mut input.bytes, content);
                array(input, most);
                entries[chosen].1 = core::mem::replace(&mut input.bytes, archive);
            }
            (_, None) => {}
        }
        input.bytes = archive(&entries);
        if input.once_in(3) {
            // A field of a header or of the directory, which the checks then have to find.
            let at = input.random.below(input.bytes.len());
            let word = input.word(input.word_at(at));
            input.put(at, word);
        }
    })
}

/// Changes an array: its header, or the elements behind it.
fn array(input: &mut Input<'_>, most: usize) {
    let start = input.bytes.iter().position(|byte| *byte == b'{');
    let end = input.bytes.iter().position(|byte| *byte == b'}');
    let (Some(start), Some(end)) = (start, end.map(|end| end + 1)) else { return input.own_whole(most) };
    if end < start || input.once_in(3) {
        return input.own_whole(most);
    }
    let descr =
        input.one_of(&["<f4", ">f4", "<f8", "|i1", "|u1", "<i2", ">i8", "|b1", "<f2", "<c8", "|S3", "f4"]);
    let order = input.one_of(&["False", "True", "0"]);
    let rank = input.random.below(5);
    let extents: Vec<usize> = (0..rank).map(|_| input.one_of(&[0, 1, 2, 3, 5, 255, usize::MAX])).collect();
    let shape: String = extents.iter().map(|extent| format!("{extent}, ")).collect();
    let shape = if rank == 1 { shape.trim_end().to_owned() } else { shape.trim_end_matches(", ").to_owned() };
    let text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    let wide = input.once_in(3);
    let mut file = b"\x93NUMPY".to_vec();
    file.extend_from_slice(if wide { &[2, 0] } else { &[1, 0] });
    match wide {
        true => file.extend_from_slice(&(text.len() as u32).to_le_bytes()),
        false => file.extend_from_slice(&(text.len() as u16).to_le_bytes()),
    }
    file.extend_from_slice(text.as_bytes());
    let bytes = match descr.as_bytes().last() {
        Some(digit) => usize::from(digit - b'0'),
        None => 1,
    };
    let needed = extents.iter().try_fold(bytes, |count, extent| count.checked_mul(*extent));
    let payload = input.bytes.get(end..).unwrap_or(&[]).to_vec();
    match needed.filter(|needed| *needed <= most.min(4096)) {
        Some(needed) if !payload.is_empty() => file.extend(payload.iter().cycle().take(needed)),
        _ => file.extend_from_slice(&payload),
    }
    input.bytes = file;
}

/// Name, content and whether it is deflated.
type Entry = (Vec<u8>, Vec<u8>, bool);

/// The entries of an archive as far as its local headers can be followed; `None` where there is none.
fn entries(archive: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rest = archive;
    while let Some(header) = rest.strip_prefix(b"PK\x03\x04") {
        let half = |at: usize| Some(usize::from(u16::from_le_bytes(*header.get(at..)?.first_chunk()?)));
        let word = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?) as usize);
        let (method, packed) = (half(4)?, word(14)?);
        let (name, extra) = (half(22)?, half(24)?);
        let body = header.get(26..)?;
        let content = body.get(name.checked_add(extra)?..)?.get(..packed)?;
        let mut unpacked = Vec::new();
        match method {
            8 => drop(DeflateDecoder::new(content).take(1 << 16).read_to_end(&mut unpacked).ok()?),
            _ => unpacked.extend_from_slice(content),
        }
        entries.push((body.get(..name)?.to_vec(), unpacked, method == 8));
        rest = body.get(name + extra + packed..)?;
    }
    (!entries.is_empty()).then_some(entries)
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, content, deflated) in entries {
        let mut crc = Crc::new();
        crc.update(content);
        let packed = match deflated {
            true => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                let written = encoder.write_all(content);
                written.and_then(|()| encoder.finish()).expect("memory takes what is written")
            }
            false => content.clone(),
        };
        let mut fields = Vec::new();
        for field in [20u16, 1 << 11, if *deflated { 8 } else { 0 }, 0, 33] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        for field in [crc.sum(), packed.len() as u32, content.len() as u32] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        fields.extend_from_slice(&(name.len() as u16).to_le_bytes());
        fields.extend_from_slice(&[0; 2]);
        let offset = (archive.len() as u32).to_le_bytes();
        for part in [&b"PK\x03\x04"[..], &fields, name, &packed] {
            archive.extend_from_slice(part);
        }
        for part in [&b"PK\x01\x02\x14\0"[..], &fields, &[0; 10], &offset, name] {
            directory.extend_from_slice(part);
        }
    }
    let count = (entries.len() as u16).to_le_bytes();
    let (offset, len) = ((archive.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    archive.extend_from_slice(&directory);
    for part in [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &len, &offset, &[0; 2]] {
        archive.extend_from_slice(part);
    }
    archive
}
