//! The crates, a file each: how its objects are made, and how it collects in the way its documentation asks for.

mod bacon_rajan_cc;
mod dumpster;
mod gc;
mod gc_arena;
mod heapkeeper;
mod rc;
mod rust_cc;

use crate::handles::Handles;

pub type Heapkeeper = Handles<::heapkeeper::Heap>;
pub type Rc = Handles<rc::Thread>;
pub type GcArena = gc_arena::Collected;
pub type Dumpster = Handles<dumpster::Thread>;
pub type RustCc = Handles<rust_cc::Thread>;
pub type Gc = Handles<gc::Thread>;
pub type BaconRajanCc = Handles<bacon_rajan_cc::Thread>;
