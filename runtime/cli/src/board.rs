//! What a Jetson says of itself: its release, power mode and clocks, where they can be read.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// A board at a moment; what cannot be read is null.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Board {
    /// The release of Jetson Linux, as in `36.4.3`.
    pub(crate) jetson_linux: Option<String>,
    /// The JetPack that it is part of, as in `6`.
    pub(crate) jetpack: Option<u32>,
    /// The power mode that `nvpmodel` set.
    pub(crate) power_mode: Option<String>,
    /// Clock of the GPU in MHz, now and at the most.
    pub(crate) gpu_mhz: Option<[u64; 2]>,
    /// Clock of the first core in MHz, now and at the most.
    pub(crate) cpu_mhz: Option<[u64; 2]>,
}

impl Board {
    /// The board below the root directory `root`; `None` where it is no Jetson.
    pub(crate) fn read(root: &Path) -> Option<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let named = text("etc/nv_tegra_release")?;
        let (major, revision) = release(&named)?;
        let mode = text("var/lib/nvpmodel/status").as_deref().and_then(mode);
        let name = |mode| mode_name(&text("etc/nvpmodel.conf")?, mode);
        let pair =
            |now: &str, most: &str, unit| Some([clock(&text(now)?, unit)?, clock(&text(most)?, unit)?]);
        let gpu = gpu(root);
        let gpu = gpu.and_then(|gpu| pair(&format!("{gpu}/cur_freq"), &format!("{gpu}/max_freq"), HERTZ));
        let core = "sys/devices/system/cpu/cpu0/cpufreq";
        let (now, most) = (format!("{core}/scaling_cur_freq"), format!("{core}/scaling_max_freq"));
        Some(Self {
            jetson_linux: Some(format!("{major}.{revision}")),
            jetpack: jetpack(major),
            power_mode: mode.map(|mode| name(mode).unwrap_or_else(|| mode.to_string())),
            gpu_mhz: gpu,
            cpu_mhz: pair(&now, &most, KILOHERTZ),
        })
    }
}

/// Of units in a MHz.
const HERTZ: u64 = 1_000_000;
const KILOHERTZ: u64 = 1_000;

/// Release and revision, in the first line of `/etc/nv_tegra_release`.
fn release(text: &str) -> Option<(u32, &str)> {
    let line = text.lines().find(|line| line.contains("REVISION:"))?;
    let major = line.trim_start_matches(['#', ' ']).strip_prefix('R')?.split_whitespace().next()?;
    let revision = line.split("REVISION:").nth(1)?.split(',').next()?.trim();
    Some((major.parse().ok()?, revision))
}

/// The JetPack of a release.
fn jetpack(major: u32) -> Option<u32> {
    [(32, 4), (34, 5), (35, 5), (36, 6), (38, 7)]
        .iter()
        .find(|(of, _)| *of == major)
        .map(|(_, jetpack)| *jetpack)
}

/// The number of the power mode, in nvpmodel's status: `pmode:0002 fmode:quiet`.
fn mode(status: &str) -> Option<u32> {
    status.split_whitespace().find_map(|word| word.strip_prefix("pmode:"))?.parse().ok()
}

/// The name of power mode `mode`, in nvpmodel's configuration: `< POWER_MODEL ID=2 NAME=MODE_15W >`.
fn mode_name(conf: &str, mode: u32) -> Option<String> {
    let models =
        conf.lines().map(str::trim).filter(|line| line.starts_with('<') && line.contains("POWER_MODEL"));
    models.into_iter().find_map(|line| {
        let value = |key: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(key)).map(|v| v.trim_end_matches('>'))
        };
        (value("ID=")?.parse() == Ok(mode)).then(|| value("NAME=").map(str::to_owned))?
    })
}

/// A clock in MHz, of a file with one number.
fn clock(text: &str, unit: u64) -> Option<u64> {
    Some(text.trim().parse::<u64>().ok()? / unit)
}

/// Where the integrated GPU's clocks are, below the root directory.
fn gpu(root: &Path) -> Option<String> {
    const FOLDER: &str = "sys/class/devfreq";
    let entries = fs::read_dir(root.join(FOLDER)).ok()?.filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let known = |name: &&String| ["gpu", "gv11b", "ga10b", "gb10b"].iter().any(|gpu| name.ends_with(gpu));
    names.iter().find(known).map(|name| format!("{FOLDER}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_those_of_jetson_linux() {
        let orin = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n";
        assert_eq!(release(orin), Some((36, "4.3")));
        let xavier = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023";
        assert_eq!(release(xavier), Some((35, "4.1")));
        assert_eq!((jetpack(35), jetpack(36), jetpack(38), jetpack(99)), (Some(5), Some(6), Some(7), None));
        for other in ["", "# R36", "R (release), REVISION: 4", "# Rx (release), REVISION: 1.0"] {
            assert_eq!(release(other), None, "{other}");
        }
    }

    #[test]
    fn power_modes_have_names() {
        let conf = "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MODE_15W >\n< PM_CONFIG DEFAULT=2 >\n";
        assert_eq!(mode("pmode:0002 fmode:quiet"), Some(2));
        assert_eq!(mode("fmode:quiet"), None);
        assert_eq!(mode_name(conf, 2).as_deref(), Some("MODE_15W"));
        assert_eq!(mode_name(conf, 0).as_deref(), Some("MAXN"));
        assert_eq!(mode_name(conf, 1), None);
    }

    #[test]
    fn a_board_is_read_from_its_files() {
        let root = std::env::temp_dir().join(format!("ingraft-board-{}", std::process::id()));
        let files = [
            ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n"),
            ("etc/nvpmodel.conf", "< POWER_MODEL ID=1 NAME=15W >\n"),
            ("var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n"),
            ("sys/class/devfreq/15340000.vic/cur_freq", "1\n"),
            ("sys/class/devfreq/17000000.gpu/cur_freq", "612000000\n"),
            ("sys/class/devfreq/17000000.gpu/max_freq", "918000000\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "729600\n"),
        ];
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a temporary folder can be made");
            fs::write(path, text).expect("a temporary file can be written");
        }
        let found = Board::read(&root);
        fs::remove_dir_all(&root).expect("what was made can be removed");
        let wanted = Board {
            jetson_linux: Some("36.4.3".to_owned()),
            jetpack: Some(6),
            power_mode: Some("15W".to_owned()),
            gpu_mhz: Some([612, 918]),
            cpu_mhz: None,
        };
        assert_eq!(found, Some(wanted));
        assert_eq!(Board::read(&root), None, "no board");
    }
}
