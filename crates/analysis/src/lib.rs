//! What heapkeeper's records mean: reports made from plain data.
//!
//! Nothing here sees a live heap. A [`heapkeeper_record::Status`] comes in, from this process or from
//! a JSON file of another machine, and text comes out; so every report can be tested, and looked at,
//! without Python. The Python face calls [`report::render`] at exit.

pub mod capture;
pub mod export;
pub mod flame;
pub mod report;
pub mod stacks;

pub use report::diff;
