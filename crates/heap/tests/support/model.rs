//! The model: what a heap must look like, kept as plainly as can be (a list of live blocks with what they hold), and
//! compared with what it does look like.
//!
//! Checked at each step: no two blocks overlap, alignment, usable size, contents (over reallocation too), zeroed memory,
//! who owns an address, the budget of the observer, the marked frees it is shown. At each full check: the checkers of heaps
//! and range, the walker, every figure. At the end: nothing is held, retained or resident.

use std::collections::BTreeMap;

use heapkeeper_heap::{
    ARENA_BYTES, CLASSES, Heap, HugePages, LimitHandler, MEDIUM_MAX_BYTES, Range, SLOT_BYTES, SizeClass, Tier,
};

use super::observer::Seen;
use super::program::{Op, size_of_draw};

/// In what surroundings programs run.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    pub heaps: usize,
    /// Largest request.
    pub max_bytes: usize,
    /// Requests beyond this much live memory are made small.
    pub live_bytes: usize,
    /// The range may be too small for a request.
    pub tight: bool,
    /// Others use the range at the same time: its figures say nothing of this model, and its limit is not ours to set.
    pub shared: bool,
}

impl Surroundings {
    /// Room for everything: a refusal without a limit is a defect. Wants a range of 1 GiB.
    pub const ROOMY: Surroundings =
        Surroundings { heaps: 3, max_bytes: 9 << 20, live_bytes: 32 << 20, tight: false, shared: false };
    /// The smallest range, 16 MiB, which large requests overfill.
    pub const TIGHT: Surroundings =
        Surroundings { heaps: 2, max_bytes: 17 << 20, live_bytes: 32 << 20, tight: true, shared: false };
}

/// Most live blocks; programs that would have more free some instead.
const MAX_BLOCKS: usize = 6000;

/// Blocks up to this size hold something in every byte, larger ones in each kilobyte.
const DENSE_BYTES: usize = 8192;
const STRIDE: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Live {
    address: *mut u8,
    /// Bytes it can hold. All of them are ours to use.
    bytes: usize,
    heap: usize,
    tag: u8,
}

struct Tenant {
    heap: Heap,
    seen: Box<Seen>,
    observed: bool,
    /// Bytes until the observer must be called.
    budget: isize,
}

pub struct Model {
    range: &'static Range,
    around: Surroundings,
    tenants: Vec<Tenant>,
    blocks: Vec<Live>,
    /// Live memory: first byte → length.
    taken: BTreeMap<usize, usize>,
    live_bytes: usize,
    /// The most that may be held under the limit, grace included.
    limit: Option<usize>,
    serial: usize,
    /// From the start of the range to the end of the last arena that held a block.
    used_bytes: usize,
}

impl Model {
    pub fn new(range: &'static Range, around: Surroundings) -> Model {
        let tenants = (0..around.heaps).map(|_| Tenant::new(range)).collect();
        let (blocks, taken) = (Vec::new(), BTreeMap::new());
        Model { range, around, tenants, blocks, taken, live_bytes: 0, limit: None, serial: 0, used_bytes: 0 }
    }

    /// Run a program in a range of its own, to its end.
    pub fn run(range_bytes: usize, around: Surroundings, program: impl IntoIterator<Item = Op>) {
        let range = Range::reserve(range_bytes).unwrap();
        let mut model = Model::new(range, around);
        program.into_iter().for_each(|op| model.step(op));
        let used_bytes = model.finish();
        assert_eq!(resident_bytes(range, used_bytes), 0, "memory stayed resident");
        // SAFETY: the heaps are gone with the model.
        unsafe { range.release() };
    }

