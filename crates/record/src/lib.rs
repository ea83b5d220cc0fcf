//! Plain data that outlives a process: what heapkeeper measured, in the shape in which it is shown and stored.
//!
//! Nothing here knows a live heap or an interpreter; the Python face fills these structures, reports and exporters read them.
//! Every field says its unit in its name.

pub mod capture;
mod collector;
mod status;

pub use collector::{
    BackgroundStatus, CollectorStatus, CycleType, GenerationStatus, PauseStatus, PhaseStatus, VerifyStatus,
};
pub use status::{AllocatorStatus, ClassStatus, Frame, HeapStatus, ProcessStatus, ProfileStatus, Site, Status};
