//! The store on a real heap, and the world as an object model for the collector.
//!
//! ```text
//! block   refcount 8 · id 4 · kind 1 · generation 1 · — 2 · length 4 · room 4 · references, 8 each
//! ```

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Instant;

use heapkeeper_gc::{Collector, Generation, Graph, ObjectModel, Outcome, Trash, Visitor};
use heapkeeper_heap::{Heap, Range};

use super::world::{Event, Id, Store, World};

/// What a block holds. A raw block reads as zeros.
const TRACKED: u8 = 1;
const UNTRACKED: u8 = 2;

#[repr(C)]
pub struct Header {
    refcount: usize,
    id: Id,
    kind: u8,
    generation: u8,
    length: u32,
    room: u32,
}

const HEADER_BYTES: usize = size_of::<Header>();

/// A pointer to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectPtr(*mut Header);

impl ObjectPtr {
    fn id(self) -> Id {
        // SAFETY: pointers of this kind lead to live objects.
        unsafe { (*self.0).id }
    }

    fn length(self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).length as usize }
    }

    /// Where the reference `place` stands.
    fn reference(self, place: usize) -> *mut ObjectPtr {
        // SAFETY: the block has room for `room` references behind the header.
        unsafe { self.0.cast::<u8>().add(HEADER_BYTES).cast::<ObjectPtr>().add(place) }
    }

    fn references(self) -> impl Iterator<Item = ObjectPtr> {
        // SAFETY: the first `length` references are there.
        (0..self.length()).map(move |place| unsafe { self.reference(place).read() })
    }
}

/// The range of all tests.
pub fn range() -> &'static Range {
    static RANGE: OnceLock<&'static Range> = OnceLock::new();
    RANGE.get_or_init(|| Range::reserve(4 << 30).unwrap())
}

pub struct Blocks {
    pub heap: Heap,
    pub collector: Collector,
    objects: BTreeMap<Id, ObjectPtr>,
    raw: Vec<*mut u8>,
    /// Where each object ever made was.
    pub addresses: Vec<usize>,
    /// References that each object has room for at least.
    pub least_room: usize,
    started: Instant,
}

impl Blocks {
    pub fn new() -> Blocks {
        let mut collector = Collector::new(range()).unwrap();
        collector.pace_mut().growth_percent = None;
        Blocks {
            heap: Heap::new(range()).unwrap(),
            collector,
            objects: BTreeMap::new(),
            raw: Vec::new(),
            addresses: Vec::new(),
            least_room: 1,
            started: Instant::now(),
        }
    }

    pub fn free_raw(&mut self) {
        // SAFETY: nobody else knows them.
        self.raw.drain(..).for_each(|block| assert!(unsafe { self.heap.free(block) }));
    }

    fn header(&self, id: Id) -> *mut Header {
        self.objects[&id].0
    }
}

impl Store for Blocks {
    fn make(&mut self, id: Id, room: usize, tracked: bool) {
        let block = self.heap.alloc(HEADER_BYTES + 8 * room.max(self.least_room)).cast::<Header>();
        assert!(!block.is_null());
        let kind = if tracked { TRACKED } else { UNTRACKED };
        // SAFETY: the block has room for the header.
        unsafe { block.write(Header { refcount: 1, id, kind, generation: 0, length: 0, room: room as u32 }) };
        self.objects.insert(id, ObjectPtr(block));
        assert_eq!(self.addresses.len(), id as usize);
        self.addresses.push(block.addr());
        if tracked {
            let _ = self.collector.made();
        }
    }

    fn make_raw(&mut self, bytes: usize) {
        self.raw.push(self.heap.alloc_zeroed(bytes));
    }

    fn free(&mut self, id: Id) {
        let object = self.objects.remove(&id).unwrap();
        // SAFETY: nothing refers to it any more. What is left must not look like an object.
        unsafe {
            object.0.cast::<u8>().write_bytes(0xdd, HEADER_BYTES);
            assert!(self.heap.free(object.0.cast()));
        }
    }

    fn untrack(&mut self, id: Id) {
        let header = self.header(id);
        // SAFETY: objects listed here are alive.
        unsafe {
            if (*header).kind == TRACKED {
                (*header).kind = UNTRACKED;
                self.collector.forget(header.cast(), GENERATIONS[usize::from((*header).generation)]);
            }
        }
    }

    fn refcount(&self, id: Id) -> usize {
        // SAFETY: as above.
        unsafe { (*self.header(id)).refcount }
    }

    fn set_refcount(&mut self, id: Id, refcount: usize) {
        // SAFETY: as above.
        unsafe { (*self.header(id)).refcount = refcount };
    }

    fn edges(&self, id: Id) -> Vec<Id> {
        self.objects[&id].references().map(ObjectPtr::id).collect()
    }

    fn push_edge(&mut self, id: Id, child: Id) -> bool {
        let (object, child) = (self.objects[&id], self.objects[&child]);
        // SAFETY: as above; there is room.
        unsafe {
            let has_room = (*object.0).length < (*object.0).room;
            if has_room {
                object.reference(object.length()).write(child);
                (*object.0).length += 1;
            }
            has_room
        }
    }

    fn remove_edge(&mut self, id: Id, place: usize) -> Id {
        let object = self.objects[&id];
        assert!(place < object.length());
        // SAFETY: as above; the reference is there.
        unsafe {
            let child = object.reference(place).read().id();
            std::ptr::copy(object.reference(place + 1), object.reference(place), object.length() - place - 1);
            (*object.0).length -= 1;
            child
        }
    }

