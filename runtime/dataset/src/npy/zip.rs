//! The part of the ZIP format that `numpy.savez` and `savez_compressed` write:
//! entries stored or deflated, found through the central directory (PKWARE
//! APPNOTE sections 4.3.7, 4.3.12, 4.3.16). Archives beyond 4 GiB, encrypted or
//! split ones are refused. Memory grows only with what is really unpacked, at most
//! 1032 times the size of the file.

use std::io::Read;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::ArrayError;

/// An entry of the central directory.
pub(super) struct Entry {
    pub(super) name: String,
    method: Method,
    crc: u32,
    packed: usize,
    unpacked: usize,
    /// Where the local header starts.
    offset: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Stored,
    Deflated,
}

/// The entries of an archive, in the order of its directory.
pub(super) fn entries(archive: &[u8]) -> Result<Vec<Entry>, ArrayError> {
    let end = find_end(archive).ok_or(ArrayError::Archive("no end of central directory"))?;
    let count = u16_at(archive, end + 10).ok_or(TRUNCATED)?;
    let mut at = usize_at(archive, end + 16)?;
    let mut entries = Vec::new();
    let mut packed = 0usize;
    for _ in 0..count {
        let (entry, next) = directory_entry(archive, at)?;
        // Entries sharing their bytes would unpack to more than the archive's size bounds.
        packed = packed.saturating_add(entry.packed);
        if packed > archive.len() {
            return Err(ArrayError::Archive("entries overlap"));
        }
        entries.push(entry);
        at = next;
    }
    Ok(entries)
}

impl Entry {
    /// The unpacked bytes of this entry of `archive`.
    pub(super) fn read(&self, archive: &[u8]) -> Result<Vec<u8>, ArrayError> {
        if u32_at(archive, self.offset) != Some(LOCAL_HEADER) {
            return Err(ArrayError::Archive("an entry has no local header"));
        }
        let name = usize::from(u16_at(archive, self.offset + 26).ok_or(TRUNCATED)?);
        let extra = usize::from(u16_at(archive, self.offset + 28).ok_or(TRUNCATED)?);
        let start = self.offset + 30 + name + extra;
        let packed = archive.get(start..).and_then(|rest| rest.get(..self.packed)).ok_or(TRUNCATED)?;
        let unpacked = match self.method {
            Method::Stored => packed.to_vec(),
            Method::Deflated => self.inflate(packed)?,
        };
        let mut crc = Crc::new();
        crc.update(&unpacked);
        if unpacked.len() != self.unpacked || crc.sum() != self.crc {
            return Err(ArrayError::Archive("an entry's length or checksum is wrong"));
        }
        Ok(unpacked)
    }

    /// Inflates at most one byte more than declared; memory grows only with what is decoded.
    fn inflate(&self, packed: &[u8]) -> Result<Vec<u8>, ArrayError> {
        if self.unpacked / MAX_RATIO > packed.len() {
            return Err(ArrayError::Archive("an entry declares more than deflate can pack"));
        }
        let mut unpacked = Vec::new();
        DeflateDecoder::new(packed)
            .take(self.unpacked as u64 + 1)
            .read_to_end(&mut unpacked)
            .map_err(|_| ArrayError::Archive("an entry does not inflate"))?;
        Ok(unpacked)
    }
}

/// An archive of stored entries, dated 1 January 1980 so that equal input gives equal bytes.
pub(super) fn write(files: impl Iterator<Item = (String, Vec<u8>)>) -> Result<Vec<u8>, ArrayError> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    let mut count = 0u16;
    for (name, content) in files {
        let offset = length_field(archive.len())?;
        let fields = shared_fields(&name, &content)?;
        for bytes in [&LOCAL_HEADER.to_le_bytes()[..], &fields, name.as_bytes(), &content] {
            archive.extend_from_slice(bytes);
        }
        // Between the shared fields and the offset: comment length, disk, internal and external attributes.
        let (magic, version) = (DIRECTORY_ENTRY.to_le_bytes(), VERSION.to_le_bytes());
        for bytes in [&magic[..], &version, &fields, &[0; 10], &offset, name.as_bytes()] {
            directory.extend_from_slice(bytes);
        }
        count = count.checked_add(1).ok_or(ArrayError::ArchiveTooLarge)?;
    }
    let (offset, length) = (length_field(archive.len())?, length_field(directory.len())?);
    let (magic, count) = (END_OF_DIRECTORY.to_le_bytes(), count.to_le_bytes());
    for bytes in [&directory[..], &magic, &[0; 4], &count, &count, &length, &offset, &[0; 2]] {
        archive.extend_from_slice(bytes);
    }
    Ok(archive)
}