    pub fn step(&mut self, op: Op) {
        match op {
            Op::Alloc { heap, size } => {
                let (heap, bytes) = (self.heap(heap), self.size(size));
                self.alloc(heap, bytes, 16, |heap| heap.alloc(bytes));
            }
            Op::AllocZeroed { heap, size } => {
                let (heap, bytes) = (self.heap(heap), self.size(size));
                self.alloc(heap, bytes, 16, |heap| {
                    let block = heap.alloc_zeroed(bytes);
                    assert!(block.is_null() || is_zero(block, bytes), "{bytes} zeroed bytes are not zero");
                    block
                });
            }
            Op::AllocAligned { heap, size, align } => {
                let (heap, bytes, align) = (self.heap(heap), self.size(size), 1usize << (align % 22));
                let bytes = if align > 16 << 10 && self.live_bytes > self.around.live_bytes { return } else { bytes };
                self.alloc(heap, bytes, align, |heap| heap.alloc_aligned(bytes, align));
            }
            Op::AllocMany { heap, size, count } => {
                let heap = self.heap(heap);
                for i in 0..usize::from(count) {
                    let bytes = self.size(size % 0xa000) + i % 24;
                    self.alloc(heap, bytes, 16, |heap| heap.alloc(bytes));
                }
            }
            Op::Realloc { block, size } => {
                let bytes = self.size(size);
                self.pick(block).into_iter().for_each(|i| self.realloc(i, bytes));
            }
            Op::ReallocNear { block, change } => {
                if let Some(i) = self.pick(block) {
                    let old = self.blocks[i].bytes;
                    let bytes =
                        old.saturating_add_signed(old as isize / 64 * isize::from(change)).min(self.around.max_bytes);
                    self.realloc(i, if self.live_bytes > self.around.live_bytes { bytes.min(old) } else { bytes });
                }
            }
            Op::Free { block } => self.pick(block).into_iter().for_each(|i| self.free(i)),
            Op::FreeMany { first, step } => {
                let mut i = self.pick(first).unwrap_or(0);
                while i < self.blocks.len() {
                    self.free(i);
                    i += usize::from(step % 8);
                }
            }
            Op::DropHeap { heap } => self.drop_heap(self.heap(heap)),
            Op::TrimHeap { heap } => {
                let heap = self.heap(heap);
                self.tenants[heap].heap.trim();
                assert_eq!(self.tenants[heap].heap.stats().retained_bytes, 0);
            }
            Op::TrimRange => {
                self.range.trim();
            }
            Op::SetLimit { slack } => self.set_limit(slack),
            Op::Observe { heap, budget } => {
                let heap = self.heap(heap);
                self.tenants[heap].observe(isize::from(budget) * 100);
            }
            Op::HugePages { wanted } => {
                self.range.set_huge_pages(if wanted { HugePages::Auto } else { HugePages::Never });
            }
            Op::Locate { block, offset } => self.locate(block, offset),
            Op::Check => self.check(),
        }
    }

    fn heap(&self, draw: u8) -> usize {
        usize::from(draw) % self.tenants.len()
    }

    fn size(&self, draw: u16) -> usize {
        let room = self.around.live_bytes.saturating_sub(self.live_bytes).max(512);
        size_of_draw(draw, self.around.max_bytes.min(room))
    }

    fn pick(&self, draw: u16) -> Option<usize> {
        if self.blocks.is_empty() { None } else { Some((usize::from(draw) * self.blocks.len()) >> 16) }
    }

    /// Allocate with `work`, and compare.
    fn alloc(&mut self, heap: usize, bytes: usize, align: usize, work: impl FnOnce(&mut Heap) -> *mut u8) {
        if self.blocks.len() >= MAX_BLOCKS {
            self.free(self.serial % MAX_BLOCKS);
        }
        let tenant = &mut self.tenants[heap];
        let requested = tenant.heap.requested_bytes();
        let held = tenant.heap.held_bytes();
        let block = work(&mut tenant.heap);
        let requested = (tenant.heap.requested_bytes() - requested) as usize;
        if block.is_null() {
            assert!(self.around.tight || self.limit.is_some(), "{bytes} bytes refused without a limit");
            // On the way to a refusal the heap may have given empty pools back.
            assert!(requested == 0 && tenant.heap.held_bytes() <= held, "a refused request left a trace");
            return;
        }
        assert!(
            block.addr().is_multiple_of(align) && block.addr().is_multiple_of(16),
            "{block:?} is not aligned to {align}"
        );
        assert!(requested >= bytes && (align > 16 || requested == bytes), "{requested} requested for {bytes}");
        tenant.expect_allocated(block, requested);
        tenant.expect_freed(None);
        self.add(heap, block, bytes);
        self.check_limit();
        self.fill_last();
    }

