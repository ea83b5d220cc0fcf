//! What the collector asks of an object world, and in which order.
//!
//! ```text
//! started                          program code may run
//!   may_find_trash                 if not, no pass
//!   generation, refcount, trace    the passes: nothing changes
//!   promote                        candidates are one generation older
//!   is_uncollectable               these, and what they reach, leave the trash
//!   clear_weakrefs                 no weak reference to trash answers any more
//!   call_callbacks                 program code: sees no trash
//!   has_finalizer, finalize        program code: sees its object whole, and all that it refers to
//!   refcount, trace                again, on the trash alone: what is reachable now is none any more
//!   clear_late_weakrefs            those that finalizers made
//!   clear                          program code may run where a count falls to zero
//!   uncollectable                  each of those set aside
//! finished                         program code may run
//! ```

use heapkeeper_heap::Heap;

use crate::collector::Collector;
use crate::dispose::Trash;

/// The smallest block that may hold an object: the scratch has one counter for each 32 bytes.
pub const MIN_OBJECT_BYTES: usize = 32;

/// Objects by collections survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Generation {
    /// Generation 0: never collected.
    Young = 0,
    /// Generation 1.
    Middle = 1,
    /// Generation 2; collecting it is a full collection.
    Old = 2,
    /// Frozen: no candidate of any collection.
    Permanent = 3,
}

impl Generation {
    /// 0 to 3.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Where the survivors of a collection of this generation go.
    pub const fn next(self) -> Generation {
        match self {
            Generation::Young => Generation::Middle,
            Generation::Middle | Generation::Old => Generation::Old,
            Generation::Permanent => Generation::Permanent,
        }
    }
}

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Objects found unreachable and cleared.
    pub collected: usize,
    /// Objects found unreachable and left alone, because one of them must not be cleared.
    pub uncollectable: usize,
    /// Objects that a callback or finalizer made reachable again.
    pub resurrected: usize,
}

impl Outcome {
    /// What CPython's `gc.collect()` returns: the unreachable objects found, cleared or not.
    pub const fn unreachable(self) -> usize {
        self.collected + self.uncollectable
    }
}

/// Receives the outgoing references of an object.
pub trait Visitor<R: Copy> {
    /// One reference to `child`. A child referred to twice is visited twice.
    fn visit(&mut self, child: R);

    /// Several, one after the other.
    #[inline(always)]
    fn visit_all(&mut self, children: &[R]) {
        children.iter().for_each(|child| self.visit(*child));
    }

    /// Whether `child` is a candidate of this search. **True** where nobody looked.
    fn is_candidate(&self, child: R) -> bool {
        let _ = child;
        true
    }
}

/// What the passes read: objects, their counts, and who refers to whom.
///
/// # Safety
/// The passes believe what they are told:
/// - `refcount(o)` is at least the number of times that `trace` visits `o`, over all candidates;
/// - both change nothing, and answer alike as long as no program code has run in between.
pub unsafe trait Graph {
    /// A pointer to an object.
    type Ref: Copy + Eq;

    /// The object's address, a multiple of 16. Two candidates are at least [`MIN_OBJECT_BYTES`] apart.
    fn address(object: Self::Ref) -> *mut u8;

    /// The object at `address`.
    ///
    /// # Safety
    /// `address` was answered by [`address`](Graph::address), of an object still alive.
    unsafe fn at(address: *mut u8) -> Self::Ref;

    /// References to the object, from wherever.
    fn refcount(&self, object: Self::Ref) -> usize;

    /// Visit each counted reference that the object holds. Only called for candidates, and for known roots.
    fn trace(&self, object: Self::Ref, visitor: &mut impl Visitor<Self::Ref>);

    /// [`trace`](Graph::trace) several objects, one after the other, and meanwhile [`fetch`](Graph::fetch) for those that come
    /// next.
    #[inline(always)]
    fn trace_all(&self, objects: &[Self::Ref], next: &[Self::Ref], visitor: &mut impl Visitor<Self::Ref>) {
        for i in 0..objects.len().max(next.len()) {
            if let Some(object) = next.get(i) {
                self.fetch(*object);
            }
            if let Some(object) = objects.get(i) {
                self.trace(*object, visitor);
            }
        }
    }

    /// Ask for memory outside the object that `trace` will read, some time before it does.
    #[inline(always)]
    fn fetch(&self, _object: Self::Ref) {}
}

/// An object world: where objects lie, who refers to whom, and how one is taken apart.
///
/// Objects are blocks of [`heap`](ObjectModel::heap) of at least [`MIN_OBJECT_BYTES`], counted, and freed at once when the
/// count falls to zero. The model owns its [`Collector`], so that code which runs inside a collection can reach both.
///
/// # Safety
/// The collector believes what it is told, and acts on it:
/// - an object's address is that of its block; `trace` visits only objects of this heap, tracked or not, and addresses
///   outside its range;
/// - `generation`, `object` and `visit_suspects` change nothing, and answer alike as long as no program code has run in between;
/// - [`Collector::made`] is called for each object that is tracked from then on, in generation 0, and [`Collector::forget`] for
///   each tracked object before its block is freed or untracked, also inside a collection;
/// - the collector stays the same one, in its place, while it collects;
/// - no method unwinds. (One that does leaves the collector as inside a collection for good: it does nothing any more.)
pub unsafe trait ObjectModel: Graph + Sized {
    /// The heap that all objects lie in.
    fn heap(&self) -> &Heap;

