//! Looking at a heap: its objects, who refers to whom, and where an object lies.

use heapkeeper_gc::Generation;
use heapkeeper_heap::{SLOTS_PER_ARENA, Tier};

use crate::any::AnyGc;
use crate::error::WrongHeap;
use crate::gc::Gc;
use crate::header::{DEAD, HEADER_BYTES, ObjectPtr};
use crate::heap::Heap;
use crate::trace::{Edge, Tracer};

/// Where an object lies, and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The arena (2 MiB), counted from the start of the heap's address range.
    pub arena: usize,
    /// The first slot (16 KiB) of the pool in its arena; `None` for an object too large for a pool.
    pub pool: Option<usize>,
    /// The block's number in its pool, or 0.
    pub block: usize,
    /// The index of the pool's size class; `None` for an object too large for a pool.
    pub size_class: Option<usize>,
    /// Bytes of the block.
    pub block_bytes: usize,
    /// Bytes of the object: header (16) and value.
    pub object_bytes: usize,
    /// Address of the block.
    pub address: usize,
    /// See [`Gc::refcount`].
    pub refcount: usize,
    /// Weak references to the object.
    pub weak_references: usize,
    /// `None` if the object is not tracked.
    pub generation: Option<Generation>,
}

impl Heap {
    /// The tracked objects of a generation, or of all, those that wait for a collection included. In a callback of a running
    /// collection also its trash: what still has a handle when the `Drop`s start is dead.
    pub fn objects(&self, generation: Option<Generation>) -> Vec<AnyGc> {
        self.objects_that(|object| match generation {
            Some(_) => object.generation() == generation,
            None => object.is_tracked(),
        })
    }

    /// Tracked objects that hold a handle to `target`, each once.
    ///
    /// # Errors
    /// [`WrongHeap`] if the target lives on another.
    pub fn referrers<T>(&self, target: &Gc<T>) -> Result<Vec<AnyGc>, WrongHeap> {
        let target = self.own(target.object())?;
        Ok(self.objects_that(|object| {
            let mut found = false;
            if object.is_tracked() {
                for_each_child(object, |child| found |= child == target);
            }
            found
        }))
    }

    /// What a value holds handles to; twice what it refers to twice. Objects of other heaps, too.
    ///
    /// # Errors
    /// [`WrongHeap`] if the source lives on another.
    pub fn referents<T>(&self, source: &Gc<T>) -> Result<Vec<AnyGc>, WrongHeap> {
        let source = self.own(source.object())?;
        let mut found = Vec::new();
        if !source.has(DEAD) {
            for_each_child(source, |child| found.push(child));
        }
        Ok(found.into_iter().map(AnyGc::to).collect())
    }

    /// Where the object lies.
    ///
    /// # Errors
    /// [`WrongHeap`] if it lives on another.
    pub fn where_is<T>(&self, handle: &Gc<T>) -> Result<Place, WrongHeap> {
        let object = self.own(handle.object())?;
        // SAFETY: the state is alive as long as a `Heap`; no program code runs.
        let inner = unsafe { &*self.inner() };
        let Some(location) = inner.range().locate(object.address()) else {
            unreachable!("a live block has a location");
        };
        let (pool, block, class) = match location.tier {
            Tier::Block { class, pool, index } => (Some(pool % SLOTS_PER_ARENA), index, Some(class.index())),
            _ => (None, 0, None),
        };
        Ok(Place {
            arena: location.arena,
            pool,
            block,
            size_class: class,
            block_bytes: location.block_bytes,
            object_bytes: HEADER_BYTES + object.vtable().value_bytes,
            address: location.start,
            refcount: object.refcount(),
            weak_references: inner.weak.count(object),
            generation: object.generation(),
        })
    }

    /// The object, if it lives here.
    fn own(&self, object: ObjectPtr) -> Result<ObjectPtr, WrongHeap> {
        if object.inner() == self.inner() {
            Ok(object)
        } else {
            Err(WrongHeap { type_name: (object.vtable().type_name)() })
        }
    }

    /// Handles to objects that `wanted` picks. They are counted only when the walk is through.
    fn objects_that(&self, mut wanted: impl FnMut(ObjectPtr) -> bool) -> Vec<AnyGc> {
        let mut found = Vec::new();
        // SAFETY: the state is alive as long as a `Heap`; no program code runs.
        unsafe { &*self.inner() }.visit_objects(|object| {
            if object.count() != 0 && wanted(object) {
                found.push(object);
            }
        });
        found.into_iter().map(AnyGc::to).collect()
    }
}

/// Call `visit` with each object that this one, whose value is whole, holds a handle to.
fn for_each_child(object: ObjectPtr, mut visit: impl FnMut(ObjectPtr)) {
    let mut each = |edge| {
        if let Edge::Counted { child, .. } = edge {
            visit(child);
        }
    };
    // SAFETY: the value is whole.
    unsafe { (object.vtable().trace)(object, &mut Tracer::each(&mut each)) };
}
