//! Both searches against a naive one: random graphs with objects in the heap and elsewhere, known roots, and references that
//! nobody accounts for. As in CPython, candidates begin somewhere behind the start of their block, and others at it, so that these
//! may be closer to a candidate than candidates are to each other.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, BTreeSet};

use heapkeeper_gc::{Candidate, Graph, Outside, SparseSearch, Tables, Visitor};
use heapkeeper_heap::{Heap, Range};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Object(*mut u8);

/// Who refers to whom, by address.
#[derive(Default)]
struct Toy {
    children: BTreeMap<usize, Vec<*mut u8>>,
    counts: BTreeMap<usize, usize>,
}

// SAFETY: each reference is counted when it is made, below, and nothing changes afterwards.
unsafe impl Graph for Toy {
    type Ref = Object;

    fn address(object: Object) -> *mut u8 {
        object.0
    }

    unsafe fn at(address: *mut u8) -> Object {
        Object(address)
    }

    fn refcount(&self, object: Object) -> usize {
        self.counts[&object.0.addr()]
    }

    fn trace(&self, object: Object, visitor: &mut impl Visitor<Object>) {
        for child in &self.children[&object.0.addr()] {
            visitor.visit(Object(*child));
        }
    }
}

/// One object of a program: in the heap or elsewhere, a candidate or not, how many references hold it from outside, whether
/// it is a known root, and to whom it refers.
#[derive(Debug, Clone)]
struct Row {
    is_inside: bool,
    is_candidate: bool,
    /// Of a candidate: from the start of its block.
    offset: usize,
    held: usize,
    is_root: bool,
    children: Vec<usize>,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        any::<bool>(),
        prop::bool::weighted(0.9),
        prop_oneof![Just(16), Just(32)],
        prop_oneof![6 => Just(0usize), 2 => Just(1), 1 => 120usize..140, 1 => 250usize..260, 1 => Just(65_536)],
        prop::bool::weighted(0.1),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    );
    // Few, or more than a sweep takes up at once, over more memory than it goes over.
    let (few, many) = (prop::collection::vec(row.clone(), 1..120), prop::collection::vec(row, 1000..2000));
    prop_oneof![4 => few, 1 => many].prop_map(|rows| {
        let length = rows.len();
        let row =
            |(is_inside, is_candidate, offset, held, is_root, children): (_, _, _, _, _, Vec<prop::sample::Index>)| {
                Row {
                    is_inside,
                    is_candidate,
                    offset: if is_candidate { offset } else { 0 },
                    held,
                    is_root,
                    children: children.iter().map(|child| child.index(length)).collect(),
                }
            };
        rows.into_iter().map(row).collect()
    })
}

const BLOCK_BYTES: usize = 48;

/// What no root, no reference from outside and no object that is no candidate leads to.
fn naive(rows: &[Row]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<usize> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        if row.is_root || row.held > 0 {
            waiting.push(i);
        }
        if !row.is_candidate {
            waiting.extend(&row.children);
        }
    }
    while let Some(i) = waiting.pop() {
        if rows[i].is_candidate && reached.insert(i) {
            waiting.extend(&rows[i].children);
        }
    }
    (0..rows.len()).filter(|i| rows[*i].is_candidate && !reached.contains(i)).collect()
}

/// Also where a count has no room for them.
#[test]
fn many_references_from_elsewhere_hold_a_candidate() {
    let address = std::ptr::without_provenance_mut::<u8>(64);
    for count in [1, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 32, usize::MAX >> 1] {
        let mut toy = Toy::default();
        toy.children.insert(address.addr(), Vec::new());
        toy.counts.insert(address.addr(), count);
        let few = [Candidate::new(address, 0)];
        SparseSearch::new(&few, &mut vec![0; SparseSearch::words_for(1)]).search(&toy);
        assert!(!few[0].is_unreached(), "{count}");
    }
}

/// A candidate refers to a great many that were given before it, each of which leads to one more: they have no room on the stack.
#[test]
fn few_candidates_are_all_marked_however_short_the_stack() {
    const COUNT: usize = 10_000;
    // Addresses alone count: nothing is read there.
    let address = |i: usize| std::ptr::without_provenance_mut::<u8>((i + 1) * 64);
    let (leaves, inner, root) = (0..COUNT, COUNT..2 * COUNT, 2 * COUNT);
    let mut toy = Toy::default();
    toy.children.extend(leaves.clone().map(|i| (address(i).addr(), Vec::new())));
    toy.children.extend(inner.clone().map(|i| (address(i).addr(), vec![address(i - COUNT)])));
    toy.children.insert(address(root).addr(), inner.clone().map(address).collect());
    for held in [0, 1] {
        toy.counts.extend((0..root).map(|i| (address(i).addr(), 1)));
        toy.counts.insert(address(root).addr(), held);
        let few: Vec<Candidate> = (0..=root).map(|i| Candidate::new(address(i), 0)).collect();
        let mut memory = vec![0; SparseSearch::words_for(few.len())];
        SparseSearch::new(&few, &mut memory).search(&toy);
        assert!(few.iter().all(|few| few.is_unreached() == (held == 0)));
    }
}

