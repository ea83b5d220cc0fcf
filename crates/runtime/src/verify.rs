//! The verifier: finds handles that a hand-written [`Trace`] does not visit, or visits twice; and whether the heap's own
//! tables agree with each other.
//!
//! It looks at every object's block word by word. A word that is the address of a live object, where no visited handle
//! stands, in a part that is not skipped on purpose, is a handle that was forgotten, if the object has more handles than
//! all traces together account for; or a number that looks like one.

use core::fmt;
use std::collections::{HashMap, HashSet};

use crate::header::{DEAD, HAS_WEAK, ObjectPtr, SUSPECT};
use crate::heap::Heap;
use crate::inner::Inner;
use crate::suspects::Suspects;
use crate::trace::{Edge, Tracer};

/// What a type's [`Trace`](trait@crate::Trace) seems to do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mistake {
    /// A handle is not visited: cycles through it are never collected.
    Missed {
        /// The type of the value that holds it.
        type_name: &'static str,
        /// Where it stands, in bytes from the start of the value.
        offset_bytes: usize,
        /// The type of what it leads to.
        target: &'static str,
    },
    /// A weak reference is not visited: its callback is called even if it goes in the same collection as its object.
    MissedWeak {
        /// The type of the value that holds it.
        type_name: &'static str,
        /// Where it stands, in bytes from the start of the value.
        offset_bytes: usize,
    },
    /// A handle is visited twice. **A collection could free what is in use.**
    VisitedTwice {
        /// The type of the value that holds it.
        type_name: &'static str,
        /// The type of what it leads to.
        target: &'static str,
    },
    /// An object is visited more often than there are handles to it. **A collection could free what is in use.**
    VisitedTooOften {
        /// The type of the object.
        target: &'static str,
        /// Visits, by all objects together.
        visits: usize,
        /// Handles that there are.
        refcount: usize,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Missed { type_name, offset_bytes, target } => {
                write!(f, "{type_name}: the handle to {target} at byte {offset_bytes} of the value is not visited")
            }
            Mistake::MissedWeak { type_name, offset_bytes } => {
                write!(f, "{type_name}: the weak reference at byte {offset_bytes} of the value is not visited")
            }
            Mistake::VisitedTwice { type_name, target } => {
                write!(f, "{type_name}: a handle to {target} is visited twice")
            }
            Mistake::VisitedTooOften { target, visits, refcount } => {
                write!(f, "{target}: visited {visits} times, but {refcount} handles lead to it")
            }
        }
    }
}

impl Heap {
    /// Compare what every object's [`Trace`](trait@crate::Trace) visits with what its block holds. For tests of hand-written
    /// implementations; derived ones make no mistakes. Takes time in proportion to the heap, and memory for a few words an
    /// object.
    ///
    /// What the value owns elsewhere (a `Vec`'s buffer) is not looked into. A word that looks like a handle and is none may
    /// be named (padding keeps what was there before), if the object it seems to lead to is held from outside the heap; so
    /// may one that looks like a weak reference.
    ///
    /// ```
    /// use heapkeeper::{Gc, Heap, Mistake, Trace, Tracer};
    ///
    /// struct Pair(Gc<u64>, Gc<u64>);
    ///
    /// // SAFETY: visits a handle that the value owns, once. It forgets the other one.
    /// unsafe impl Trace for Pair {
    ///     fn trace(&self, tracer: &mut Tracer<'_>) {
    ///         tracer.visit(&self.0);
    ///     }
    /// }
    ///
    /// let heap = Heap::new();
    /// let _pair = heap.alloc(Pair(heap.alloc(1), heap.alloc(2)));
    /// let mistakes = heap.verify();
    /// assert!(matches!(mistakes[..], [Mistake::Missed { offset_bytes: 8, .. }]));
    /// ```
    pub fn verify(&self) -> Vec<Mistake> {
        // SAFETY: the state is alive as long as a `Heap`; no program code runs.
        let inner = unsafe { &*self.inner() };
        let views = views(inner);
        // Handles that are visited, and those in parts that are skipped, by what they lead to.
        let (mut visits, mut skipped) = (HashMap::<usize, usize>::new(), HashMap::<usize, usize>::new());
        for view in &views {
            for edge in &view.edges {
                if let Edge::Counted { child, .. } = edge {
                    *visits.entry(child.address().addr()).or_default() += 1;
                }
            }
            view.for_each_word(|place, word| {
                if view.is_skipped(place) {
                    *skipped.entry(word).or_default() += 1;
                }
            });
        }
        let targets: HashMap<usize, ObjectPtr> =
            views.iter().map(|view| (view.object.address().addr(), view.object)).collect();
        let mut cells = HashSet::new();
        inner.weak.visit(|cell| {
            cells.insert(cell.address());
        });

        let mut mistakes = Vec::new();
        for (address, visits) in &visits {
            if let Some(target) = targets.get(address)
                && *visits > target.refcount()
            {
                let refcount = target.refcount();
                mistakes.push(Mistake::VisitedTooOften { target: name(*target), visits: *visits, refcount });
            }
        }
        for view in &views {
            view.find_twice(&mut mistakes);
            view.find_missed(
                &mut mistakes,
                |word| {
                    let target = *targets.get(&word)?;
                    let visited: usize = [&visits, &skipped].iter().filter_map(|known| known.get(&word)).sum();
                    (target.refcount() > visited).then_some(target)
                },
                |word| cells.contains(&word),
            );
        }
        mistakes
    }

