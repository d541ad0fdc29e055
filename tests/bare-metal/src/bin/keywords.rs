//! MLPerf Tiny's keyword spotter on recorded words, all of them in flash: the device hears in each what the host hears.
//!
//! It fails where the build script found no development data (`INGRAFT_DATA`).
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use ingraft_bare_metal::end::{fail, finish};
use ingraft_bare_metal::file;
use ingraft_bare_metal::hear::hear;
use ingraft_bare_metal::in_flash::Aligned;
use ingraft_bare_metal::learn::Codes;
use ingraft_exec::Session;
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanView};

static PLAN: &Aligned<[u8]> = file!("keywords.plan");
/// Codes of the words.
static WORDS: &Aligned<[u8]> = file!("keywords.codes");
/// The class of each.
static CLASSES: &Aligned<[u8]> = file!("keywords.classes");
/// The class that the host's reference hears in it.
static HEARD: &Aligned<[u8]> = file!("keywords.heard");

include!(concat!(env!("OUT_DIR"), "/keywords.rs"));

#[entry]
fn main() -> ! {
    // cortex-m-rt turns a `static mut` at the top of the entry into a unique borrow.
    static mut MEMORY: Aligned<[u8; BYTES]> = Aligned([0; BYTES]);
    finish(spot(&mut MEMORY.0).is_some())
}

fn spot(memory: &mut [u8]) -> Option<()> {
    let plan = PlanView::new(&PLAN.0).ok()?;
    let target = Host::only("firmware", KERNELS);
    let mut session = Session::bind(plan, Phase::Infer, &target, memory).ok()?;
    let (mut right, mut same, mut window) = (0, 0, [0.0; WINDOW]);
    for (word, (class, heard)) in WORDS.0.chunks_exact(WINDOW).zip(CLASSES.0.iter().zip(&HEARD.0)) {
        let class_here = hear(&mut session, CODES, word, &mut window)?;
        right += usize::from(class_here == usize::from(*class));
        same += usize::from(class_here == usize::from(*heard));
    }
    hprintln!("{} words, {} as on the host; right: {}, {} on the host", CLASSES.0.len(), same, right, RIGHT);
    (same == CLASSES.0.len() && same > 0 && right == RIGHT).then_some(())
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(info)
}
