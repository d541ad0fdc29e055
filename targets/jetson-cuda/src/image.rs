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
//! | `compute_72` | NVRTC 11.8 | any other GPU from 7.2 on: PTX, which the driver compiles when it is loaded and then keeps |

use std::io::Read;

use crate::CudaError;

/// Kernels, compressed.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) name: &'static str,
    /// What the kernels were compiled for, major and minor.
    pub(crate) capability: (i32, i32),
    compressed: &'static [u8],
}

macro_rules! image {
    ($file:literal, $name:literal, $major:literal, $minor:literal) => {
        Image {
            name: $name,
            capability: ($major, $minor),
            compressed: include_bytes!(concat!("../images/", $file, ".gz")),
        }
    };
}

static IMAGES: &[Image] = &[
    image!("sm_72.cubin", "sm_72", 7, 2),
    image!("sm_87.cubin", "sm_87", 8, 7),
    image!("sm_90.cubin", "sm_90", 9, 0),
    image!("sm_110.cubin", "sm_110", 11, 0),
];

static PORTABLE: Image = image!("compute_72.ptx", "compute_72", 7, 2);

impl Image {
    /// That for a GPU of `capability`: machine code of the same major generation and no newer, or what the driver compiles.
    ///
    /// # Errors
    /// [`CudaError::NoImage`].
    pub(crate) fn find(capability: (i32, i32)) -> Result<&'static Self, CudaError> {
        let fits = |image: &&Self| image.capability.0 == capability.0 && image.capability.1 <= capability.1;
        IMAGES.iter().rfind(fits).map_or_else(|| Self::portable(capability), Ok)
    }

    /// What the driver compiles for a GPU of `capability`.
    ///
    /// # Errors
    /// [`CudaError::NoImage`].
    pub(crate) fn portable(capability: (i32, i32)) -> Result<&'static Self, CudaError> {
        let runs = capability >= PORTABLE.capability;
        runs.then_some(&PORTABLE).ok_or(CudaError::NoImage { capability })
    }

    /// What the driver loads.
    ///
    /// # Errors
    /// [`CudaError::Driver`] when the compressed bytes are damaged.
    pub(crate) fn load(&self) -> Result<Vec<u8>, CudaError> {
        let mut bytes = Vec::new();
        let read = flate2::read::GzDecoder::new(self.compressed).read_to_end(&mut bytes);
        read.map_err(|error| CudaError::Driver(format!("image {}: {error}", self.name)))?;
        Ok(bytes)
    }
}

/// The names of all images.
pub(crate) fn names() -> String {
    IMAGES.iter().chain([&PORTABLE]).map(|image| image.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board with a JetPack of it.
    struct Jetson {
        jetpack: u32,
        /// The CUDA of its driver.
        driver: (u32, u32),
        capability: (i32, i32),
        image: &'static str,
    }

    const JETSONS: [Jetson; 4] = [
        Jetson { jetpack: 5, driver: (11, 4), capability: (7, 2), image: "sm_72" },
        Jetson { jetpack: 5, driver: (11, 4), capability: (8, 7), image: "sm_87" },
        Jetson { jetpack: 6, driver: (12, 2), capability: (8, 7), image: "sm_87" },
        Jetson { jetpack: 7, driver: (13, 0), capability: (11, 0), image: "sm_110" },
    ];

    /// The toolkit that made an image, as `build.py` wrote it down.
    fn toolkit(name: &str) -> (u32, u32) {
        let line = include_str!("../images/MANIFEST").lines().find_map(|line| line.strip_prefix(name));
        let version = line.and_then(|line| line.split_whitespace().next()).unwrap();
        let (major, minor) = version.split_once('.').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    }

    #[test]
    fn every_jetson_finds_an_image_that_its_driver_takes() {
        for Jetson { jetpack, driver, capability, image } in JETSONS {
            let found = Image::find(capability).unwrap();
            assert_eq!(found.name, image, "JetPack {jetpack}");
            assert!(found.load().unwrap().starts_with(b"\x7fELF"), "{image} is no cubin");
            let made = toolkit(image);
            assert!(made <= driver || made.0 == driver.0, "{image} is newer than JetPack {jetpack}");
        }
        assert_eq!(Image::find((9, 0)).unwrap().name, "sm_90");
        assert_eq!(Image::find((8, 9)).unwrap().name, "sm_87");
    }

    #[test]
    fn other_gpus_find_what_their_driver_compiles() {
        for capability in [(7, 5), (8, 0), (8, 6), (10, 1), (12, 0)] {
            let found = Image::find(capability).unwrap();
            assert_eq!(found.name, if capability.0 == 7 { "sm_72" } else { "compute_72" }, "{capability:?}");
        }
        let text = PORTABLE.load().unwrap();
        assert!(text.windows(13).any(|part| part == b".target sm_72"), "no PTX of 7.2");
        assert_eq!(text.last(), Some(&0), "the driver looks for the end of the text");
        assert_eq!(Image::find((6, 2)).unwrap_err(), CudaError::NoImage { capability: (6, 2) });
    }
}
