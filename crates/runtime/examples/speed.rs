//! A first look at the speed of the hot paths; `make bench-runtime` compares with other crates.
use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

use heapkeeper::{Gc, Generation, Heap, Trace};

#[derive(Trace)]
struct Node {
    next: RefCell<Option<Gc<Node>>>,
    #[allow(dead_code)]
    data: [u64; 2],
}

struct Plain {
    _next: RefCell<Option<std::rc::Rc<Plain>>>,
    _data: [u64; 2],
}

#[inline(never)]
fn alloc_and_drop(heap: &Heap, n: usize) {
    for i in 0..n as u64 {
        black_box(heap.alloc(Node { next: RefCell::new(None), data: [i; 2] }));
    }
}

fn time(name: &str, n: usize, mut run: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_nanos() as f64 / n as f64);
    }
    println!("{name:40} {best:8.2} ns");
}

fn main() {
    let which = std::env::args().nth(1);
    let wanted = |name: &str| which.as_deref().is_none_or(|w| w == name);
    let heap = Heap::new();
    let n = 10_000_000;
    if wanted("drop") {
        time("alloc and drop", n, || alloc_and_drop(&heap, n));
    }
    if wanted("drop1") {
        let _kept = heap.alloc(Node { next: RefCell::new(None), data: [0; 2] });
        time("alloc and drop beside another", n, || alloc_and_drop(&heap, n));
    }
    if wanted("leaf") {
        time("alloc and drop, leaf", n, || {
            for i in 0..n as u64 {
                black_box(heap.alloc([i; 4]));
            }
        });
    }
    if wanted("rc") {
        time("Rc alloc and drop", n, || {
            for i in 0..n as u64 {
                black_box(std::rc::Rc::new(Plain { _next: RefCell::new(None), _data: [i; 2] }));
            }
        });
    }
    if wanted("keep") {
        let m = 1_000_000;
        time("keep a million, then drop", m, || {
            let kept: Vec<_> =
                (0..m as u64).map(|i| heap.alloc(Node { next: RefCell::new(None), data: [i; 2] })).collect();
            black_box(&kept);
        });
        time("Rc keep a million", m, || {
            let kept: Vec<_> =
                (0..m as u64).map(|i| std::rc::Rc::new(Plain { _next: RefCell::new(None), _data: [i; 2] })).collect();
            black_box(&kept);
        });
    }
    if wanted("cycles") {
        let pairs = 1_000_000;
        time("two-object cycles, an object", 2 * pairs, || {
            for i in 0..pairs as u64 {
                let a = heap.alloc(Node { next: RefCell::new(None), data: [i; 2] });
                let b = heap.alloc(Node { next: RefCell::new(Some(a.clone())), data: [i; 2] });
                *a.next.borrow_mut() = Some(b);
            }
            heap.collect(Generation::Old);
        });
        println!("{:?}", heap.stats().collections.phases);
    }
    if wanted("list") {
        let m = 1_000_000;
        time("list of a million", m, || {
            let mut list = None;
            for i in 0..m as u64 {
                list = Some(heap.alloc(Node { next: RefCell::new(list), data: [i; 2] }));
            }
            drop(list);
        });
    }
    if wanted("clone") {
        let node = heap.alloc(Node { next: RefCell::new(None), data: [0; 2] });
        time("clone and drop", n, || {
            for _ in 0..n {
                black_box(node.clone());
            }
        });
    }
}
