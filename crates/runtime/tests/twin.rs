//! Generated programs on the crate and on a naive twin that works on sets: allocations, stores, drops, weak upgrades,
//! resurrections, collections, and code in finalizers, drops and callbacks that does all of these. Both logs must agree, event
//! by event, and after each step every object's generation, count and references; nothing may be left at the end.
//!
//! `HEAPKEEPER_PROGRAMS` sets how many are generated, **2000** by default.

mod programs;

use std::sync::Once;

use proptest::array::uniform4;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use programs::{Coverage, Planned, run};

fn count() -> u32 {
    std::env::var("HEAPKEEPER_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000)
}

/// Planned panics say nothing.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Planned>() {
                loud(info);
            }
        }));
    });
}

proptest! {
    #![proptest_config(Config { cases: count(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn programs_agree_with_the_twin(program in vec(uniform4(any::<u8>()), 1..100)) {
        quiet();
        run(&program);
    }
}

/// The programs do reach every kind of event; otherwise agreement would mean little.
#[test]
fn programs_reach_every_event() {
    quiet();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]));
    let mut all = Coverage::default();
    for _ in 0..200 {
        let seen = run(&vec(uniform4(any::<u8>()), 80..150).new_tree(&mut runner).unwrap().current());
        all.collected += seen.collected;
        all.resurrected += seen.resurrected;
        all.called += seen.called;
        all.finalized += seen.finalized;
        all.upgraded += seen.upgraded;
        all.dead_children += seen.dead_children;
        all.panics += seen.panics;
        all.by_generation.iter_mut().zip(seen.by_generation).for_each(|(sum, n)| *sum += n);
    }
    let events = [all.collected, all.resurrected, all.called, all.finalized, all.upgraded, all.panics];
    assert!(events.iter().chain(&all.by_generation).all(|n| *n >= 100) && all.dead_children >= 10, "{all:?}");
}