    /// Take a block into the books.
    fn add(&mut self, heap: usize, block: *mut u8, bytes: usize) {
        let usable = self.tenants[heap].heap.usable_bytes(block);
        assert!(usable >= bytes.max(1) && usable.is_multiple_of(16), "{usable} usable bytes for {bytes}");
        let start = block.addr();
        assert!(self.range.contains(block) && self.range.contains(block.wrapping_add(usable - 1)));
        if let Some((before, length)) = self.taken.range(..start + usable).next_back() {
            assert!(before + length <= start, "{start:#x} + {usable} overlaps {before:#x} + {length}");
        }
        self.taken.insert(start, usable);
        let used_bytes = (start + usable - self.range.bounds().start).next_multiple_of(ARENA_BYTES);
        self.used_bytes = self.used_bytes.max(used_bytes);
        self.live_bytes += usable;
        self.serial += 1;
        self.blocks.push(Live { address: block, bytes: usable, heap, tag: self.serial as u8 });
    }

    fn remove(&mut self, i: usize) -> Live {
        let block = self.blocks.swap_remove(i);
        assert_eq!(self.taken.remove(&block.address.addr()), Some(block.bytes));
        self.live_bytes -= block.bytes;
        block
    }

    fn fill_last(&mut self) {
        if let Some(block) = self.blocks.last() {
            block.fill();
        }
    }

    fn realloc(&mut self, i: usize, bytes: usize) {
        let old = self.blocks[i];
        let tenant = &mut self.tenants[old.heap];
        let was_marked = tenant.seen.marked.contains(&old.address.addr());
        let requested = tenant.heap.requested_bytes();
        // SAFETY: a live block of this heap.
        let new = unsafe { tenant.heap.realloc(old.address, bytes) };
        let requested = (tenant.heap.requested_bytes() - requested) as usize;
        if new.is_null() {
            assert!(self.around.tight || self.limit.is_some(), "realloc to {bytes} refused without a limit");
            assert!(bytes > old.bytes, "shrinking from {} to {bytes} failed", old.bytes);
            assert_eq!(requested, 0);
            old.check(old.bytes);
            tenant.expect_freed(None);
            return;
        }
        // Where nothing was requested the block is what it was; else, to an observer, an old one went and a new one came.
        assert!(requested == bytes || requested == 0 && (new == old.address || bytes == 0));
        let replaced = requested > 0 || new != old.address;
        if replaced {
            tenant.expect_allocated(new, requested);
        }
        tenant.expect_freed((replaced && was_marked).then_some(old.address));
        self.remove(i);
        self.add(old.heap, new, bytes);
        let kept = self.blocks.last().unwrap().bytes.min(old.bytes).min(bytes);
        Live { address: new, ..old }.check(kept);
        self.check_limit();
        self.fill_last();
    }

    fn free(&mut self, i: usize) {
        let Some(&block) = self.blocks.get(i) else { return };
        block.check(block.bytes);
        self.remove(i);
        for (other, tenant) in self.tenants.iter_mut().enumerate().filter(|(other, _)| *other != block.heap) {
            // SAFETY: the block is not this heap's, which is to say so and leave it alone.
            assert!(!unsafe { tenant.heap.free(block.address) }, "heap {other} freed a block of {}", block.heap);
            assert_eq!((tenant.heap.usable_bytes(block.address), tenant.heap.owns(block.address)), (0, false));
        }
        let tenant = &mut self.tenants[block.heap];
        assert!(tenant.heap.owns(block.address));
        let was_marked = tenant.seen.marked.contains(&block.address.addr());
        // SAFETY: a live block of this heap.
        assert!(unsafe { tenant.heap.free(block.address) });
        tenant.expect_freed(was_marked.then_some(block.address));
    }

    fn drop_heap(&mut self, heap: usize) {
        for i in (0..self.blocks.len()).rev() {
            if self.blocks[i].heap == heap {
                self.blocks[i].check(self.blocks[i].bytes);
                self.remove(i);
            }
        }
        self.tenants[heap] = Tenant::new(self.range);
    }

    fn set_limit(&mut self, slack: u8) {
        if self.around.shared {
            return;
        }
        if slack == 255 {
            self.limit = None;
            self.range.set_limit(usize::MAX, None::<LimitHandler>);
        } else {
            let limit = self.range.stats().held_bytes + usize::from(slack) * (32 << 10);
            self.limit = Some(limit + (limit / 16).min(1 << 20));
            self.range.set_limit(limit, None);
        }
    }

    fn check_limit(&self) {
        if let Some(limit) = self.limit {
            assert!(self.range.stats().held_bytes <= limit, "held beyond limit and grace");
        }
    }

