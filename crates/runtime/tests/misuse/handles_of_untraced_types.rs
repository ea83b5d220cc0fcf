use heapkeeper::{Gc, Heap};

struct NotTraced;

fn keep(_: Gc<NotTraced>) {}

fn main() {
    Heap::new().alloc(NotTraced);
}