    /// The model's collector.
    fn collector(&self) -> &Collector;

    /// The model's collector.
    fn collector_mut(&mut self) -> &mut Collector;

    /// Nanoseconds of a clock that never goes back, for telemetry. A model without a clock says 0.
    fn now_ns(&self) -> u64;

    // --- the passes: read only ---

    /// The object in a live block of at least [`MIN_OBJECT_BYTES`]; `None` if it holds something else.
    fn object(&self, block: *mut u8) -> Option<Self::Ref>;

    /// The object's generation; `None` if it is not tracked: then it has no part in cycles. Also asked of objects that
    /// `trace` visits.
    fn generation(&self, object: Self::Ref) -> Option<Generation>;

    /// The [object](ObjectModel::object) in such a block if it is tracked and not frozen.
    #[inline(always)]
    fn candidate(&self, block: *mut u8) -> Option<Self::Ref> {
        let object = self.object(block)?;
        self.generation(object).is_some_and(|generation| generation != Generation::Permanent).then_some(object)
    }

    /// Visit tracked objects of generations up to `oldest` ([`Young`](Generation::Young) or [`Middle`](Generation::Middle)),
    /// in any order: of each cycle within these generations that nothing else holds, at least one. A model that knows no
    /// better visits them all. Should take time in proportion to these, not to the heap.
    fn visit_suspects(&self, oldest: Generation, visit: impl FnMut(Self::Ref));

    /// Whether a collection of generations up to `oldest` could find trash. **True.** A model may say no if it is sure, however
    /// it knows: then all candidates survive unseen.
    fn may_find_trash(&self, oldest: Generation) -> bool {
        let _ = oldest;
        true
    }

    // --- upkeep: runs no program code, except `decref` ---

    /// All tracked objects of generations up to `oldest` are in the [next](Generation::next) one from now on.
    fn promote(&mut self, oldest: Generation);

    /// Move the object to another generation: [`Collector::freeze`] and [`Collector::unfreeze`] do so.
    fn set_generation(&mut self, object: Self::Ref, generation: Generation);

    /// Add a reference.
    fn incref(&mut self, object: Self::Ref);

    /// Take a reference away; at zero the object is freed, with all that this entails for the program.
    fn decref(&mut self, object: Self::Ref);

    // --- the protocol, in this order ---

    /// The collection begins. **Does nothing** unless overridden. Program code may run.
    fn started(&mut self, oldest: Generation) {
        let _ = oldest;
    }

    /// Whether the object must not be taken apart (CPython's `tp_del`). **Never**, unless overridden.
    fn is_uncollectable(&self, object: Self::Ref) -> bool {
        let _ = object;
        false
    }

    /// Clear every weak reference to the trash, and hold those that have a callback and are themselves not in the trash
    /// for [`call_callbacks`](ObjectModel::call_callbacks). Runs no program code, frees nothing.
    fn clear_weakrefs(&mut self, trash: Trash<'_, Self>);

    /// Call these callbacks. The program cannot reach the trash: nothing outside refers to it, weak references neither.
    /// Returns whether any program code ran.
    fn call_callbacks(&mut self) -> bool;

    /// Whether the object has a finalizer that was not run yet.
    fn has_finalizer(&self, object: Self::Ref) -> bool;

    /// Whether any object may have one. **Yes**, unless overridden.
    fn has_finalizers(&self) -> bool {
        true
    }

    /// Note that the finalizer was run, then run it. The program sees the object as it left it, everything that it refers
    /// to included, though some of that may have been finalized already. It may do anything: make trash reachable, break
    /// cycles so that parts of the trash are freed at once, create objects and weak references, ask for a collection (which
    /// does nothing). A failure inside is the model's to report. The collector holds a reference meanwhile.
    fn finalize(&mut self, object: Self::Ref);

    /// Clear weak references to what is still trash: those that finalizers made. Their callbacks are not called: the first
    /// thing such a callback could do is to look at trash.
    fn clear_late_weakrefs(&mut self, trash: Trash<'_, Self>);

    /// Drop the object's outgoing references. Objects that this frees run no finalizer a second time. The collector holds a
    /// reference meanwhile. Finalizers of objects outside the trash may run, and see no trash.
    fn clear(&mut self, object: Self::Ref);

    /// Clear the object, holding a reference meanwhile: [`incref`](ObjectModel::incref), [`clear`](ObjectModel::clear),
    /// [`decref`](ObjectModel::decref). A model may do the three at once.
    fn clear_and_release(&mut self, object: Self::Ref) {
        self.incref(object);
        self.clear(object);
        self.decref(object);
    }

    /// The object was found [uncollectable](ObjectModel::is_uncollectable): list it. **Does nothing** unless overridden.
    fn uncollectable(&mut self, object: Self::Ref) {
        let _ = object;
    }

    /// The collection is over, and another may begin when this returns. **Does nothing** unless overridden. The place to
    /// empty free lists after a full collection. Program code may run.
    fn finished(&mut self, oldest: Generation, outcome: Outcome) {
        let _ = (oldest, outcome);
    }
}