    fn locate(&self, block: u16, offset: u16) {
        // Some address of the range, wherever that is; and the end of a slot in use, which may be the unused tail of a pool.
        let bounds = self.range.bounds();
        let any = bounds.start + usize::from(block) * (bounds.len() >> 16) + usize::from(offset);
        let tail =
            self.pick(block).map(|i| (self.blocks[i].address.addr() | (SLOT_BYTES - 1)) - usize::from(offset % 64));
        for address in [Some(any), tail].into_iter().flatten().filter(|_| !self.around.shared) {
            let Some(found) = self.range.locate(std::ptr::without_provenance(address)) else { continue };
            let holds = found.start <= address && address < found.start + found.block_bytes;
            assert!(holds, "{found:?} does not hold {address:#x}");
            if let Tier::Block { class, index, .. } = found.tier {
                assert!(index < class.capacity_blocks(), "{found:?} is beyond its pool");
            }
        }
        for outside in [0, 16, bounds.start - 1, bounds.end, usize::MAX] {
            let outside = std::ptr::without_provenance(outside);
            assert_eq!((self.range.locate(outside), self.range.owner_of(outside)), (None, 0));
        }
        let Some(block) = self.pick(block).map(|i| self.blocks[i]) else { return };
        let first = self.range.locate(block.address).unwrap();
        for offset in [0, 1, usize::from(offset) % block.bytes, block.bytes / 2, block.bytes - 1] {
            let address = block.address.wrapping_add(offset);
            let found = self.range.locate(address).unwrap();
            assert_eq!((found.start, found.block_bytes), (block.address.addr(), block.bytes));
            assert_eq!((found, found.heap), (first, self.range.owner_of(address)));
            match found.tier {
                Tier::Block { class, .. } => assert_eq!(class.block_bytes(), block.bytes),
                Tier::Span => assert!(block.bytes > MEDIUM_MAX_BYTES && block.bytes <= 1 << 20),
                Tier::ArenaSpan => assert!(block.bytes > 1 << 20 && block.address.addr() % ARENA_BYTES == 0),
                _ => panic!("a tier that the model does not know: {found:?}"),
            }
        }
    }

    /// Compare everything.
    pub fn check(&self) {
        let mut held = 0;
        for (at, tenant) in self.tenants.iter().enumerate() {
            let heap = &tenant.heap;
            heap.check().unwrap();
            let mut expected: Vec<_> =
                self.blocks.iter().filter(|b| b.heap == at).map(|b| (b.address.addr(), b.bytes)).collect();
            expected.sort_unstable();
            let mut found = Vec::with_capacity(expected.len());
            heap.visit_live(|live| {
                assert_eq!(live.class, SizeClass::of(live.block_bytes));
                found.push((live.address.addr(), live.block_bytes));
            });
            assert_eq!(found, expected, "the walker found other blocks than are live");
            let is_live = |address: &usize| expected.binary_search_by_key(address, |b| b.0).is_ok();
            assert!(tenant.seen.marked.iter().all(is_live), "a mark outlived its block");

            let stats = heap.stats();
            let mut by_class = [0; CLASSES];
            let (mut spans, mut span_bytes, mut live_bytes) = (0, 0, 0);
            for (_, bytes) in &expected {
                live_bytes += bytes;
                match SizeClass::of(*bytes) {
                    Some(class) => by_class[class.index()] += 1,
                    None => (spans, span_bytes) = (spans + 1, span_bytes + bytes),
                }
            }
            assert_eq!(stats.classes.map(|class| class.live_blocks), by_class);
            assert_eq!((stats.spans, stats.span_bytes), (spans, span_bytes));
            assert_eq!((stats.live_blocks, stats.live_bytes), (expected.len(), live_bytes));
            assert_eq!((stats.held_bytes, heap.live_blocks()), (heap.held_bytes(), expected.len()));
            assert!(stats.held_bytes >= live_bytes && stats.held_bytes <= stats.arenas * ARENA_BYTES);
            assert!((0.0..=1.0).contains(&stats.fragmentation()));
            held += stats.held_bytes;
        }
        self.range.check().unwrap();
        let stats = self.range.stats();
        if !self.around.shared {
            assert_eq!(stats.held_bytes, held);
        }
        assert!(stats.peak_bytes >= held && stats.retained_bytes <= stats.reserved_bytes);
    }

