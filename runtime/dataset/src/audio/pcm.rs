//! Raw PCM as a pipe delivers it.

use std::io::{self, ErrorKind, Read};

/// Mono signed 16-bit little-endian samples from any reader, as `arecord -f S16_LE -c 1` writes them.
///
/// ```
/// use ingraft_dataset::PcmStream;
///
/// let mut stream = PcmStream::new(&[0x00, 0x40, 0x00, 0x80][..]);
/// let mut samples = [0.0; 4];
/// assert_eq!(stream.read(&mut samples).unwrap(), 2);
/// assert_eq!(samples[..2], [0.5, -1.0]);
/// ```
#[derive(Debug)]
pub struct PcmStream<R> {
    reader: R,
    /// First byte of a sample whose second byte has not arrived.
    half: Option<u8>,
}

impl<R: Read> PcmStream<R> {
    /// A stream of the samples in `reader`, at whatever rate they were recorded.
    pub fn new(reader: R) -> Self {
        Self { reader, half: None }
    }

    /// Fills `out` from its start and says how many samples that were: fewer than
    /// `out.len()` only at the end of the stream. An odd last byte is dropped.
    ///
    /// # Numerics
    /// Samples are divided by 2¹⁵, exactly.
    ///
    /// # Errors
    /// The reader's, interruptions excepted; samples already read are lost.
    pub fn read(&mut self, out: &mut [f32]) -> io::Result<usize> {
        let mut buffer = [0u8; BUFFER_BYTES];
        let mut filled = 0;
        while filled < out.len() {
            let held = usize::from(self.half.is_some());
            let wanted = ((out.len() - filled) * 2 - held).min(BUFFER_BYTES);
            let Some(target) = buffer.get_mut(..wanted) else { break };
            let count = match self.reader.read(target) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for &byte in buffer.iter().take(count) {
                let Some(low) = self.half.take() else {
                    self.half = Some(byte);
                    continue;
                };
                if let Some(sample) = out.get_mut(filled) {
                    *sample = f32::from(i16::from_le_bytes([low, byte])) / 32_768.0;
                    filled += 1;
                }
            }
        }
        Ok(filled)
    }
}

const BUFFER_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Delivers one to three bytes at a time, with interruptions in between.
    struct Trickle<'a> {
        rest: &'a [u8],
        turn: usize,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.turn += 1;
            if self.turn.is_multiple_of(4) {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = (self.turn % 4).min(out.len());
            self.rest.read(&mut out[..count])
        }
    }

    #[test]
    fn any_chunking_gives_the_same_samples() {
        let values: Vec<i16> = (0..5000).map(|i: i32| (i * 7919) as i16).collect();
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.push(1);
        let mut stream = PcmStream::new(Trickle { rest: &bytes, turn: 0 });
        let mut samples = Vec::new();
        let mut block = [0.0; 333];
        loop {
            let count = stream.read(&mut block).unwrap();
            samples.extend_from_slice(&block[..count]);
            if count < block.len() {
                break;
            }
        }
        assert_eq!(samples, values.iter().map(|&v| f32::from(v) / 32_768.0).collect::<Vec<_>>());
        assert_eq!(PcmStream::new(&bytes[..]).read(&mut [0.0; 5001]).unwrap(), 5000);
    }
}
