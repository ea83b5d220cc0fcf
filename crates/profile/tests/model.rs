//! The tables against a naive model: maps of everything, and a whole copy of them at each new peak.

use std::collections::HashMap;

use heapkeeper_profile::{Code, Estimate, MAX_CODES, MAX_RECURSION, NodeId, Tables, ThreadId};
use proptest::prelude::*;

const MEAN: u64 = 1_000;

/// One step of a program. Blocks, sites and threads are drawn from small sets, so that steps meet.
#[derive(Debug, Clone)]
enum Step {
    Alloc {
        block: usize,
        size: usize,
        stack: Vec<u8>,
        thread: usize,
        level: u64,
    },
    Free {
        block: usize,
    },
    /// Somebody looks at the peak beside what is live.
    SettlePeak,
}

fn step() -> impl Strategy<Value = Step> {
    let stack = prop::collection::vec(0u8..4, 0..5);
    let size = prop_oneof![1usize..64, 1usize..5_000, Just(1 << 30)];
    prop_oneof![
        6 => (1usize..40, size, stack, 0usize..3, 0u64..1_000)
            .prop_map(|(block, size, stack, thread, level)| Step::Alloc { block: block << 4, size, stack, thread, level }),
        4 => (1usize..40).prop_map(|block| Step::Free { block: block << 4 }),
        1 => Just(Step::SettlePeak),
    ]
}

type SiteKey = (Vec<u8>, usize);

#[derive(Default)]
struct Model {
    live: HashMap<usize, (usize, SiteKey)>,
    at_peak: HashMap<usize, (usize, SiteKey)>,
    peak: u64,
    peak_step: u64,
}

impl Model {
    fn is_at_peak(&mut self, time: u64) {
        self.peak_step = time;
        self.at_peak = self.live.clone();
    }
}

fn totals(blocks: &HashMap<usize, (usize, SiteKey)>) -> (Estimate, HashMap<SiteKey, Estimate>) {
    let mut sites: HashMap<SiteKey, Estimate> = HashMap::new();
    let mut all = Estimate::default();
    for (size, site) in blocks.values() {
        let estimate = Estimate::of_sample(*size, MEAN);
        sites.entry(site.clone()).or_default().add(&estimate);
        all.add(&estimate);
    }
    (all, sites)
}

/// A frame's number is its code object's address and its offset.
fn node_of(tables: &mut Tables, stack: &[u8]) -> NodeId {
    stack.iter().fold(NodeId::EMPTY, |parent, frame| {
        let address = 4_096 + usize::from(*frame);
        let code = tables.code_at(address).unwrap_or_else(|| {
            let interned = tables.intern(Code::Object(address), u64::from(*frame)).unwrap();
            assert!(interned.keep_alive);
            interned.id
        });
        tables.child(parent, code, i32::from(*frame)).unwrap()
    })
}

fn check(tables: &Tables, model: &Model) {
    assert!(tables.is_valid());
    let snapshot = tables.snapshot(usize::MAX);
    assert_eq!(snapshot.peak_at_ms, model.peak_step);
    let read = |sites: &[heapkeeper_profile::SiteSnapshot]| -> HashMap<SiteKey, Estimate> {
        sites
            .iter()
            .map(|site| {
                let stack = site.frames.iter().rev().map(|(code, offset)| {
                    assert_eq!(*code, Code::Object(4_096 + *offset as usize));
                    *offset as u8
                });
                ((stack.collect(), site.thread.0), site.estimate)
            })
            .collect()
    };
    let (live, live_sites) = totals(&model.live);
    let (at_peak, peak_sites) = totals(&model.at_peak);
    assert_eq!(snapshot.live, live);
    assert_eq!(snapshot.at_peak, at_peak);
    assert_eq!(read(&snapshot.top_live), live_sites);
    assert_eq!(read(&snapshot.top_at_peak), peak_sites);
    assert!(snapshot.top_at_peak.is_sorted_by_key(|site| std::cmp::Reverse(site.estimate.bytes)));
}

