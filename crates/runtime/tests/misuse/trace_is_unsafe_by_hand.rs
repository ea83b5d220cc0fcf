use heapkeeper::{Trace, Tracer};

struct ByHand;

impl Trace for ByHand {
    fn trace(&self, _: &mut Tracer<'_>) {}
}

fn main() {}
