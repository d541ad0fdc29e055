//! From a sample producer to the window that a model hears: a queue without locks between an interrupt and the loop.

use core::sync::atomic::{AtomicU32, Ordering};

use heapless::spsc::{Consumer, Producer, Queue};

use crate::learn::Codes;
use crate::model::{CODES, FRAME, WINDOW};

/// Codes of one frame: what the front end makes of one hop of samples.
pub type Frame = [i8; FRAME];
/// Frames that wait at most: a third of a window.
pub type Frames = Queue<Frame, 32>;

/// Frames that found the queue full since the start.
static LOST: AtomicU32 = AtomicU32::new(0);

/// The end of the queue that an interrupt feeds, one frame at a time.
///
/// Here it plays a stored clip. On a board this is where the samples have passed the front end
/// (`ingraft_signal::Stream`).
pub struct Sensor {
    frames: Producer<'static, Frame>,
    clip: &'static [i8],
}

/// The end of the queue that the loop hears.
pub struct Listener {
    frames: Consumer<'static, Frame>,
}

/// Frames were lost because the loop was late: the window is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// How many were lost.
    pub frames: u32,
}

/// Both ends of `queue`.
pub fn split(queue: &'static mut Frames) -> (Sensor, Listener) {
    let (producer, consumer) = queue.split();
    (Sensor { frames: producer, clip: &[] }, Listener { frames: consumer })
}

impl Sensor {
    /// Begins to play `clip`.
    pub fn play(&mut self, clip: &'static [i8]) {
        self.clip = clip;
    }

    /// Whether a clip is still played.
    pub fn is_playing(&self) -> bool {
        self.clip.len() >= FRAME
    }

    /// Called by the interrupt: the next frame, lost where the queue is full. A sensor does not wait.
    pub fn tick(&mut self) {
        let Some((frame, rest)) = self.clip.split_first_chunk::<FRAME>() else { return };
        self.clip = rest;
        if self.frames.enqueue(*frame).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Listener {
    /// Hears one window and writes its values to `values`; `wait` is called while there is no frame.
    ///
    /// # Errors
    /// [`Overrun`], after which the queue is empty.
    pub fn window(&mut self, values: &mut [f32; WINDOW], mut wait: impl FnMut()) -> Result<(), Overrun> {
        hear(&mut self.frames, CODES, values, &mut wait)
    }
}

fn hear(
    frames: &mut Consumer<'static, Frame>,
    codes: Codes,
    values: &mut [f32; WINDOW],
    wait: &mut dyn FnMut(),
) -> Result<(), Overrun> {
    for slot in values.chunks_exact_mut(FRAME) {
        let frame = loop {
            let lost = LOST.swap(0, Ordering::Relaxed);
            if lost != 0 {
                while frames.dequeue().is_some() {}
                return Err(Overrun { frames: lost });
            }
            match frames.dequeue() {
                Some(frame) => break frame,
                None => wait(),
            }
        };
        codes.read(&frame, slot);
    }
    Ok(())
}
