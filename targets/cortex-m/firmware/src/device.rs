//! The device: one arena in which a plan is run or a head is trained, a pin for the power meter, a clock.

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use ingraft_adapter::{Adapter, TermSource};
use ingraft_exec::{ExecError, Session};
use ingraft_kernel::Host;
use ingraft_plan::{Phase, PlanError, PlanView};
use ingraft_tensor::bytes;

use crate::learn::{LearnError, Room, largest, learn};
use crate::model::{CLASSES, CODES, FEATURE_VALUES, LABELS, LOGITS, PLAN, TARGET, WINDOW, examples};

/// Why the device does not do what it was asked. The base still runs.
#[derive(Clone, Copy, Debug)]
pub enum DeviceError {
    /// The plan was refused.
    Plan(PlanError),
    /// The session refused.
    Exec(ExecError),
    /// Nothing was learned.
    Learn(LearnError),
    /// The pin did not move.
    Pin,
}

impl From<ExecError> for DeviceError {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

/// Everything of the board that inference and training touch.
#[derive(Debug)]
pub struct Device<'m, P, D> {
    plan: PlanView<'static>,
    memory: &'m mut [u8],
    features: &'m mut [f32; FEATURE_VALUES],
    pin: P,
    clock: D,
}

/// The device while it runs the plan: weights checked and bound, memory laid out.
#[derive(Debug)]
pub struct Running<'d, P, D> {
    session: Session<'static, 'd, Host>,
    pin: &'d mut P,
    clock: &'d mut D,
}

impl<'m, P: OutputPin, D: DelayNs> Device<'m, P, D> {
    /// Checks the plan in flash. `memory` starts at a 16-byte boundary and has `MEMORY_BYTES`; less is told by
    /// [`Self::run`] and [`Self::learn`].
    ///
    /// # Errors
    /// [`DeviceError::Plan`].
    pub fn new(
        memory: &'m mut [u8],
        features: &'m mut [f32; FEATURE_VALUES],
        pin: P,
        clock: D,
    ) -> Result<Self, DeviceError> {
        let plan = PlanView::new(&PLAN.0).map_err(DeviceError::Plan)?;
        Ok(Self { plan, memory, features, pin, clock })
    }

    /// The base.
    pub fn plan(&self) -> PlanView<'static> {
        self.plan
    }

    /// Binds the plan for inference.
    ///
    /// # Errors
    /// [`DeviceError::Exec`].
    pub fn run(&mut self) -> Result<Running<'_, P, D>, DeviceError> {
        let session = Session::bind(self.plan, Phase::Infer, &TARGET, self.memory)?;
        Ok(Running { session, pin: &mut self.pin, clock: &mut self.clock })
    }

    /// Trains a head on the stored clips and writes it to `file` as an adapter.
    ///
    /// # Errors
    /// [`DeviceError::Learn`].
    pub fn learn<'f>(
        &mut self,
        input: &mut [f32; WINDOW],
        file: &'f mut [u8],
    ) -> Result<&'f [u8], DeviceError> {
        let room = Room { input, features: self.features };
        learn((self.plan, &TARGET), examples(), (CODES, LABELS), self.memory, room, file)
            .map_err(DeviceError::Learn)
    }
}

impl<P: OutputPin, D: DelayNs> Running<'_, P, D> {
    /// The likeliest class of `window` with `adapter`, or of the base's own without. The pin is high while it computes:
    /// what a power meter waits for (MLPerf Tiny's energy runner).
    ///
    /// # Errors
    /// [`DeviceError::Exec`], [`DeviceError::Pin`].
    pub fn classify(
        &mut self,
        window: &[f32; WINDOW],
        adapter: Option<&Adapter<'_>>,
    ) -> Result<usize, DeviceError> {
        self.session.write_input(0, bytes::of(window))?;
        // The meter sees where the plateau begins.
        self.clock.delay_us(10);
        self.pin.set_high().map_err(|_| DeviceError::Pin)?;
        let done = self.session.run(&adapter);
        self.pin.set_low().map_err(|_| DeviceError::Pin)?;
        done?;
        let lost = DeviceError::Exec(ExecError::Io { index: 0, expected: 0 });
        if adapter.is_some_and(|adapter| adapter.head().is_some()) {
            let mut logits = [0.0; CLASSES];
            self.session.read_logits(0, &mut logits).ok_or(lost)?;
            return Ok(largest(&logits));
        }
        let mut logits = [0.0; LOGITS];
        self.session.read_output(0, bytes::of_mut(&mut logits))?;
        Ok(largest(&logits))
    }

    /// The first output as it stands in memory.
    pub fn output(&self) -> &[u8] {
        self.session.output(0).map_or(&[], |output| output.bytes())
    }
}
