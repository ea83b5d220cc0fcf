use heapkeeper::{Gc, Trace};

#[derive(Trace)]
#[trace(skip)]
struct SkipOnType(u8);

#[derive(Trace)]
struct FinalizeOnField(#[trace(finalize)] u8);

#[derive(Trace)]
struct Unknown(#[trace(ignore)] u8);

#[derive(Trace)]
#[trace(finalise)]
struct Misspelled(u8);

#[derive(Trace)]
#[repr(C, packed)]
struct Packed(Gc<u8>);

#[derive(Trace)]
#[trace(finalize)]
struct NoFinalizer(u8);

fn main() {}
