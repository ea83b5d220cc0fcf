use heapkeeper::{Heap, Trace};

#[derive(Trace)]
#[repr(align(64))]
struct Line([u8; 64]);

fn main() {
    Heap::new().alloc(Line([0; 64]));
}
