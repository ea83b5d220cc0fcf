//! Counted, cycle-collected objects on a private heap: what a language runtime or an object graph is built on.
//!
//! A [`Gc`] handle is one word and counted. The value it leads to is freed **at once** when its last handle goes; what only
//! cycles hold is freed by a **generational collector**. Both are CPython's rules, also for weak references, finalizers and
//! the order in which programs see all that, on an allocator and a collector that are shared with the Python face of this
//! project.
//!
//! # The first object
//!
//! ```
//! use heapkeeper::{Gc, Heap};
//!
//! let heap = Heap::new();
//! let number = heap.alloc(41);
//! let again = number.clone(); // the same object
//! assert_eq!((*again + 1, Gc::refcount(&number)), (42, 2));
//! drop(number);
//! drop(again); // the object is freed here
//! assert_eq!(heap.stats().objects, 0);
//! ```
//!
//! Everything stays on the thread that made it, as with [`Rc`](std::rc::Rc); handles compare, print and hash as their values
//! do. Functions of the handle itself, such as [`Gc::refcount`], are not methods, so that they never hide the value's.
//!
//! # Values that refer to others
//!
//! A value says which handles it holds: `#[derive(Trace)]` does it, for structs and enums over all that the standard library
//! has. To change a value after it is made, put what changes in a [`Cell`](std::cell::Cell) or
//! [`RefCell`](std::cell::RefCell).
//!
//! ```
//! use heapkeeper::{Gc, Heap, Trace};
//! use std::cell::RefCell;
//!
//! #[derive(Trace)]
//! struct Node {
//!     name: &'static str,
//!     children: RefCell<Vec<Gc<Node>>>,
//! }
//!
//! impl Node {
//!     fn new(heap: &Heap, name: &'static str) -> Gc<Node> {
//!         heap.alloc(Node { name, children: RefCell::new(Vec::new()) })
//!     }
//! }
//!
//! let heap = Heap::new();
//! let root = Node::new(&heap, "root");
//! root.children.borrow_mut().push(Node::new(&heap, "leaf"));
//! assert_eq!(root.children.borrow()[0].name, "leaf");
//! drop(root); // and the leaf with it, at once
//! assert_eq!(heap.stats().objects, 0);
//! ```
//!
//! Lists a million long and deep trees go without overflowing the stack. Types that can hold no handle are not tracked: the
//! collector never looks at them.
//!
//! # Cycles
//!
//! Counts alone would keep two objects that refer to each other. The collector finds them: by itself, as objects are made
//! ([`Heap::set_thresholds`], [`Heap::paused`]), or when asked.
//!
//! ```
//! # use heapkeeper::{Gc, Generation, Heap, Trace};
//! # use std::cell::RefCell;
//! # #[derive(Trace)]
//! # struct Node { name: &'static str, children: RefCell<Vec<Gc<Node>>> }
//! # impl Node {
//! #     fn new(heap: &Heap, name: &'static str) -> Gc<Node> {
//! #         heap.alloc(Node { name, children: RefCell::new(Vec::new()) })
//! #     }
//! # }
//! let heap = Heap::new();
//! let (a, b) = (Node::new(&heap, "a"), Node::new(&heap, "b"));
//! a.children.borrow_mut().push(b.clone());
//! b.children.borrow_mut().push(a.clone());
//! drop((a, b));
//! assert_eq!(heap.stats().objects, 2);
//! assert_eq!(heap.collect(Generation::Old).collected, 2);
//! assert_eq!(heap.stats().objects, 0);
//! ```
//!
//! A new object is in generation 0. One that survives a collection moves on, and is looked at less often. [`Heap::freeze`]
//! takes what a program made at its start out of sight for good.
//!
//! # Weak references
//!
//! A [`Weak`] leads to an object without keeping it. [`Gc::downgrade_with`] adds a callback for its end.
//!
//! ```
//! use heapkeeper::{Gc, Heap};
//! use std::{cell::Cell, rc::Rc};
//!
//! let heap = Heap::new();
//! let page = heap.alloc(String::from("a page that can be made again"));
//! let gone = Rc::new(Cell::new(false));
//! let note = Rc::clone(&gone);
//! let cached = Gc::downgrade_with(&page, move |_| note.set(true));
//! assert_eq!(cached.upgrade().unwrap().len(), 29);
//! drop(page);
//! assert!(gone.get() && cached.upgrade().is_none());
//! ```
//!
//! # Finalizers
//!
//! A [`Finalize`] runs once, before its object goes, and sees it whole: also in a cycle, where a `Drop` may find that its
//! neighbours are [dead](Gc#dead-values) already. It gets a handle; if it keeps one, the object is **resurrected**.
//!
//! ```
//! use heapkeeper::{Finalize, Gc, Generation, Heap, Trace};
//! use std::{cell::RefCell, rc::Rc};
//!
//! #[derive(Trace)]
//! #[trace(finalize)]
//! struct Session {
//!     user: &'static str,
//!     peer: RefCell<Option<Gc<Session>>>,
//!     #[trace(skip)] // no handle in there; what a skipped field holds is never part of a cycle that is collected
//!     log: Rc<RefCell<Vec<String>>>,
//! }
//!
//! impl Finalize for Session {
//!     fn finalize(this: &Gc<Session>) {
//!         let peer = this.peer.borrow();
//!         this.log.borrow_mut().push(format!("{} leaves {}", this.user, peer.as_ref().unwrap().user));
//!     }
//! }
//!
//! let heap = Heap::new();
//! let log = Rc::new(RefCell::new(Vec::new()));
//! let session = |user| heap.alloc(Session { user, peer: RefCell::default(), log: Rc::clone(&log) });
//! let (ann, bob) = (session("ann"), session("bob"));
//! *ann.peer.borrow_mut() = Some(bob.clone());
//! *bob.peer.borrow_mut() = Some(ann.clone());
//! drop((ann, bob));
//! heap.collect(Generation::Old);
//! assert_eq!(*log.borrow(), ["ann leaves bob", "bob leaves ann"]);
//! ```
//!
//! What such code may do, and what happens when it panics, is written at [`Heap::collect`]; whatever it does, safe code never
//! reaches freed memory.
//!
//! # One object for equal values
//!
//! An [`Interner`] keeps one object for all equal values, as long as somebody holds it, and says what that saved.
//! [`SmallInts`] keeps a range of integers for good.
//!
//! ```
//! use heapkeeper::{Gc, Heap, Interner};
//!
//! let heap = Heap::new();
//! let symbols = Interner::strings(&heap);
//! let words: Vec<_> = "to be or not to be".split(' ').map(|word| symbols.get(word)).collect();
//! assert!(Gc::ptr_eq(&words[0], &words[4]));
//! let stats = symbols.stats();
//! assert_eq!((stats.requests, stats.hits, stats.distinct), (6, 2, 4));
//! ```
//!
//! # A small interpreter
//!
//! A function that can call itself is a cycle: its scope holds the function, which holds the scope.
//!
//! ```
//! use heapkeeper::{Gc, Generation, Heap, Interner, Trace};
//! use std::cell::RefCell;
//!
//! type Name = Gc<Box<str>>; // interned: equal names are one object
//!
//! #[derive(Trace)]
//! enum Code {
//!     Number(i64),
//!     Name(Name),
//!     Add(Gc<Code>, Gc<Code>),
//!     IfZero(Gc<Code>, Gc<Code>, Gc<Code>),
//!     Call(Name, Gc<Code>),
//! }
//!
//! #[derive(Clone, Trace)]
//! enum Value {
//!     Number(i64),
//!     Function(Gc<Function>),
//! }
//!
//! #[derive(Trace)]
//! struct Function {
//!     parameter: Name,
//!     body: Gc<Code>,
//!     scope: Gc<Scope>,
//! }
//!
//! #[derive(Trace)]
//! struct Scope {
//!     names: RefCell<Vec<(Name, Value)>>,
//!     outer: Option<Gc<Scope>>,
//! }
//!
//! impl Scope {
//!     fn find(&self, wanted: &Name) -> Value {
//!         match self.names.borrow().iter().find(|(name, _)| Gc::ptr_eq(name, wanted)) {
//!             Some((_, value)) => value.clone(),
//!             None => self.outer.as_ref().expect("no such name").find(wanted),
//!         }
//!     }
//! }
//!
//! fn run(heap: &Heap, code: &Code, scope: &Gc<Scope>) -> Value {
//!     let number = |code: &Gc<Code>| match run(heap, code, scope) {
//!         Value::Number(number) => number,
//!         Value::Function(_) => panic!("not a number"),
//!     };
//!     match code {
//!         Code::Number(number) => Value::Number(*number),
//!         Code::Name(name) => scope.find(name),
//!         Code::Add(a, b) => Value::Number(number(a) + number(b)),
//!         Code::IfZero(condition, then, otherwise) => {
//!             run(heap, if number(condition) == 0 { then } else { otherwise }, scope)
//!         }
//!         Code::Call(name, argument) => {
//!             let Value::Function(function) = scope.find(name) else { panic!("not a function") };
//!             let argument = (function.parameter.clone(), run(heap, argument, scope));
//!             let outer = Some(function.scope.clone());
//!             let inner = heap.alloc(Scope { names: RefCell::new(vec![argument]), outer });
//!             run(heap, &function.body, &inner)
//!         }
//!     }
//! }
//!
//! // sum(n) = if n = 0 then 0 else n + sum(n − 1)
//! let heap = Heap::new();
//! let names = Interner::strings(&heap);
//! let (sum, n) = (names.get("sum"), names.get("n"));
//! let number = |number| heap.alloc(Code::Number(number));
//! let name = || heap.alloc(Code::Name(n.clone()));
//! let rest = heap.alloc(Code::Call(sum.clone(), heap.alloc(Code::Add(name(), number(-1)))));
//! let body = heap.alloc(Code::IfZero(name(), number(0), heap.alloc(Code::Add(name(), rest))));
//!
//! let scope = heap.alloc(Scope { names: RefCell::default(), outer: None });
//! let function = heap.alloc(Function { parameter: n.clone(), body, scope: scope.clone() });
//! scope.names.borrow_mut().push((sum.clone(), Value::Function(function)));
//! let result = run(&heap, &Code::Call(sum.clone(), number(4)), &scope);
//! assert!(matches!(result, Value::Number(10)));
//!
//! drop((scope, sum, n));
//! assert_eq!(heap.collect(Generation::Old).unreachable(), 11); // scope, function, and nine pieces of code
//! assert_eq!(heap.stats().objects, 0); // the names, too
//! ```
//!
//! # Looking inside
//!
//! [`Heap::stats`], [`Heap::objects`], [`Heap::referrers`], [`Heap::where_is`] (arena, pool, block, generation),
//! [`Heap::on_collection`]. A [limit](HeapBuilder::limit) makes [`Heap::try_alloc`] give the value back instead of taking more
//! memory. [`Heap::verify`] finds what a hand-written [`Trace`](trait@Trace) forgot.
//!
//! # Where the code is
//!
//! `heap.rs` and `destroy.rs` are the two ends of the hot path: allocating and freeing. `header.rs` is the layout of an
//! object, `model.rs` what the collector is told of it, `inner.rs` the state behind a heap and how long it lasts.
#![warn(missing_docs)]

// The derive names this crate.
extern crate self as heapkeeper;

// What the README shows compiles, and does what it says.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod any;
mod control;
mod destroy;
mod era;
mod error;
mod finalize;
mod gc;
mod header;
mod heap;
mod impls;
mod inner;
mod inspect;
mod intern;
mod model;
mod panics;
mod place;
mod poison;
mod small_ints;
mod spares;
mod suspects;
mod trace;
mod verify;
mod weak;

pub use any::AnyGc;
pub use control::{CallbackId, CollectionInfo, Paused, Phase, Stats};
pub use error::{BuildError, OutOfMemory, WrongHeap};
pub use finalize::Finalize;
pub use gc::Gc;
pub use heap::{Heap, HeapBuilder};
pub use heapkeeper_derive::Trace;
pub use heapkeeper_gc::{Generation, GenerationStats, Outcome, Pauses, PhaseTimes, Telemetry};
pub use inspect::Place;
pub use intern::{InternStats, Interner};
pub use small_ints::SmallInts;
pub use trace::{Trace, Tracer};
pub use verify::Mistake;
pub use weak::Weak;

#[cfg(test)]
mod tests;

/// What the derive's code needs.
#[doc(hidden)]
pub mod derive {
    pub use crate::trace::Depth;
}
