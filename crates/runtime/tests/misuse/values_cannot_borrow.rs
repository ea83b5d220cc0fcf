use heapkeeper::{Gc, Heap, Trace};
use std::cell::Cell;

#[derive(Trace)]
struct Borrows<'a>(#[trace(skip)] &'a Cell<u8>);

fn main() {
    let heap = Heap::new();
    let local = Cell::new(1);
    let handle: Gc<Borrows<'_>> = heap.alloc(Borrows(&local));
    drop(handle);
}
