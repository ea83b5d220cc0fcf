use heapkeeper::{AnyGc, Gc, Heap, Weak};

fn send<T: Send>() {}
fn sync<T: Sync>() {}

fn main() {
    send::<Gc<u8>>();
    sync::<Gc<u8>>();
    send::<Weak<u8>>();
    send::<AnyGc>();
    send::<Heap>();
    sync::<Heap>();
}
