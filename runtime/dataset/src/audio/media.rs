//! FLAC, MP3 and Ogg Vorbis through `symphonia`.

use std::fs::File;

use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::{AudioError, Clip};

/// Decodes the default track of `file`, averaging its channels.
///
/// # Numerics
/// FLAC is exact. The lossy formats are decoded in `f32`, and their last bits may differ between platforms.
pub(super) fn decode(file: File, extension: &str) -> Result<Clip, AudioError> {
    let stream = MediaSourceStream::new(Box::new(file), Default::default());
    let mut hint = Hint::new();
    hint.with_extension(extension);
    let probe = symphonia::default::get_probe();
    let mut format = probe.probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())?;
    let track = format.default_track(TrackType::Audio).ok_or(AudioError::Broken("no audio track"))?;
    let id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
    let parameters = parameters.ok_or(AudioError::Broken("the audio track has no codec"))?;
    let codecs = symphonia::default::get_codecs();
    let mut decoder = codecs.make_audio_decoder(parameters, &AudioDecoderOptions::default())?;

    let (mut rate, mut channels) = (0, 0);
    let (mut interleaved, mut block) = (Vec::new(), Vec::new());
    while let Some(packet) = format.next_packet()? {
        if packet.track_id != id {
            continue;
        }
        let decoded = decoder.decode(&packet)?;
        let spec = (decoded.spec().rate(), decoded.spec().channels().count());
        if channels != 0 && spec != (rate, channels) {
            return Err(AudioError::Broken("rate or channels change within the recording"));
        }
        (rate, channels) = spec;
        block.resize(decoded.samples_interleaved(), 0.0f32);
        decoded.copy_to_slice_interleaved(&mut block);
        interleaved.extend_from_slice(&block);
    }
    Clip::from_interleaved(rate, channels, &interleaved)
}

impl From<Error> for AudioError {
    fn from(error: Error) -> Self {
        match error {
            Error::IoError(error) => Self::Read(error.kind()),
            Error::DecodeError(reason) => Self::Broken(reason),
            _ => Self::Unsupported,
        }
    }
}