/// The fields that a local header and a directory entry have in common, in their order.
fn shared_fields(name: &str, content: &[u8]) -> Result<Vec<u8>, ArrayError> {
    let mut crc = Crc::new();
    crc.update(content);
    let size = length_field(content.len())?;
    let name_length = u16::try_from(name.len()).map_err(|_| ArrayError::ArchiveTooLarge)?;
    let mut fields = Vec::new();
    for field in [VERSION, UTF8_NAME, STORED, 0, DOS_EPOCH] {
        fields.extend_from_slice(&field.to_le_bytes());
    }
    for field in [crc.sum().to_le_bytes(), size, size] {
        fields.extend_from_slice(&field);
    }
    fields.extend_from_slice(&name_length.to_le_bytes());
    fields.extend_from_slice(&0u16.to_le_bytes());
    Ok(fields)
}

/// The last end-of-directory record; a comment of up to 64 KiB may follow it.
fn find_end(archive: &[u8]) -> Option<usize> {
    let last = archive.len().checked_sub(END_LENGTH)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| u32_at(archive, at) == Some(END_OF_DIRECTORY))
}

fn directory_entry(archive: &[u8], at: usize) -> Result<(Entry, usize), ArrayError> {
    if u32_at(archive, at) != Some(DIRECTORY_ENTRY) {
        return Err(ArrayError::Archive("the central directory is broken"));
    }
    let field = |offset| u16_at(archive, at + offset).ok_or(TRUNCATED);
    if field(8)? & ENCRYPTED != 0 {
        return Err(ArrayError::Archive("an entry is encrypted"));
    }
    let method = match field(10)? {
        STORED => Method::Stored,
        DEFLATED => Method::Deflated,
        _ => return Err(ArrayError::Archive("an entry is neither stored nor deflated")),
    };
    let (name, extra, comment) = (usize::from(field(28)?), usize::from(field(30)?), usize::from(field(32)?));
    let bytes = archive.get(at + DIRECTORY_LENGTH..).and_then(|rest| rest.get(..name)).ok_or(TRUNCATED)?;
    let name_text =
        core::str::from_utf8(bytes).map_err(|_| ArrayError::Archive("an entry's name is not UTF-8"))?;
    let entry = Entry {
        name: name_text.to_owned(),
        method,
        crc: u32_at(archive, at + 16).ok_or(TRUNCATED)?,
        packed: usize_at(archive, at + 20)?,
        unpacked: usize_at(archive, at + 24)?,
        offset: usize_at(archive, at + 42)?,
    };
    Ok((entry, at + DIRECTORY_LENGTH + name + extra + comment))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u16::from_le_bytes(chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u32::from_le_bytes(chunk))
}

/// A length or offset below 2³¹, which sums of a few cannot overflow.
fn usize_at(bytes: &[u8], at: usize) -> Result<usize, ArrayError> {
    let value = u32_at(bytes, at).ok_or(TRUNCATED)?;
    if value > i32::MAX as u32 {
        return Err(ArrayError::ArchiveTooLarge);
    }
    Ok(value as usize)
}

fn length_field(length: usize) -> Result<[u8; 4], ArrayError> {
    i32::try_from(length).map(i32::to_le_bytes).map_err(|_| ArrayError::ArchiveTooLarge)
}

const TRUNCATED: ArrayError = ArrayError::Archive("the archive ends inside an entry");
const LOCAL_HEADER: u32 = 0x0403_4b50;
const DIRECTORY_ENTRY: u32 = 0x0201_4b50;
const END_OF_DIRECTORY: u32 = 0x0605_4b50;
const END_LENGTH: usize = 22;
const DIRECTORY_LENGTH: usize = 46;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;
const UTF8_NAME: u16 = 1 << 11;
const VERSION: u16 = 20;
const DOS_EPOCH: u16 = 1 << 5 | 1;
/// Deflate packs at most 1032 bytes into one (RFC 1951: 258 bytes for two bits).
const MAX_RATIO: usize = 1032;
