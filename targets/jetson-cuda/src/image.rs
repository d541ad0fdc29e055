//! The compiled kernels, one image a generation of GPUs.
//!
//! `build.py` makes them from `cu/` and lists in `images/MANIFEST` what they were made from. A binary made by a
//! newer toolkit is supported only within the driver's major release, hence the toolkits:
//!
//! | image | toolkit | runs on |
//! |---|---|---|
//! | `sm_72` | NVRTC 11.8 | Xavier: JetPack 5 (driver 11.4) |
//! | `sm_87` | NVRTC 11.8 | Orin: JetPack 5 and 6 (drivers 11.4, 12.x) |
//! | `sm_90` | NVRTC 11.8 | H100, H200, which stand in for Jetson in our measurements |
//! | `sm_110` | NVRTC 13.0 | Thor: JetPack 7 (driver 13.0) |

use std::io::Read;

use crate::CudaError;

struct Image {
    name: &'static str,
    capability: (i32, i32),
    compressed: &'static [u8],
}

macro_rules! image {
    ($name:literal, $major:literal, $minor:literal) => {
        Image {
            name: $name,
            capability: ($major, $minor),
            compressed: include_bytes!(concat!("../images/", $name, ".cubin.gz")),
        }
    };
}

static IMAGES: &[Image] =
    &[image!("sm_72", 7, 2), image!("sm_87", 8, 7), image!("sm_90", 9, 0), image!("sm_110", 11, 0)];

/// The image for a GPU of `capability`: of the same major generation, and no newer.
///
/// # Errors
/// [`CudaError::NoImage`].
pub(crate) fn find(capability: (i32, i32)) -> Result<(&'static str, Vec<u8>), CudaError> {
    let fits = |image: &&Image| image.capability.0 == capability.0 && image.capability.1 <= capability.1;
    let image = IMAGES.iter().rfind(fits).ok_or(CudaError::NoImage { capability })?;
    let mut bytes = Vec::new();
    let read = flate2::read::GzDecoder::new(image.compressed).read_to_end(&mut bytes);
    read.map_err(|error| CudaError::Driver(format!("image {}: {error}", image.name)))?;
    Ok((image.name, bytes))
}

/// The names of all images.
pub(crate) fn names() -> String {
    IMAGES.iter().map(|image| image.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jetson_finds_its_image() {
        for (capability, name) in
            [((7, 2), "sm_72"), ((8, 7), "sm_87"), ((9, 0), "sm_90"), ((11, 0), "sm_110")]
        {
            let (found, bytes) = find(capability).unwrap();
            assert_eq!(found, name);
            assert!(bytes.starts_with(b"\x7fELF"), "{name} is no cubin");
        }
        assert_eq!(find((8, 9)).unwrap().0, "sm_87");
        assert_eq!(find((6, 2)).unwrap_err(), CudaError::NoImage { capability: (6, 2) });
        assert_eq!(find((8, 0)).unwrap_err(), CudaError::NoImage { capability: (8, 0) });
    }
}