proptest! {
    #[test]
    fn finds_what_a_naive_search_finds(rows in rows(), knows_roots in any::<bool>(), by_rank in any::<bool>()) {
        let range: &'static Range = Range::reserve(1 << 30).unwrap();
        let mut heap = Heap::new(range).unwrap();
        let layout = Layout::from_size_align(BLOCK_BYTES, 16).unwrap();
        let mut toy = Toy::default();
        let addresses: Vec<*mut u8> = rows
            .iter()
            .map(|row| {
                // SAFETY: the layout is not empty.
                let block = if row.is_inside { heap.alloc(BLOCK_BYTES) } else { unsafe { alloc_zeroed(layout) } };
                block.wrapping_add(row.offset)
            })
            .collect();
        for (row, address) in rows.iter().zip(&addresses) {
            toy.children.insert(address.addr(), row.children.iter().map(|child| addresses[*child]).collect());
            // A root is referred to by whoever makes it one.
            *toy.counts.entry(address.addr()).or_default() += row.held + usize::from(row.is_root);
            for child in &row.children {
                *toy.counts.entry(addresses[*child].addr()).or_default() += 1;
            }
        }

        let mut tables = Tables::reserve(range).unwrap();
        let candidates = || rows.iter().zip(&addresses).filter(|(row, _)| row.is_candidate);
        let elsewhere: Vec<*mut u8> = candidates().filter(|(row, _)| !row.is_inside).map(|(_, address)| *address).collect();
        let mut chunks: Vec<usize> = elsewhere.iter().map(|address| Outside::chunk_of(*address)).collect();
        chunks.sort_unstable();
        chunks.dedup();
        let mut memory = vec![0; Outside::words_for(chunks.len())];
        let mut search = tables.search(heap.held_bytes(), Outside::NONE);
        for (_, address) in candidates().filter(|(row, _)| row.is_inside) {
            prop_assert!(search.add(*address));
        }
        search.add_elsewhere(Outside::new(&chunks, &mut memory), &elsewhere);
        search.added();
        prop_assert_eq!(search.unreached(), candidates().count());
        if knows_roots {
            search.mark_known(&toy, |mark| {
                // Nonsense among them does no harm.
                mark(Object(std::ptr::without_provenance_mut(0x10)));
                rows.iter().zip(&addresses).filter(|(row, _)| row.is_root).for_each(|(_, root)| mark(Object(*root)));
            });
        }
        if by_rank {
            search.rank();
        }
        search.count(&toy);
        search.mark(&toy);

        let expected: BTreeSet<usize> = naive(&rows).into_iter().map(|i| addresses[i].addr()).collect();
        let mut found = BTreeSet::new();
        search.for_each_unreached(|address| {
            found.insert(address.addr());
        });
        prop_assert_eq!(&found, &expected);
        let mut reached = 0;
        search.for_each_reached(|_| reached += 1);
        prop_assert_eq!(reached + found.len(), search.candidates());
        prop_assert!(addresses.iter().all(|address| search.is_unreached(*address) == expected.contains(&address.addr())));

        // Few candidates of a large heap.
        let few: Vec<Candidate> = candidates().zip(0..).map(|((_, address), i)| Candidate::new(*address, i)).collect();
        let mut memory = vec![0; SparseSearch::words_for(few.len())];
        SparseSearch::new(&few, &mut memory).search(&toy);
        prop_assert!(few.iter().all(|few| few.is_unreached() == expected.contains(&few.address().addr())));
        prop_assert!(few.iter().zip(0..).all(|(few, i)| few.note() == i));

        // The next search finds its tables as this one did.
        let (has_counted, deepest) = search.used();
        tables.end_search(has_counted, deepest);
        prop_assert_eq!(tables.search(heap.held_bytes(), Outside::NONE).unreached(), 0);
        for (row, address) in rows.iter().zip(&addresses) {
            let block = address.wrapping_sub(row.offset);
            // SAFETY: each was allocated above, by the one or the other.
            unsafe {
                if row.is_inside { heap.free(block); } else { dealloc(block, layout) }
            }
        }
        drop((tables, heap));
        // SAFETY: nothing of the range is left.
        unsafe { range.release() };
    }
}