    fn generation(&self, id: Id) -> Option<Generation> {
        generation(self.objects[&id])
    }

    fn set_thresholds(&mut self, thresholds: [u32; 3], enabled: bool) {
        self.collector.pace_mut().set_thresholds(thresholds);
        self.collector.pace_mut().set_enabled(enabled);
    }

    fn collect(world: &mut World<Self>, oldest: Generation) -> Outcome {
        Collector::collect(world, oldest)
    }

    fn collect_if_due(world: &mut World<Self>) -> Option<Outcome> {
        Collector::collect_if_due(world)
    }

    fn freeze(world: &mut World<Self>) -> bool {
        Collector::freeze(world)
    }

    fn unfreeze(world: &mut World<Self>) -> bool {
        Collector::unfreeze(world)
    }
}

const GENERATIONS: [Generation; 4] = [Generation::Young, Generation::Middle, Generation::Old, Generation::Permanent];

fn generation(object: ObjectPtr) -> Option<Generation> {
    // SAFETY: pointers of this kind lead to live objects.
    let header = unsafe { &*object.0 };
    (header.kind == TRACKED).then(|| GENERATIONS[usize::from(header.generation)])
}

// SAFETY: references are counted by `World::incref`, visited from the same slice; `untrack` forgets; nothing unwinds but
// failing tests.
unsafe impl Graph for World<Blocks> {
    type Ref = ObjectPtr;

    fn address(object: ObjectPtr) -> *mut u8 {
        object.0.cast()
    }

    unsafe fn at(address: *mut u8) -> ObjectPtr {
        ObjectPtr(address.cast())
    }

    fn refcount(&self, object: ObjectPtr) -> usize {
        // SAFETY: pointers of this kind lead to live objects.
        unsafe { (*object.0).refcount }
    }

    fn trace(&self, object: ObjectPtr, visitor: &mut impl Visitor<ObjectPtr>) {
        let children: Vec<_> = object.references().collect();
        // Both ways, by turns.
        if children.len() % 2 == 1 {
            visitor.visit_all(&children);
        } else {
            children.iter().for_each(|child| visitor.visit(*child));
        }
    }

    fn fetch(&self, object: ObjectPtr) {
        assert_ne!(self.refcount(object), 0, "only who is alive is asked for");
    }
}

// SAFETY: as above.
unsafe impl ObjectModel for World<Blocks> {
    fn heap(&self) -> &Heap {
        &self.store.heap
    }

    fn collector(&self) -> &Collector {
        &self.store.collector
    }

    fn collector_mut(&mut self) -> &mut Collector {
        &mut self.store.collector
    }

    fn now_ns(&self) -> u64 {
        self.store.started.elapsed().as_nanos() as u64
    }

    fn object(&self, block: *mut u8) -> Option<ObjectPtr> {
        let object = ObjectPtr(block.cast());
        // SAFETY: live blocks of this heap hold a header, or zeros.
        (unsafe { (*object.0).kind } == TRACKED).then_some(object)
    }

    fn generation(&self, object: ObjectPtr) -> Option<Generation> {
        generation(object)
    }

    fn visit_suspects(&self, oldest: Generation, mut visit: impl FnMut(ObjectPtr)) {
        // By age: the order must not matter.
        for object in self.store.objects.values() {
            if generation(*object).is_some_and(|generation| generation <= oldest) {
                visit(*object);
            }
        }
    }

    fn promote(&mut self, oldest: Generation) {
        for object in self.store.objects.values() {
            if generation(*object).is_some_and(|generation| generation <= oldest) {
                // SAFETY: as above.
                unsafe { (*object.0).generation = oldest.next() as u8 };
            }
        }
    }

    fn set_generation(&mut self, object: ObjectPtr, generation: Generation) {
        // SAFETY: as above.
        unsafe { (*object.0).generation = generation as u8 };
    }

    fn incref(&mut self, object: ObjectPtr) {
        World::incref(self, object.id());
    }

    fn decref(&mut self, object: ObjectPtr) {
        World::decref(self, object.id());
    }

    fn started(&mut self, oldest: Generation) {
        self.log.push(Event::Started(oldest));
    }

    fn is_uncollectable(&self, object: ObjectPtr) -> bool {
        self.objects[&object.id()].uncollectable
    }

    fn clear_weakrefs(&mut self, trash: Trash<'_, Self>) {
        let known = self.store.objects.clone();
        for object in trash.iter() {
            self.clear_weakrefs_to(object.id(), |weak| !trash.contains(known[&weak]));
        }
    }

    fn call_callbacks(&mut self) -> bool {
        World::call_callbacks(self)
    }

    fn has_finalizer(&self, object: ObjectPtr) -> bool {
        World::has_finalizer(self, object.id())
    }

    fn finalize(&mut self, object: ObjectPtr) {
        World::finalize(self, object.id());
    }

    fn clear_late_weakrefs(&mut self, trash: Trash<'_, Self>) {
        trash.iter().for_each(|object| self.clear_weakrefs_to(object.id(), |_| false));
    }

    fn clear(&mut self, object: ObjectPtr) {
        World::clear(self, object.id());
    }

    fn uncollectable(&mut self, object: ObjectPtr) {
        World::uncollectable(self, object.id());
    }

    fn finished(&mut self, oldest: Generation, outcome: Outcome) {
        self.log.push(Event::Finished(oldest, outcome));
    }
}
