//! The mark pass: what is known to be alive leads to.
//!
//! A cursor sweeps over the candidates in address order and traces each that is reached. A child that was not reached so
//! far is reached now; if it lies ahead, the cursor will come by, and nothing else is done; if it lies behind, it is queued.
//!
//! The queue is a FIFO of [`FIFO`] objects, each prefetched as it enters, over a stack (Cher, Hosking, Vitek: Software
//! prefetching for mark-sweep garbage collection, ISMM 2004). What is in the FIFO stays there while the cursor goes on, so
//! that memory has time to arrive. Where bits say what is reached, children wait in the same way before that: the last [`LOOKS`]
//! are still to be looked at. They are told behind from ahead by where the cursor is when they are. And an object whose references
//! lie outside it, as a list's do, waits for that memory: it is traced when [`WAITS`] others have come to wait.
//!
//! **It ends, and nothing is missed.** An object is reached once in a collection, so each enters the queue at most once. An
//! object reached while the stack is full is dropped: it is reached, but perhaps not traced. Then the sweep is repeated
//! from the start, and traces it with everything else that is reached; tracing twice changes nothing. A sweep that drops
//! nothing has traced all that is reached, by the cursor or by the queue, and is the last. A sweep drops only when the
//! stack was full, thus has reached at least as many objects as the stack holds: with a stack of S, at most 1 + n/S sweeps
//! for n candidates; S is at least heap bytes / 512 and n at most heap bytes / 32, so at most 17.

use core::marker::PhantomData;

use crate::count::LISTED;
use crate::model::{Graph, Visitor};
use crate::scratch::{Counters, List, Scratch};
use crate::search::Search;
use crate::space::{Place, SWEEP_AHEAD_BYTES, Space, prefetch};

/// Objects on their way from memory.
const FIFO: usize = 16;
/// Children whose bits, or counters, are on their way from memory.
pub(crate) const LOOKS: usize = 32;

/// Objects whose memory elsewhere is on its way.
const WAITS: usize = 16;

/// What a mark pass saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marked {
    /// Sweeps beyond the first.
    pub(crate) repeated_sweeps: usize,
    /// Entries of the stack used at most.
    pub(crate) deepest: usize,
}

/// How an object is known to be reached.
trait Reach {
    /// Whether it pays to ask for what `reach` looks at ahead of time.
    const LOOKS_AHEAD: bool = false;

    /// The object's place in the order of the sweep, if it is a candidate that was not reached so far: it is now.
    fn reach(&self, address: *mut u8) -> Option<usize>;

    /// Ask for what `reach` will look at.
    #[inline(always)]
    fn expect(&self, _: *mut u8) {}

    /// Whether the object is a candidate.
    fn is_candidate(&self, address: *mut u8) -> bool;
}

/// By its bit. Asking ahead pays where sweeps find little reached already, and have to go far and wide.
struct ByBit<'a, const LOOKS_AHEAD: bool>(&'a Space<'a>);

impl<const LOOKS_AHEAD: bool> Reach for ByBit<'_, LOOKS_AHEAD> {
    const LOOKS_AHEAD: bool = LOOKS_AHEAD;

    #[inline(always)]
    fn expect(&self, address: *mut u8) {
        if let Some(place) = self.0.place(address) {
            place.prefetch();
        }
    }

    #[inline(always)]
    fn reach(&self, address: *mut u8) -> Option<usize> {
        let place = self.0.place(address)?;
        place.is_unreached().then(|| {
            place.set_unreached(false);
            place.position()
        })
    }

    #[inline(always)]
    fn is_candidate(&self, address: *mut u8) -> bool {
        self.0.place(address).is_some_and(Place::is_candidate)
    }
}

/// By its counter, which is above 0; those whose bit is gone were reached earlier.
struct ByCounter<'a>(&'a Space<'a>);

impl Reach for ByCounter<'_> {
    #[inline(always)]
    fn reach(&self, address: *mut u8) -> Option<usize> {
        let place = self.0.place(address)?;
        (place.is_unreached() && place.counter() == 0).then(|| {
            place.set_counter(1);
            place.position()
        })
    }

    #[inline(always)]
    fn is_candidate(&self, address: *mut u8) -> bool {
        self.0.place(address).is_some_and(Place::is_candidate)
    }
}

/// Over a list: by its counter, which is above [`LISTED`].
struct Listed(Counters);

impl Reach for Listed {
    #[inline(always)]
    fn reach(&self, address: *mut u8) -> Option<usize> {
        let index = self.0.index(address)?;
        (self.0.get(index) == LISTED).then(|| {
            self.0.set(index, LISTED + 1);
            address.addr()
        })
    }

