use heapkeeper::{Gc, Trace};
use std::rc::Rc;

struct NotTraced;

#[derive(Trace)]
struct SharedCell {
    shared: Rc<Option<Gc<SharedCell>>>,
}

#[derive(Trace)]
enum Mixed {
    Plain(NotTraced),
    Borrowed(&'static NotTraced),
    Closure { call: Box<dyn Fn()> },
}

fn main() {}
