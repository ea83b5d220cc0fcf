//! The mark pass: what is known to be alive leads to.
//!
//! A sweep goes over the candidates in address order and takes up each that is reached. A child that was not reached so far is
//! reached now; if it lies ahead of the sweep's front, that will come by, and nothing else is done; if it lies behind, it goes
//! on a stack, whose top is taken up before the sweep goes on.
//!
//! Objects are taken up and traced by the batch, three of which are under way, so that memory has time to arrive (Cher,
//! Hosking, Vitek: Software prefetching for mark-sweep garbage collection, ISMM 2004), and little is done for each object alone:
//!
//! ```text
//! stack ─┬─▶ coming ─────────▶ arriving ───────▶ ready ────▶ children ─┬─▶ stack, if new and behind
//! sweep ─┘   objects that      what they read    traced      that wait │
//!            were asked for    elsewhere is,                           └─▶ left to the sweep, or known
//!                              as a list's items
//! ```
//! Between two objects that are traced, one that arrives is looked at for what it reads elsewhere: if all were at once, they
//! would wait for each other's memory, and the tracing for them all.
//!
//! Where bits say what is reached and lie far and wide, children wait to be looked at, for their bits to arrive.
//!
//! **It ends, and nothing is missed.** An object is reached once in a collection, so each enters the stack at most once. An
//! object reached while the stack is full is dropped: it is reached, but perhaps not traced. Then the sweep is repeated
//! from the start, and traces it with everything else that is reached; tracing twice changes nothing. A sweep that drops
//! nothing has traced all that is reached, by itself or by the stack, and is the last. A sweep drops only when the
//! stack was full, thus has reached at least as many objects as the stack holds: with a stack of S, at most 1 + n/S sweeps
//! for n candidates; S is at least heap bytes / 512 and n at most heap bytes / 32, so at most 17.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::count::LISTED;
use crate::model::{Graph, Visitor};
use crate::scratch::{Counters, List, Scratch};
use crate::search::Search;
use crate::space::{GRANULE_BYTES, INSIDE_POSITION, Inside, Part, Place, Space, prefetch};

/// Objects that are taken up and traced together.
const BATCH: usize = 16;
/// Children that wait at most, here to be looked at, in the count for one to be taken from their counters.
pub(crate) const LOOKS: usize = 32;
/// How far the sweep goes on at once while what was taken up may still lead to something behind it, in granules: 16 KiB.
const STRIDE: usize = 1024;

/// What a mark pass saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marked {
    /// Sweeps beyond the first.
    pub(crate) repeated_sweeps: usize,
    /// Entries of the stack used at most.
    pub(crate) deepest: usize,
}

/// How an object is known to be reached.
pub(crate) trait Reach: Copy {
    /// The object's place in the order of the sweep, if it is a candidate that was not reached so far: it is now.
    fn reach(&self, address: *mut u8) -> Option<usize>;

    /// Whether the object is a candidate.
    fn is_candidate(&self, address: *mut u8) -> bool;

    /// Ask for what tells whether a child is reached. Its granule, for `look`; `None` if it is better reached here and now.
    #[inline(always)]
    fn expect(&self, _: *mut u8) -> Option<usize> {
        None
    }

    /// Reach a child whose granule `expect` answered. Its address, and whether it was not reached so far and lies before
    /// `front`.
    fn look(&self, _granule: usize, _front: usize) -> (*mut u8, bool) {
        unreachable!("no child waits")
    }
}

/// By its bit.
#[derive(Clone, Copy)]
struct ByBit<'a>(&'a Space<'a>);

impl Reach for ByBit<'_> {
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

/// By its bit, where all objects are as far apart as candidates, and sweeps find little reached already and have to go far and
/// wide: whether a child is new, and lies
/// behind, is a toss-up that the processor cannot guess, so it takes no branch.
#[derive(Clone, Copy)]
struct ByDistantBit<'a> {
    at_once: ByBit<'a>,
    inside: Inside,
    /// Takes the words that do not change.
    nowhere: &'a Cell<u64>,
}

