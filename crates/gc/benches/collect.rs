//! Full and young collections. `cargo bench -p heapkeeper-gc`; `HEAPKEEPER_OBJECTS` sets how many objects are alive, **10⁶**
//! by default.
//!
//! What each group measures, by the object: `full` a full collection with nothing to free, of a heap as it was allocated and
//! of an aged one (objects replaced in random order); `cycles` making pairs that refer to each other and collecting them;
//! `young` a young collection of 700 objects that all live, beside a large heap. Printed first: how much the scratch of a full
//! collection adds to the memory of the process.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heapkeeper_gc::{Collector, Generation, Graph, ObjectModel, Trash, Visitor};
use heapkeeper_heap::{Heap, Range};

/// References of an object: 64 bytes with the header.
const REFERENCES: usize = 5;

#[repr(C)]
struct Object {
    refcount: usize,
    kind: u32,
    generation: u32,
    /// Its place in `Objects::young`, while it is there.
    place: usize,
    references: [*mut Object; REFERENCES],
}

const _: () = assert!(size_of::<Object>() == 64);

const TRACKED: u32 = 0x7261;

#[derive(Clone, Copy, PartialEq, Eq)]
struct ObjectPtr(*mut Object);

struct Objects {
    heap: Heap,
    collector: Collector,
    young: Vec<*mut Object>,
}

impl Objects {
    fn new() -> Objects {
        let range = Range::reserve(64 << 30).unwrap();
        Objects { heap: Heap::new(range).unwrap(), collector: Collector::new(range).unwrap(), young: Vec::new() }
    }

    fn make(&mut self) -> *mut Object {
        let object = self.heap.alloc(size_of::<Object>()).cast::<Object>();
        let references = [std::ptr::null_mut(); REFERENCES];
        let place = self.young.len();
        // SAFETY: the block has room for an object.
        unsafe { object.write(Object { refcount: 1, kind: TRACKED, generation: 0, place, references }) };
        self.young.push(object);
        let _ = self.collector.made();
        object
    }

    fn link(&mut self, from: *mut Object, place: usize, to: *mut Object) {
        // SAFETY: both are alive.
        unsafe {
            (*from).references[place] = to;
            (*to).refcount += 1;
        }
    }

    fn leave_young(&mut self, object: *mut Object) {
        // SAFETY: the object is alive; those listed are.
        unsafe {
            if (*object).generation == 0 {
                let place = (*object).place;
                self.young.swap_remove(place);
                if let Some(moved) = self.young.get(place) {
                    (**moved).place = place;
                }
            }
        }
    }

    fn drop_reference(&mut self, object: *mut Object) {
        // SAFETY: the object is alive; at zero nothing refers to it.
        unsafe {
            (*object).refcount -= 1;
            if (*object).refcount == 0 {
                let generation = if (*object).generation == 0 { Generation::Young } else { Generation::Old };
                self.leave_young(object);
                (*object).kind = 0;
                self.collector.forget(object.cast(), generation);
                for child in (*object).references {
                    if !child.is_null() {
                        self.drop_reference(child);
                    }
                }
                self.heap.free(object.cast());
            }
        }
    }
}

// SAFETY: references are counted by `link`, and visited from the same array; nothing unwinds.
unsafe impl Graph for Objects {
    type Ref = ObjectPtr;

    fn address(object: ObjectPtr) -> *mut u8 {
        object.0.cast()
    }

    unsafe fn at(address: *mut u8) -> ObjectPtr {
        ObjectPtr(address.cast())
    }

    #[inline]
    fn refcount(&self, object: ObjectPtr) -> usize {
        // SAFETY: as above.
        unsafe { (*object.0).refcount }
    }

    #[inline]
    fn trace(&self, object: ObjectPtr, visitor: &mut impl Visitor<ObjectPtr>) {
        // SAFETY: as above.
        for child in unsafe { (*object.0).references } {
            if !child.is_null() {
                visitor.visit(ObjectPtr(child));
            }
        }
    }
}

// SAFETY: as above.
unsafe impl ObjectModel for Objects {
    fn heap(&self) -> &Heap {
        &self.heap
    }

    fn collector(&self) -> &Collector {
        &self.collector
    }

    fn collector_mut(&mut self) -> &mut Collector {
        &mut self.collector
    }

    fn now_ns(&self) -> u64 {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
    }

    #[inline]
    fn object(&self, block: *mut u8) -> Option<ObjectPtr> {
        let object = block.cast::<Object>();
        // SAFETY: this heap holds nothing but objects.
        (unsafe { (*object).kind } == TRACKED).then_some(ObjectPtr(object))
    }

    #[inline]
    fn generation(&self, object: ObjectPtr) -> Option<Generation> {
        // SAFETY: the object is alive.
        match unsafe { (*object.0).generation } {
            0 => Some(Generation::Young),
            1 => Some(Generation::Middle),
            2 => Some(Generation::Old),
            _ => Some(Generation::Permanent),
        }
    }

    fn visit_suspects(&self, oldest: Generation, mut visit: impl FnMut(ObjectPtr)) {
        // Nothing here lives in generation 1 when it is collected.
        let _ = oldest;
        self.young.iter().for_each(|object| visit(ObjectPtr(*object)));
    }

    fn promote(&mut self, oldest: Generation) {
        for object in std::mem::take(&mut self.young) {
            // SAFETY: as above.
            unsafe { (*object).generation = oldest.next() as u32 };
        }
    }

    fn set_generation(&mut self, object: ObjectPtr, generation: Generation) {
        self.leave_young(object.0);
        // SAFETY: as above.
        unsafe { (*object.0).generation = generation as u32 };
    }

    fn incref(&mut self, object: ObjectPtr) {
        // SAFETY: as above.
        unsafe { (*object.0).refcount += 1 };
    }

