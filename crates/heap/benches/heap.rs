//! The heap beside the system's allocator, operation by operation. `cargo bench -p heapkeeper-heap`.
//!
//! What each group measures: `pair` an allocation and its free at once; `churn` a working set in which a random block is
//! replaced; `bulk` many blocks, then freed in the order they came or in a random one; `grow` a buffer that is reallocated
//! as a list grows; `span` large blocks, written to once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use heapkeeper_heap::{Heap, Range};

/// What is compared: both are given the size at each free, ours has no use for it.
trait Allocator {
    const NAME: &'static str;
    fn alloc(&mut self, bytes: usize) -> *mut u8;
    /// # Safety
    /// `block` is a live block of `bytes` bytes from here.
    unsafe fn free(&mut self, block: *mut u8, bytes: usize);
    /// # Safety
    /// As for `free`.
    unsafe fn realloc(&mut self, block: *mut u8, bytes: usize, new_bytes: usize) -> *mut u8;
}

impl Allocator for Heap {
    const NAME: &'static str = "heapkeeper";

    #[inline]
    fn alloc(&mut self, bytes: usize) -> *mut u8 {
        Heap::alloc(self, bytes)
    }

    #[inline]
    unsafe fn free(&mut self, block: *mut u8, _: usize) {
        // SAFETY: by contract.
        unsafe { Heap::free(self, block) };
    }

    #[inline]
    unsafe fn realloc(&mut self, block: *mut u8, _: usize, new_bytes: usize) -> *mut u8 {
        // SAFETY: by contract.
        unsafe { Heap::realloc(self, block, new_bytes) }
    }
}

struct SystemAllocator;

/// The layout of a block for Python: 16-byte aligned.
#[inline]
fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 16).unwrap()
}

impl Allocator for SystemAllocator {
    const NAME: &'static str = "system";

    #[inline]
    fn alloc(&mut self, bytes: usize) -> *mut u8 {
        // SAFETY: no size here is zero.
        unsafe { System.alloc(layout(bytes)) }
    }

    #[inline]
    unsafe fn free(&mut self, block: *mut u8, bytes: usize) {
        // SAFETY: by contract.
        unsafe { System.dealloc(block, layout(bytes)) };
    }

    #[inline]
    unsafe fn realloc(&mut self, block: *mut u8, bytes: usize, new_bytes: usize) -> *mut u8 {
        // SAFETY: by contract.
        unsafe { System.realloc(block, layout(bytes), new_bytes) }
    }
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    /// Sizes as small Python objects have them: 16 to 256 bytes, the smaller ones more often.
    fn object_bytes(&mut self) -> usize {
        16 + self.below(240) * self.below(240) / 240
    }
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn pair<A: Allocator>(group: &mut Group, allocator: &mut A) {
    for bytes in [16, 64, 256, 512, 1024, 4096, 16_384, 32_768] {
        group.bench_function(BenchmarkId::new(A::NAME, bytes), |bencher| {
            bencher.iter(|| {
                let block = black_box(allocator.alloc(black_box(bytes)));
                // SAFETY: a live block.
                unsafe { allocator.free(block, bytes) };
            });
        });
    }
}

fn churn<A: Allocator>(group: &mut Group, allocator: &mut A) {
    for blocks in [1_000, 100_000, 1_000_000] {
        let mut random = Random(1);
        let mut set: Vec<(*mut u8, usize)> = (0..blocks)
            .map(|_| {
                let bytes = random.object_bytes();
                (allocator.alloc(bytes), bytes)
            })
            .collect();
        group.bench_function(BenchmarkId::new(A::NAME, blocks), |bencher| {
            bencher.iter(|| {
                let i = random.below(blocks);
                let bytes = random.object_bytes();
                // SAFETY: a live block, and a new one of 16 bytes at least.
                unsafe {
                    allocator.free(set[i].0, set[i].1);
                    let block = allocator.alloc(bytes);
                    block.write(1);
                    set[i] = (block, bytes);
                }
            });
        });
        for (block, bytes) in set {
            // SAFETY: a live block.
            unsafe { allocator.free(block, bytes) };
        }
    }
}

fn bulk<A: Allocator>(group: &mut Group, allocator: &mut A) {
    const BLOCKS: usize = 100_000;
    group.throughput(Throughput::Elements(BLOCKS as u64));
    let in_order: Vec<usize> = (0..BLOCKS).collect();
    let mut at_random = in_order.clone();
    let mut random = Random(2);
    for i in (1..BLOCKS).rev() {
        at_random.swap(i, random.below(i + 1));
    }
    let mut blocks = vec![std::ptr::null_mut(); BLOCKS];
    for (name, order) in [("in order", &in_order), ("at random", &at_random)] {
        group.bench_function(BenchmarkId::new(A::NAME, name), |bencher| {
            bencher.iter(|| {
                for block in &mut blocks {
                    *block = allocator.alloc(64);
                    // SAFETY: a live block.
                    unsafe { block.write(1) };
                }
                for i in order {
                    // SAFETY: a live block.
                    unsafe { allocator.free(blocks[*i], 64) };
                }
            });
        });
    }
}

fn grow<A: Allocator>(group: &mut Group, allocator: &mut A) {
    for end in [1 << 10, 1 << 16, 1 << 20, 1 << 26] {
        group.bench_function(BenchmarkId::new(A::NAME, end), |bencher| {
            bencher.iter(|| {
                let mut bytes = 64;
                let mut block = allocator.alloc(bytes);
                while bytes < end {
                    let more = bytes + bytes / 8 + 48; // as list does
                    // SAFETY: a live block, whose last word is written to.
                    unsafe {
                        block = allocator.realloc(block, bytes, more);
                        block.add(more - 8).write(1);
                    }
                    bytes = more;
                }
                // SAFETY: a live block.
                unsafe { allocator.free(block, bytes) };
            });
        });
    }
}

fn span<A: Allocator>(group: &mut Group, allocator: &mut A) {
    for bytes in [64 << 10, 512 << 10, 4 << 20, 64 << 20] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new(A::NAME, bytes), |bencher| {
            bencher.iter(|| {
                let block = allocator.alloc(bytes);
                // SAFETY: a live block of this length.
                unsafe {
                    black_box(block).write_bytes(1, bytes);
                    allocator.free(block, bytes);
                }
            });
        });
    }
}

/// Run a group with both, each on a fresh heap.
fn compare(
    criterion: &mut Criterion,
    name: &str,
    ours: fn(&mut Group, &mut Heap),
    theirs: fn(&mut Group, &mut SystemAllocator),
) {
    let mut group = criterion.benchmark_group(name);
    let range = Range::reserve(1 << 36).unwrap();
    ours(&mut group, &mut Heap::new(range).unwrap());
    // SAFETY: the only heap is gone.
    unsafe { range.release() };
    theirs(&mut group, &mut SystemAllocator);
    group.finish();
}

fn all(criterion: &mut Criterion) {
    compare(criterion, "pair", pair, pair);
    compare(criterion, "churn", churn, churn);
    compare(criterion, "bulk", bulk, bulk);
    compare(criterion, "grow", grow, grow);
    compare(criterion, "span", span, span);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = all
}
criterion_main!(benches);