    #[inline(always)]
    fn is_candidate(&self, _: *mut u8) -> bool {
        true
    }
}

/// Mark what these roots lead to. Afterwards the bit of each candidate that they reach is gone.
pub(crate) fn mark_known<G: Graph>(
    graph: &G,
    search: &Search<'_>,
    roots: impl FnOnce(&mut dyn FnMut(G::Ref)),
) -> Marked {
    let marker = Marker::<G, _>::new(ByBit::<false>(&search.space), search.stack);
    // All of them lie ahead of the cursor.
    roots(&mut |root| {
        marker.reach.reach(G::address(root));
    });
    marker.sweep_reached(graph, search)
}

/// Mark what the reached lead to. Afterwards the bit of each candidate that they reach is gone.
pub(crate) fn mark_reached<G: Graph>(graph: &G, search: &Search<'_>) -> Marked {
    Marker::<G, _>::new(ByBit::<true>(&search.space), search.stack).sweep_reached(graph, search)
}

/// Mark from what the count found to be held from elsewhere. Afterwards the counter of an unreached candidate is 0 if and
/// only if it is unreachable.
pub(crate) fn mark<G: Graph>(graph: &G, search: &Search<'_>) -> Marked {
    let marker = Marker::<G, _>::new(ByCounter(&search.space), search.stack);
    // SAFETY: words are those of the part's tables.
    marker.sweep(graph, search, |part, word| unsafe { part.unreached_word(word) }, |place| place.counter() != 0)
}

/// Mark over the first `length` entries of the list, after `count_list`. Afterwards the counter of a listed object is
/// [`LISTED`] if and only if it is unreachable.
pub(crate) fn mark_list<G: Graph>(graph: &G, scratch: &Scratch, stack: List, length: usize) -> Marked {
    let mut marker = Marker::<G, _>::new(Listed(scratch.counters), stack);
    loop {
        for i in 0..length {
            let address = scratch.list.get(i);
            if scratch.counters.of(address) > LISTED {
                // SAFETY: the list holds objects that are alive.
                marker.cursor_at(graph, address.addr(), unsafe { G::at(address) });
            }
        }
        if marker.end(graph) {
            return marker.marked;
        }
    }
}

struct Marker<G, R> {
    reach: R,
    /// Place of the object that the sweep has come to.
    cursor: usize,
    /// The last children visited, in a ring, if `R` looks ahead; null where there is none.
    looks: [*mut u8; LOOKS],
    looked: usize,
    fifo: [*mut u8; FIFO],
    /// Objects ever taken out of the FIFO, and put in: its content is `out..into`, modulo its length.
    out: usize,
    into: usize,
    stack: List,
    depth: usize,
    /// Objects whose memory elsewhere is on its way: `arrived..waiting`, modulo the length, ever put in and taken out.
    waits: [*mut u8; WAITS],
    arrived: usize,
    waiting: usize,
    dropped: bool,
    marked: Marked,
    graph: PhantomData<G>,
}

impl<G: Graph, R: Reach> Marker<G, R> {
    fn new(reach: R, stack: List) -> Marker<G, R> {
        Marker {
            reach,
            cursor: 0,
            looks: [core::ptr::null_mut(); LOOKS],
            looked: 0,
            fifo: [core::ptr::null_mut(); FIFO],
            out: 0,
            into: 0,
            stack,
            depth: 0,
            waits: [core::ptr::null_mut(); WAITS],
            arrived: 0,
            waiting: 0,
            dropped: false,
            marked: Marked::default(),
            graph: PhantomData,
        }
    }

    /// Sweep over the candidates that are reached.
    fn sweep_reached(self, graph: &G, search: &Search<'_>) -> Marked {
        self.sweep(
            graph,
            search,
            |part, word| {
                // SAFETY: words are those of the part's tables.
                unsafe { part.candidates_word(word) & !part.unreached_word(word) }
            },
            |_| true,
        )
    }

