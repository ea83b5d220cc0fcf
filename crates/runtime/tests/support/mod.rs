//! What the tests share: a heap that must be empty, or whose rest is named, when a test is over.
#![allow(dead_code, reason = "each test uses its part")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use heapkeeper::{Gc, Generation, Heap, Trace};

/// Run a test on a heap that collects by hand only. Afterwards nothing is left, and the heap's tables agree.
pub fn on_heap(test: impl FnOnce(&Heap)) {
    leaving(&[], test);
}

/// The same; afterwards these types' objects are left, each as often as named.
pub fn leaving(names: &[&str], test: impl FnOnce(&Heap)) {
    let heap = Heap::new();
    heap.disable();
    test(&heap);
    heap.check().unwrap();
    for _ in 0..4 {
        heap.collect(Generation::Old);
    }
    heap.check().unwrap();
    let stats = heap.stats();
    let mut left: Vec<&str> = heap.objects(None).iter().map(|object| object.type_name()).collect();
    left.iter_mut().for_each(|name| *name = name.rsplit("::").next().unwrap());
    left.sort_unstable();
    assert_eq!(left, names, "tracked objects left");
    assert_eq!(stats.objects, left.len(), "untracked objects left");
}

/// A node of a graph, which says when it is dropped.
#[derive(Trace)]
pub struct Node {
    pub name: u32,
    pub edges: RefCell<Vec<Gc<Node>>>,
    #[trace(skip)]
    dropped: Dropped,
}

/// Names in the order in which they were dropped.
#[derive(Clone, Default)]
pub struct Dropped(Rc<RefCell<Vec<u32>>>);

impl Dropped {
    pub fn node(&self, heap: &Heap, name: u32) -> Gc<Node> {
        heap.alloc(Node { name, edges: RefCell::default(), dropped: self.clone() })
    }

    /// A ring of so many, held by the handle alone.
    pub fn ring(&self, heap: &Heap, length: u32) -> Gc<Node> {
        let first = self.node(heap, 0);
        let mut last = first.clone();
        for name in 1..length {
            let next = self.node(heap, name);
            last.link(&next);
            last = next;
        }
        last.link(&first);
        first
    }

    pub fn note(&self, name: u32) {
        self.0.borrow_mut().push(name);
    }

    /// What was dropped since the last call.
    pub fn take(&self) -> Vec<u32> {
        self.0.take()
    }
}

impl Node {
    pub fn link(&self, to: &Gc<Node>) {
        self.edges.borrow_mut().push(to.clone());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dropped.note(self.name);
    }
}

/// Runs a closure when it is dropped: code in the middle of a collection or of freeing.
pub struct OnDrop(Cell<Option<Box<dyn FnOnce()>>>);

impl OnDrop {
    pub fn new(code: impl FnOnce() + 'static) -> OnDrop {
        OnDrop(Cell::new(Some(Box::new(code))))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(code) = self.0.take() {
            code();
        }
    }
}