impl Reach for ByDistantBit<'_> {
    #[inline(always)]
    fn reach(&self, address: *mut u8) -> Option<usize> {
        self.at_once.reach(address)
    }

    #[inline(always)]
    fn is_candidate(&self, address: *mut u8) -> bool {
        self.at_once.is_candidate(address)
    }

    #[inline(always)]
    fn expect(&self, address: *mut u8) -> Option<usize> {
        let granule = self.inside.granule(address)?;
        self.inside.prefetch(granule);
        Some(granule)
    }

    #[inline(always)]
    fn look(&self, granule: usize, front: usize) -> (*mut u8, bool) {
        // SAFETY: `expect` answered the granule, an object's, which has a grain of its own; memory that takes a word is there.
        let is_new = unsafe { self.inside.take_unreached(granule, self.nowhere.as_ptr()) };
        (self.inside.address(granule), is_new & (granule < front.saturating_sub(INSIDE_POSITION)))
    }
}

/// By its counter, which is above 0; those whose bit is gone were reached earlier.
#[derive(Clone, Copy)]
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
#[derive(Clone, Copy)]
struct Listed(Counters);

impl Listed {
    fn position(address: *mut u8) -> usize {
        address.addr() / GRANULE_BYTES
    }
}

impl Reach for Listed {
    #[inline(always)]
    fn reach(&self, address: *mut u8) -> Option<usize> {
        let index = self.0.index(address)?;
        (self.0.get(index) == LISTED).then(|| {
            self.0.set(index, LISTED + 1);
            Listed::position(address)
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
    let reach = ByBit(&search.space);
    // All of them lie ahead of the sweep.
    roots(&mut |root| {
        reach.reach(G::address(root));
    });
    mark_reached(graph, search)
}

/// Mark what the reached lead to. Afterwards the bit of each candidate that they reach is gone.
pub(crate) fn mark_reached<G: Graph>(graph: &G, search: &Search<'_>) -> Marked {
    mark_by(graph, search, ByBit(&search.space))
}

/// The same, where all objects are as far apart as candidates.
pub(crate) fn mark_reached_apart<G: Graph>(graph: &G, search: &Search<'_>) -> Marked {
    let (at_once, inside, nowhere) = (ByBit(&search.space), search.space.inside(), &Cell::new(0));
    mark_by(graph, search, ByDistantBit { at_once, inside, nowhere })
}

fn mark_by<G: Graph>(graph: &G, search: &Search<'_>, reach: impl Reach) -> Marked {
    // SAFETY: words are those of the part's tables.
    let bits = |part: &Part, word| unsafe { part.candidates_word(word) & !part.unreached_word(word) };
    Marker::<G, _>::new(reach, search.stack).mark(graph, || Bits::new(&search.space, bits, |_| true))
}

/// Mark from what the count found to be held from elsewhere. Afterwards the counter of an unreached candidate is 0 if and
/// only if it is unreachable.
pub(crate) fn mark_counted<G: Graph>(graph: &G, search: &Search<'_>) -> Marked {
    // SAFETY: words are those of the part's tables.
    let bits = |part: &Part, word| unsafe { part.unreached_word(word) };
    let sweep = || Bits::new(&search.space, bits, |place| place.counter() != 0);
    Marker::<G, _>::new(ByCounter(&search.space), search.stack).mark(graph, sweep)
}

/// Mark over the first `length` entries of the list, after `count_list`. Afterwards the counter of a listed object is
/// [`LISTED`] if and only if it is unreachable.
pub(crate) fn mark_list<G: Graph>(graph: &G, scratch: &Scratch, stack: List, length: usize) -> Marked {
    let sweep = || Entries { list: scratch.list, counters: scratch.counters, next: 0, length };
    Marker::<G, _>::new(Listed(scratch.counters), stack).mark(graph, sweep)
}

/// Goes over the candidates once, in the order of their positions.
pub(crate) trait Sweep {
    /// Call `take` with those that are reached, in order, until it answers false or the next lies beyond position `end`;
    /// with no `end`, it may stop a stride from the first. Returns how far the sweep has come: what lies before is behind it.
    fn go_on(&mut self, end: Option<usize>, take: impl FnMut(*mut u8) -> bool) -> usize;
}

/// What the sweep has come to when it is through.
pub(crate) const THROUGH: usize = usize::MAX;

/// Over the candidates that `bits` has in a word of a part's tables, and that `is_reached` wants.
struct Bits<'a, B, I> {
    space: &'a Space<'a>,
    bits: B,
    is_reached: I,
    /// Where it is: the part, its word, and what of that lies ahead.
    part: usize,
    word: usize,
    ahead: u64,
}

impl<'a, B: Fn(&Part, usize) -> u64, I: Fn(Place<'_>) -> bool> Bits<'a, B, I> {
    fn new(space: &'a Space<'a>, bits: B, is_reached: I) -> Bits<'a, B, I> {
        Bits { space, bits, is_reached, part: 0, word: space.parts()[0].first_word, ahead: !0 }
    }
}