    /// Whether all that the heap knows of its objects fits together: blocks, counters, generations, weak references. For
    /// tests.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        // SAFETY: as above.
        let inner = unsafe { &*self.inner() };
        inner.blocks.check().map_err(|fault| format!("{fault:?}"))?;
        if !inner.collector.is_collecting() && !inner.collector.is_valid(&inner.blocks) {
            return Err("a counter of the collector is left".into());
        }
        let mut fault = None;
        let (mut suspects, mut tracked) = (0, [0; 4]);
        inner.visit_objects(|object| {
            let generation = object.generation();
            if let Some(generation) = generation {
                tracked[generation.index()] += 1;
            }
            let with_bit = generation.filter(|generation| object.has(SUSPECT) && Suspects::has(*generation));
            suspects += usize::from(with_bit.is_some());
            if !inner.suspects.is_valid(object.address(), with_bit) {
                fault = Some(format!("{}: its bit among the suspects is wrong", name(object)));
            }
            if object.has(HAS_WEAK) != (inner.weak.count(object) > 0) {
                fault = Some(format!("{}: its weak references are not what its header says", name(object)));
            }
        });
        if tracked != inner.collector.pace().alive() {
            fault = Some(format!("{tracked:?} objects by generation, counted as {:?}", inner.collector.pace().alive()));
        }
        // SAFETY: as above; the borrow of the state is over.
        let bits = unsafe { (*self.inner()).suspects.len() };
        if suspects != bits {
            fault = Some(format!("{bits} bits for {suspects} suspects of generations 0 and 1"));
        }
        fault.map_or(Ok(()), Err)
    }
}

fn name(object: ObjectPtr) -> &'static str {
    (object.vtable().type_name)()
}

/// What a trace says of an object.
struct View {
    object: ObjectPtr,
    edges: Vec<Edge>,
}

/// Every object whose value is whole.
fn views(inner: &Inner) -> Vec<View> {
    let mut views = Vec::new();
    inner.visit_objects(|object| {
        if object.count() != 0 && !object.has(DEAD) {
            let mut edges = Vec::new();
            // SAFETY: the value is whole.
            unsafe { (object.vtable().trace)(object, &mut Tracer::each(&mut |edge| edges.push(edge))) };
            views.push(View { object, edges });
        }
    });
    views
}

impl View {
    fn find_twice(&self, mistakes: &mut Vec<Mistake>) {
        let mut seen = HashSet::new();
        for edge in &self.edges {
            if let Edge::Counted { child, place } = edge
                && !seen.insert(*place)
            {
                mistakes.push(Mistake::VisitedTwice { type_name: name(self.object), target: name(*child) });
            }
        }
    }

    /// Scan the value. `handle` says what a word leads to, if it is a handle that is not accounted for.
    fn find_missed(
        &self,
        mistakes: &mut Vec<Mistake>,
        handle: impl Fn(usize) -> Option<ObjectPtr>,
        is_cell: impl Fn(usize) -> bool,
    ) {
        self.for_each_word(|place, word| {
            let (target, is_cell) = (handle(word), is_cell(word));
            if target.is_none() && !is_cell || self.is_visited(place) || self.is_skipped(place) {
                return;
            }
            let type_name = name(self.object);
            let offset_bytes = place.addr() - self.object.value::<u8>().addr();
            mistakes.push(match target {
                Some(target) => Mistake::Missed { type_name, offset_bytes, target: name(target) },
                None => Mistake::MissedWeak { type_name, offset_bytes },
            });
        });
    }

    /// Call `visit` with the place and content of each word of the value.
    fn for_each_word(&self, mut visit: impl FnMut(*const u8, usize)) {
        let start = self.object.value::<u8>();
        for word in 0..self.object.vtable().value_bytes / size_of::<usize>() {
            let place = start.wrapping_add(word * size_of::<usize>());
            // SAFETY: inside the block, and aligned: values stand at multiples of 16.
            visit(place, unsafe { read_word(place.cast()) });
        }
    }

    fn is_visited(&self, at: *const u8) -> bool {
        self.edges.iter().any(|edge| match edge {
            Edge::Counted { place, .. } | Edge::Weak { place, .. } => place.addr() == at.addr(),
            Edge::Skipped { .. } => false,
        })
    }

    /// Whether what stands there is left out on purpose.
    fn is_skipped(&self, at: *const u8) -> bool {
        self.edges.iter().any(|edge| match edge {
            Edge::Skipped { place, bytes } => at.addr().wrapping_sub(place.addr()) < *bytes,
            Edge::Counted { .. } | Edge::Weak { .. } => false,
        })
    }
}

/// Read a word that may be padding, which nothing was ever written to. In assembly: to Rust such a word has no value, to the
/// machine it has.
///
/// # Safety
/// The word lies in memory that is there.
unsafe fn read_word(place: *const usize) -> usize {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let word: usize;
        // SAFETY: a load of memory that is there, by the caller's word; it changes nothing.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!("mov {word}, [{place}]", word = out(reg) word, place = in(reg) place,
                options(nostack, preserves_flags, readonly));
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!("ldr {word}, [{place}]", word = out(reg) word, place = in(reg) place,
                options(nostack, preserves_flags, readonly));
        }
        word
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    // SAFETY: by the caller's word; volatile, so that nothing is concluded from it.
    unsafe {
        place.read_volatile()
    }
}