    /// Free what is left, and see that nothing remains. Returns the bytes of the range that were used.
    pub fn finish(mut self) -> usize {
        self.check();
        while !self.blocks.is_empty() {
            self.free(self.blocks.len() * 5 / 8);
        }
        self.check();
        for tenant in &mut self.tenants {
            tenant.heap.trim();
            let stats = tenant.heap.stats();
            assert_eq!((stats.held_bytes, stats.live_blocks, stats.arenas, stats.retained_bytes), (0, 0, 0, 0));
            assert!(tenant.seen.marked.is_empty());
        }
        self.check();
        drop(std::mem::take(&mut self.tenants));
        if !self.around.shared {
            let stats = self.range.stats();
            assert_eq!((stats.held_bytes, stats.retained_bytes), (0, 0));
        }
        self.used_bytes
    }
}

impl Tenant {
    fn new(range: &'static Range) -> Tenant {
        Tenant { heap: Heap::new(range).unwrap(), seen: Box::default(), observed: false, budget: 0 }
    }

    /// Observe with this budget; with 0, stop if there is no mark left.
    fn observe(&mut self, budget: isize) {
        if budget > 0 {
            self.heap.observe(Some(self.seen.observer()), budget);
            (self.observed, self.budget) = (true, budget);
        } else if self.seen.marked.is_empty() {
            self.heap.observe(None, 0);
            self.observed = false;
        }
    }

    /// The observer was shown this allocation if it used up the budget, and nothing otherwise.
    fn expect_allocated(&mut self, block: *mut u8, requested: usize) {
        let shown = std::mem::take(&mut self.seen.allocated);
        if self.observed {
            self.budget -= requested as isize;
            if self.budget < 0 {
                assert_eq!(shown, [(block.addr(), requested)]);
                self.budget = self.seen.budget;
                return;
            }
        }
        assert!(shown.is_empty(), "the observer was shown {shown:?} before its turn");
    }

    /// The observer was shown this free of a marked block, and no other.
    fn expect_freed(&mut self, block: Option<*mut u8>) {
        let shown = std::mem::take(&mut self.seen.freed);
        assert_eq!(shown, block.map(|b| b.addr()).as_slice(), "frees of marked blocks");
    }
}

impl Live {
    /// Offsets of the bytes that are written and looked at.
    fn places(&self, bytes: usize) -> impl Iterator<Item = usize> {
        let step = if self.bytes <= DENSE_BYTES { 1 } else { STRIDE };
        (0..bytes).step_by(step).chain(bytes.checked_sub(1).filter(|_| bytes == self.bytes))
    }

    fn fill(&self) {
        // SAFETY: all `bytes` are this block's.
        self.places(self.bytes).for_each(|i| unsafe { self.address.add(i).write(self.at(i)) });
    }

    /// The first `bytes` bytes are what they were filled with.
    fn check(&self, bytes: usize) {
        for i in self.places(bytes) {
            // SAFETY: the block has at least `bytes` bytes.
            let found = unsafe { self.address.add(i).read() };
            assert_eq!(found, self.at(i), "{:?} + {i} of {} bytes changed", self.address, self.bytes);
        }
    }

    fn at(&self, offset: usize) -> u8 {
        self.tag.wrapping_add((offset ^ offset >> 8) as u8) | 1
    }
}

fn is_zero(block: *mut u8, bytes: usize) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    // SAFETY: the caller's block has this many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(block, bytes) };
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Of the first `bytes` bytes of the range, those that are in memory, whatever our books say.
pub fn resident_bytes(range: &Range, bytes: usize) -> usize {
    const PAGE_BYTES: usize = 4096;
    let mut resident = 0;
    for offset in (0..bytes).step_by(ARENA_BYTES) {
        let length = ARENA_BYTES.min(bytes - offset);
        let mut pages = vec![0u8; length / PAGE_BYTES];
        let start = std::ptr::without_provenance_mut(range.bounds().start + offset);
        // SAFETY: mincore writes a byte for each page of an arena.
        if unsafe { libc::mincore(start, length, pages.as_mut_ptr()) } != 0 {
            // Not mapped: a free arena of a process with limits.
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOMEM));
            continue;
        }
        resident += pages.iter().filter(|page| **page & 1 == 1).count() * PAGE_BYTES;
    }
    resident
}