fn run(steps: Vec<Step>, told_levels: bool) {
    let mut tables = Tables::new(MEAN).unwrap();
    let mut model = Model::default();
    for (time, step) in steps.into_iter().enumerate() {
        let time = time as u64 + 1;
        match step {
            Step::Alloc { block, size, stack, thread, level } => {
                let node = node_of(&mut tables, &stack);
                let told = told_levels.then_some(level);
                tables.insert(block, size, node, ThreadId(thread), told, || time).unwrap();
                model.live.insert(block, (size, (stack, thread)));
                let level = told.unwrap_or_else(|| totals(&model.live).0.bytes);
                if level > model.peak {
                    model.peak = level;
                    model.is_at_peak(time);
                }
            }
            Step::SettlePeak => {
                tables.settle_peak(time);
                if totals(&model.live).0.bytes > totals(&model.at_peak).0.bytes {
                    model.is_at_peak(time);
                }
                let (live, at_peak, _) = tables.sampled();
                assert!(live.bytes <= at_peak.bytes);
            }
            Step::Free { block } => {
                assert_eq!(tables.remove(block), model.live.remove(&block).is_some());
            }
        }
        check(&tables, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_do_what_maps_do_with_told_levels(steps in prop::collection::vec(step(), 0..80)) {
        run(steps, true);
    }

    #[test]
    fn tables_do_what_maps_do_with_estimated_levels(steps in prop::collection::vec(step(), 0..80)) {
        run(steps, false);
    }
}

/// Many more blocks than any first table holds, coming and going: tables grow, and a churn leaves none behind.
#[test]
fn tables_grow_and_a_churn_leaves_nothing() {
    let mut tables = Tables::new(MEAN).unwrap();
    let nodes: Vec<NodeId> = (0..=255u8).map(|frame| node_of(&mut tables, &[frame, frame / 2, 1])).collect();
    for round in 0..20usize {
        for n in 1..=20_000usize {
            let node = nodes[n % nodes.len()];
            tables.insert((round * 7 + n) << 4, n, node, ThreadId(0), None, || 0).unwrap();
        }
        assert!(tables.is_valid());
        for n in 1..=20_000usize {
            assert!(tables.remove((round * 7 + n) << 4));
        }
    }
    let snapshot = tables.snapshot(10);
    assert_eq!(snapshot.live, Estimate::default());
    assert_eq!((snapshot.at_peak.samples, snapshot.taken, snapshot.sites), (20_000, 400_000, 256));
    assert_eq!((snapshot.top_live.len(), snapshot.top_at_peak.len()), (0, 10));
    assert!(tables.is_valid());
}

#[test]
fn equal_content_keeps_one_code_object_alive() {
    let mut tables = Tables::new(MEAN).unwrap();
    let first = tables.intern(Code::Object(0x1000), 7).unwrap();
    let second = tables.intern(Code::Object(0x2000), 7).unwrap();
    assert!(first.keep_alive && !second.keep_alive);
    assert_eq!(first.id, second.id);
    assert_eq!(tables.code_at(0x1000), Some(first.id));
    // Not kept alive, so its address may belong to another one next time.
    assert_eq!(tables.code_at(0x2000), None);
}

#[test]
fn code_objects_beyond_the_limit_are_not_kept_alive() {
    let mut tables = Tables::new(MEAN).unwrap();
    let kept =
        (0..MAX_CODES + 100).filter(|n| tables.intern(Code::Object(0x1000 + n), *n as u64).unwrap().keep_alive).count();
    // Three entries stand for frames without a code object.
    assert_eq!(kept, MAX_CODES - 3);
    let beyond = tables.intern(Code::Object(0xdead_0000), u64::MAX).unwrap().id;
    let node = tables.child(NodeId::EMPTY, beyond, 2).unwrap();
    tables.insert(16, 16, node, ThreadId(0), None, || 0).unwrap();
    assert_eq!(tables.snapshot(1).top_live[0].frames, [(Code::Omitted, 2)]);
}

/// All stacks of a recursion that calls itself from two lines are a few dozens, whatever its depth.
#[test]
fn branching_recursion_is_folded() {
    const DEPTH: u32 = 14;
    let mut tables = Tables::new(MEAN).unwrap();
    let main = tables.intern(Code::Object(0x1000), 1).unwrap().id;
    let tree = tables.intern(Code::Object(0x2000), 2).unwrap().id;
    let root = tables.child(NodeId::EMPTY, main, 0).unwrap();
    let mut sites = std::collections::HashSet::new();
    for way in 0..1u32 << DEPTH {
        let node = (0..DEPTH)
            .fold(root, |node, level| tables.folded_child(node, tree, i32::from(way >> level & 1 == 1)).unwrap());
        sites.insert(tables.site(node, ThreadId(0)).unwrap());
    }
    assert!(sites.len() <= 1 << MAX_RECURSION, "{}", sites.len());
    let (frames, truncated) = tables.stack(*sites.iter().next().unwrap());
    let codes: Vec<_> = frames.into_iter().map(|(code, _)| code).collect();
    let tree = Code::Object(0x2000);
    assert_eq!(codes, [tree, Code::Recursion, tree, tree, tree, Code::Object(0x1000)]);
    assert!(!truncated);
    assert!(tables.is_valid());
}

#[test]
fn truncated_and_interpreter_stacks_say_so() {
    let mut tables = Tables::new(MEAN).unwrap();
    let code = tables.intern(Code::Interpreter(3), 1).unwrap();
    assert!(!code.keep_alive);
    let cut = tables.child(NodeId::TRUNCATED, code.id, -1).unwrap();
    let whole = tables.child(NodeId::EMPTY, code.id, -1).unwrap();
    assert_ne!(cut, whole);
    tables.insert(16, 64, cut, ThreadId(0), None, || 0).unwrap();
    tables.insert(32, 32, whole, ThreadId(0), None, || 0).unwrap();
    let top = tables.snapshot(2).top_live;
    assert_eq!([top[0].truncated, top[1].truncated], [true, false]);
    assert_eq!(top[0].frames, [(Code::Interpreter(3), -1)]);
}