    /// Sweep over the candidates that `bits` has in a word of a part's tables, and that `is_reached` wants.
    fn sweep(
        mut self,
        graph: &G,
        search: &Search<'_>,
        bits: impl Fn(&crate::space::Part, usize) -> u64,
        is_reached: impl Fn(Place<'_>) -> bool,
    ) -> Marked {
        loop {
            for part in search.space.parts() {
                for word in part.words() {
                    let mut ahead = !0;
                    loop {
                        // Tracing reaches more of the same word.
                        let ready = bits(part, word) & ahead;
                        if ready == 0 {
                            break;
                        }
                        let bit = ready.trailing_zeros();
                        ahead = !1 << bit;
                        let place = Place::new(part, word * 64 + bit as usize);
                        if is_reached(place) {
                            let address = search.space.address(part, word * 64 + bit as usize);
                            prefetch(address.wrapping_add(SWEEP_AHEAD_BYTES));
                            // SAFETY: candidates are alive.
                            self.cursor_at(graph, place.position(), unsafe { G::at(address) });
                        }
                    }
                    // Whoever is looked at from now on must not take this word to lie ahead.
                    self.cursor = Place::new(part, word * 64 + 63).position();
                }
            }
            if self.end(graph) {
                return self.marked;
            }
        }
    }

    /// The cursor has come to an object that is reached.
    #[inline(always)]
    fn cursor_at(&mut self, graph: &G, position: usize, object: G::Ref) {
        self.cursor = position;
        self.trace(graph, object);
        while self.depth > 0 {
            self.trace_oldest(graph);
        }
    }

    /// The sweep is through. Whether it was the last; if not, the next may begin.
    fn end(&mut self, graph: &G) -> bool {
        self.cursor = usize::MAX;
        loop {
            while self.out != self.into || self.arrived != self.waiting {
                if self.out != self.into {
                    self.trace_oldest(graph);
                } else {
                    self.trace_arrived(graph);
                }
            }
            for i in 0..LOOKS {
                let child = core::mem::replace(&mut self.looks[i], core::ptr::null_mut());
                self.look(child);
            }
            if self.out == self.into {
                break;
            }
        }
        debug_assert!(self.depth == 0 && self.out == self.into);
        self.marked.repeated_sweeps += usize::from(self.dropped);
        !core::mem::take(&mut self.dropped)
    }

    #[inline]
    fn enter(&mut self, address: *mut u8) {
        prefetch(address);
        self.fifo[self.into % FIFO] = address;
        self.into += 1;
    }

    /// Trace what entered the FIFO first. The stack is empty unless the FIFO is full.
    #[inline]
    fn trace_oldest(&mut self, graph: &G) {
        let address = self.fifo[self.out % FIFO];
        self.out += 1;
        if self.depth > 0 {
            self.depth -= 1;
            self.enter(self.stack.get(self.depth));
        }
        // SAFETY: candidates enter the FIFO, and nothing is freed meanwhile.
        self.trace(graph, unsafe { G::at(address) });
    }

    /// Trace an object; if that reads memory elsewhere, ask for it, and trace the one that has waited longest instead.
    #[inline(always)]
    fn trace(&mut self, graph: &G, object: G::Ref) {
        if !graph.fetch(object) {
            return graph.trace(object, self);
        }
        if self.waiting - self.arrived == WAITS {
            self.trace_arrived(graph);
        }
        self.waits[self.waiting % WAITS] = G::address(object);
        self.waiting += 1;
    }

    /// Trace the object whose memory was asked for first.
    #[inline(always)]
    fn trace_arrived(&mut self, graph: &G) {
        let address = self.waits[self.arrived % WAITS];
        self.arrived += 1;
        // SAFETY: candidates wait, and nothing is freed meanwhile.
        graph.trace(unsafe { G::at(address) }, self);
    }

    /// Look at a child, if it is one.
    #[inline(always)]
    fn look(&mut self, address: *mut u8) {
        if !address.is_null()
            && let Some(position) = self.reach.reach(address)
            && position <= self.cursor
        {
            self.queue(address);
        }
    }

    #[inline]
    fn queue(&mut self, address: *mut u8) {
        if self.into - self.out < FIFO {
            self.enter(address);
        } else if self.depth < self.stack.capacity {
            self.stack.set(self.depth, address);
            self.depth += 1;
            self.marked.deepest = self.marked.deepest.max(self.depth);
        } else {
            self.dropped = true;
        }
    }
}

impl<G: Graph, R: Reach> Visitor<G::Ref> for Marker<G, R> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        let address = G::address(child);
        if !R::LOOKS_AHEAD {
            return self.look(address);
        }
        self.reach.expect(address);
        let place = self.looked % LOOKS;
        self.looked += 1;
        let child = core::mem::replace(&mut self.looks[place], address);
        self.look(child);
    }

    #[inline(always)]
    fn is_candidate(&self, child: G::Ref) -> bool {
        self.reach.is_candidate(G::address(child))
    }
}
