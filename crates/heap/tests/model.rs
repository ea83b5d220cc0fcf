//! Generated programs against a model: see `support/model.rs` for what is compared.
//!
//! `HEAPKEEPER_PROGRAMS` sets how many are generated a test, **120** by default.

mod support;

use heapkeeper_heap::Range;
use proptest::array::uniform6;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use support::model::{Model, Surroundings};
use support::program::Op;

const GIB: usize = 1 << 30;

fn programs() -> u32 {
    std::env::var("HEAPKEEPER_PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(120)
}

fn config() -> Config {
    Config { cases: programs(), failure_persistence: None, ..Config::default() }
}

fn program(longest: usize) -> impl Strategy<Value = Vec<Op>> {
    vec(uniform6(any::<u8>()).prop_map(Op::decode), 1..longest)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn programs_with_room_agree_with_the_model(program in program(300)) {
        Model::run(GIB, Surroundings::ROOMY, program);
    }

    #[test]
    fn programs_in_the_smallest_range_agree_with_the_model(program in program(300)) {
        Model::run(0, Surroundings::TIGHT, program);
    }
}

/// The other tests again, with a third of the programs, in a process whose address space is limited: there free arenas lose
/// their addresses, and get them back.
#[test]
fn under_a_limit_programs_agree_as_well() {
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 70000000000 && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["agree_with", "--test-threads=2"])
        .env("HEAPKEEPER_PROGRAMS", (programs() / 3).to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("3 passed"), "{text}");
}

/// Heaps of several threads in one range, and a thread that looks addresses up meanwhile.
#[test]
fn threads_with_heaps_in_one_range_agree_with_their_models() {
    const THREADS: usize = 3;
    let range = Range::reserve(4 * GIB).unwrap();
    let around = Surroundings { heaps: 2, live_bytes: 16 << 20, shared: true, ..Surroundings::ROOMY };
    let running = std::sync::atomic::AtomicUsize::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let running = &running;
            scope.spawn(move || {
                // A panic must end the look-ups too.
                struct Done<'a>(&'a std::sync::atomic::AtomicUsize);
                impl Drop for Done<'_> {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                let _done = Done(running);
                let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[thread as u8; 32]);
                let mut runner = TestRunner::new_with_rng(config(), rng);
                for _ in 0..programs() / 5 {
                    let mut model = Model::new(range, around);
                    let program = program(200).new_tree(&mut runner).unwrap().current();
                    program.into_iter().for_each(|op| model.step(op));
                    model.finish();
                }
            });
        }
        let mut address = range.bounds().start;
        while running.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            address = range.bounds().start + (address + 40503 * 4097) % (GIB / 4);
            let pointer = std::ptr::without_provenance(address);
            std::hint::black_box((range.locate(pointer), range.owner_of(pointer)));
        }
    });
    range.trim();
    range.check().unwrap();
    let stats = range.stats();
    assert_eq!((stats.held_bytes, stats.retained_bytes), (0, 0));
    assert_eq!(support::model::resident_bytes(range, range.bounds().len()), 0);
    // SAFETY: the heaps went with their models.
    unsafe { range.release() };
}