    fn decref(&mut self, object: ObjectPtr) {
        self.drop_reference(object.0);
    }

    fn clear_weakrefs(&mut self, _: Trash<'_, Self>) {}

    fn call_callbacks(&mut self) -> bool {
        false
    }

    fn has_finalizer(&self, _: ObjectPtr) -> bool {
        false
    }

    fn finalize(&mut self, _: ObjectPtr) {}

    fn clear_late_weakrefs(&mut self, _: Trash<'_, Self>) {}

    fn clear(&mut self, object: ObjectPtr) {
        for place in 0..REFERENCES {
            // SAFETY: as above.
            let child = unsafe { std::mem::replace(&mut (*object.0).references[place], std::ptr::null_mut()) };
            if !child.is_null() {
                self.drop_reference(child);
            }
        }
    }
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// `n` objects in a chain from a root, in the order of `order`; each also refers to two others.
fn graph(objects: &mut Objects, order: &[*mut Object], random: &mut Random) {
    for (i, object) in order.iter().enumerate() {
        if let Some(next) = order.get(i + 1) {
            objects.link(*object, 0, *next);
        }
        for place in 1..3 {
            objects.link(*object, place, order[random.below(order.len())]);
        }
    }
    // The first reference was the maker's; it stays with one object of a thousand, the roots.
    order.iter().enumerate().filter(|(i, _)| i % 1000 != 0).for_each(|(_, object)| objects.drop_reference(*object));
}

fn fresh(n: usize) -> Objects {
    let (mut objects, mut random) = (Objects::new(), Random(0x1234_5678_9abc_def1));
    let order: Vec<_> = (0..n).map(|_| objects.make()).collect();
    graph(&mut objects, &order, &mut random);
    objects
}

/// The same after each object was replaced three times on average, in random order: neighbours in the chain lie anywhere.
fn aged(n: usize) -> Objects {
    let (mut objects, mut random) = (Objects::new(), Random(0x1234_5678_9abc_def1));
    let mut order: Vec<_> = (0..n).map(|_| objects.make()).collect();
    for _ in 0..3 {
        let mut gone: Vec<usize> = (0..n).map(|_| random.below(n)).collect();
        gone.sort_unstable();
        gone.dedup();
        for i in (1..gone.len()).rev() {
            gone.swap(i, random.below(i + 1));
        }
        gone.iter().for_each(|i| objects.drop_reference(order[*i]));
        for i in (1..gone.len()).rev() {
            gone.swap(i, random.below(i + 1));
        }
        gone.iter().for_each(|i| order[*i] = objects.make());
    }
    graph(&mut objects, &order, &mut random);
    objects
}

/// A field of /proc/self/status in bytes.
fn status_bytes(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn report_scratch(objects: &mut Objects) {
    let young = std::mem::take(&mut objects.young);
    young.iter().for_each(|object| objects.set_generation_unlisted(*object));
    // The peak starts again from what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_bytes("VmRSS");
    Collector::collect(objects, Generation::Old);
    let scratch = status_bytes("VmHWM").saturating_sub(before);
    let held = objects.heap.held_bytes();
    println!("scratch of a full collection: {:.1} % of {} MiB", scratch as f64 * 100.0 / held as f64, held >> 20);
}

impl Objects {
    fn set_generation_unlisted(&mut self, object: *mut Object) {
        // SAFETY: the object is alive.
        unsafe { (*object).generation = Generation::Old as u32 };
    }
}

fn collections(criterion: &mut Criterion) {
    let n = std::env::var("HEAPKEEPER_OBJECTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut group = criterion.benchmark_group("full");
    group.throughput(Throughput::Elements(n as u64)).sample_size(10);
    for name in ["fresh", "aged"] {
        let mut objects = if name == "aged" { aged(n) } else { fresh(n) };
        report_scratch(&mut objects);
        group.bench_function(BenchmarkId::new(name, n), |bencher| {
            bencher.iter(|| assert_eq!(black_box(Collector::collect(&mut objects, Generation::Old)).collected, 0));
        });
        let phases = objects.collector.telemetry().phases;
        let all = objects.collector.telemetry().of(Generation::Old).candidates as f64;
        let [count, mark, walk] = [phases.count_ns, phases.mark_ns, phases.walk_ns].map(|ns| ns as f64 / all);
        println!("{name}: ns an object: count {count:.1}, mark {mark:.1}, the rest {walk:.1}");
    }
    group.finish();

    let mut objects = aged(n);
    report_scratch(&mut objects);
    let mut group = criterion.benchmark_group("young");
    group.throughput(Throughput::Elements(700));
    let kept: Vec<_> = (0..700).map(|_| objects.make()).collect();
    (1..700).for_each(|i| objects.link(kept[i], 0, kept[i - 1]));
    group.bench_function("700 live", |bencher| {
        bencher.iter(|| {
            black_box(Collector::collect(&mut objects, Generation::Young));
            for object in &kept {
                // SAFETY: the object is alive.
                unsafe { ((**object).generation, (**object).place) = (0, objects.young.len()) };
                objects.young.push(*object);
            }
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("cycles");
    group.throughput(Throughput::Elements(2 * 350));
    group.bench_function("350 pairs", |bencher| {
        let mut objects = Objects::new();
        bencher.iter(|| {
            for _ in 0..350 {
                let (a, b) = (objects.make(), objects.make());
                objects.link(a, 0, b);
                objects.link(b, 0, a);
                objects.drop_reference(a);
                objects.drop_reference(b);
            }
            assert_eq!(black_box(Collector::collect(&mut objects, Generation::Young)).collected, 700);
        });
    });
    group.finish();
}

criterion_group!(benches, collections);
criterion_main!(benches);