impl<B: Fn(&Part, usize) -> u64, I: Fn(Place<'_>) -> bool> Sweep for Bits<'_, B, I> {
    #[inline(always)]
    fn go_on(&mut self, mut end: Option<usize>, mut take: impl FnMut(*mut u8) -> bool) -> usize {
        let parts = self.space.parts();
        while let Some(part) = parts.get(self.part) {
            while self.word < part.end_word {
                let first = part.position(self.word * 64);
                if end.is_some_and(|end| first > end) {
                    return first;
                }
                let mut ready = (self.bits)(part, self.word) & self.ahead;
                while ready != 0 {
                    let bit = ready.trailing_zeros();
                    ready &= ready - 1;
                    let place = Place::new(part, self.word * 64 + bit as usize);
                    if (self.is_reached)(place) {
                        let position = place.position();
                        end = end.or(Some(position + STRIDE));
                        if !take(self.space.address(part, self.word * 64 + bit as usize)) {
                            self.ahead = !1 << bit;
                            return position + 1;
                        }
                    }
                }
                self.word += 1;
                self.ahead = !0;
            }
            self.part += 1;
            self.word = parts.get(self.part).map_or(0, |part| part.first_word);
        }
        THROUGH
    }
}

/// Over the entries of a list whose counter is above [`LISTED`].
struct Entries {
    list: List,
    counters: Counters,
    next: usize,
    length: usize,
}

impl Sweep for Entries {
    #[inline(always)]
    fn go_on(&mut self, mut end: Option<usize>, mut take: impl FnMut(*mut u8) -> bool) -> usize {
        while self.next < self.length {
            let address = self.list.get(self.next);
            let position = Listed::position(address);
            if end.is_some_and(|end| position > end) {
                return position;
            }
            self.next += 1;
            if self.counters.of(address) > LISTED {
                end = end.or(Some(position + STRIDE));
                if !take(address) {
                    return position + 1;
                }
            }
        }
        THROUGH
    }
}

/// Objects that are traced together.
pub(crate) struct Batch<G: Graph, const N: usize> {
    objects: [MaybeUninit<G::Ref>; N],
    length: usize,
}

impl<G: Graph, const N: usize> Batch<G, N> {
    #[inline(always)]
    pub(crate) fn new() -> Batch<G, N> {
        Batch { objects: [const { MaybeUninit::uninit() }; N], length: 0 }
    }

    /// Add an object. Whether there is room for another one.
    ///
    /// # Panics
    /// If there was none.
    #[inline(always)]
    pub(crate) fn push(&mut self, object: G::Ref) -> bool {
        self.objects[self.length].write(object);
        self.length += 1;
        self.length < N
    }

    /// The same, and ask for it.
    ///
    /// # Safety
    /// There is a live object at `address`.
    #[inline(always)]
    unsafe fn add(&mut self, address: *mut u8) -> bool {
        prefetch(address);
        // SAFETY: by the caller's word.
        self.push(unsafe { G::at(address) })
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    #[inline(always)]
    pub(crate) fn objects(&self) -> &[G::Ref] {
        // SAFETY: so many were written.
        unsafe { core::slice::from_raw_parts(self.objects.as_ptr().cast(), self.length) }
    }
}

pub(crate) struct Marker<G, R> {
    reach: R,
    /// How far the sweep has come: positions before lie behind.
    front: usize,
    /// Granules of the children that wait.
    children: [MaybeUninit<usize>; LOOKS],
    waiting: usize,
    stack: List,
    depth: usize,
    dropped: bool,
    marked: Marked,
    graph: PhantomData<G>,
}

impl<G: Graph, R: Reach> Marker<G, R> {
    pub(crate) fn new(reach: R, stack: List) -> Marker<G, R> {
        Marker {
            reach,
            front: 0,
            children: [const { MaybeUninit::uninit() }; LOOKS],
            waiting: 0,
            stack,
            depth: 0,
            dropped: false,
            marked: Marked::default(),
            graph: PhantomData,
        }
    }

    pub(crate) fn mark<S: Sweep>(mut self, graph: &G, sweep: impl Fn() -> S) -> Marked {
        loop {
            self.sweep(graph, sweep());
            if !core::mem::take(&mut self.dropped) {
                return self.marked;
            }
            self.marked.repeated_sweeps += 1;
        }
    }

    #[inline(always)]
    fn sweep(&mut self, graph: &G, mut sweep: impl Sweep) {
        self.front = 0;
        let (mut first, mut second, mut third) = (Batch::new(), Batch::new(), Batch::new());
        let (mut coming, mut arriving, mut ready) = (&mut first, &mut second, &mut third);
        loop {
            self.take_up(&mut sweep, coming, arriving.length + ready.length == 0);
            if coming.length + arriving.length + ready.length == 0 {
                debug_assert!(self.front == THROUGH && self.depth == 0);
                return;
            }
            graph.trace_all(ready.objects(), arriving.objects(), self);
            self.look_at_children();
            ready.clear();
            (coming, arriving, ready) = (ready, coming, arriving);
        }
    }

    /// Fill a batch from the top of the stack, and from the sweep.
    #[inline(always)]
    fn take_up(&mut self, sweep: &mut impl Sweep, batch: &mut Batch<G, BATCH>, is_alone: bool) {
        let taken = self.depth.min(BATCH);
        for i in 1..=taken {
            // SAFETY: candidates enter the stack, and nothing is freed meanwhile.
            unsafe { batch.add(self.stack.get(self.depth - i)) };
        }
        self.depth -= taken;
        if taken < BATCH && self.front != THROUGH {
            let end = (!is_alone || taken > 0).then(|| self.front + STRIDE);
            // SAFETY: candidates are alive; the sweep stops when there is no room.
            self.front = sweep.go_on(end, |address| unsafe { batch.add(address) });
        }
    }

    /// Reach the children that wait; those that lie behind go on the stack.
    fn look_at_children(&mut self) {
        let waiting = core::mem::take(&mut self.waiting);
        if self.stack.capacity - self.depth < waiting {
            for i in 0..waiting {
                // SAFETY: so many were written.
                let (address, is_behind) = self.reach.look(unsafe { self.children[i].assume_init() }, self.front);
                if is_behind {
                    self.push(address);
                }
            }
            return;
        }
        // In registers.
        let (reach, stack, front, mut depth) = (self.reach, self.stack, self.front, self.depth);
        for child in &self.children[..waiting] {
            // SAFETY: so many were written; the stack has room for as many.
            unsafe {
                let (address, is_behind) = reach.look(child.assume_init(), front);
                stack.put(depth, address);
                depth += usize::from(is_behind);
            }
        }
        self.depth = depth;
        self.marked.deepest = self.marked.deepest.max(depth);
    }

    fn push(&mut self, address: *mut u8) {
        if self.depth < self.stack.capacity {
            self.stack.set(self.depth, address);
            self.depth += 1;
            self.marked.deepest = self.marked.deepest.max(self.depth);
        } else {
            self.dropped = true;
        }
    }

    /// A child that does not wait.
    #[inline(always)]
    fn look_now(&mut self, address: *mut u8) {
        if let Some(position) = self.reach.reach(address)
            && position < self.front
        {
            prefetch(address); // Most that enter the stack are soon taken up.
            self.push(address);
        }
    }
}

impl<G: Graph, R: Reach> Visitor<G::Ref> for Marker<G, R> {
    #[inline(always)]
    fn visit(&mut self, child: G::Ref) {
        let address = G::address(child);
        let Some(child) = self.reach.expect(address) else { return self.look_now(address) };
        if self.waiting == LOOKS {
            self.look_at_children();
        }
        // SAFETY: there are `LOOKS` places.
        unsafe { self.children.get_unchecked_mut(self.waiting).write(child) };
        self.waiting += 1;
    }

    #[inline(always)]
    fn visit_all(&mut self, children: &[G::Ref]) {
        for children in children.chunks(LOOKS) {
            if self.waiting + children.len() > LOOKS {
                self.look_at_children();
            }
            let (reach, mut waiting) = (self.reach, self.waiting);
            for child in children {
                let address = G::address(*child);
                if let Some(child) = reach.expect(address) {
                    // SAFETY: there is room for all of them.
                    unsafe { self.children.get_unchecked_mut(waiting).write(child) };
                    waiting += 1;
                } else {
                    self.look_now(address);
                }
            }
            self.waiting = waiting;
        }
    }

    #[inline(always)]
    fn is_candidate(&self, child: G::Ref) -> bool {
        self.reach.is_candidate(G::address(child))
    }
}
