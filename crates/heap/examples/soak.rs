//! A soak: so many random operations on one heap, with contents checked by tag and the tables now and then.
//!
//! `cargo run --release -p heapkeeper-heap --example soak [OPERATIONS [SEED]]`, by default 10⁹ operations with seed 1.
//!
//! Up to 65,536 blocks live at a time, of sizes as Python programs have them with now and then a large one; the number of
//! live blocks rises and falls, so that pools and arenas empty and fill. First and last word of each block carry a tag that
//! is checked when it is freed or moved. Progress goes to stderr: on a terminal each second, else every tenth of the way.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use heapkeeper_heap::{Heap, Range};

/// Blocks that can live at a time.
const PLACES: usize = 1 << 16;
/// Operations of a round, between two looks at the clock: a phase of growing or shrinking.
const ROUND: u64 = 1 << 20;
/// Rounds between two checks of all tables.
const CHECK_ROUNDS: u64 = 4;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next().map(|text| text.replace('_', "").parse()) {
        None => Some(default),
        Some(parsed) => parsed.ok(),
    };
    let (Some(operations), Some(seed)) = (number(1_000_000_000), number(1)) else {
        eprintln!("usage: soak [OPERATIONS [SEED]]");
        return ExitCode::from(2);
    };
    let range = match Range::reserve(1 << 40) {
        Ok(range) => range,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut soak = Soak::new(Heap::new(range).expect("the first heap of a range"), seed);
    let mut progress = Progress::new(operations);
    let mut done = 0;
    while done < operations {
        done += soak.round(ROUND.min(operations - done));
        if soak.rounds.is_multiple_of(CHECK_ROUNDS) || done == operations {
            soak.check(range);
        }
        progress.show(done);
    }
    let seconds = progress.end();
    let peak = range.stats().peak_bytes;
    let [allocated, moved, freed] = [soak.allocated, soak.moved, soak.freed];
    soak.finish(range);
    println!(
        "soak: {operations} operations (seed {seed}) in {seconds:.1} s, {:.1} M/s: {allocated} allocated, {moved} resized, \
         {freed} freed, peak {} MiB; contents, tables and figures held, nothing left",
        operations as f64 / seconds / 1e6,
        peak >> 20,
    );
    ExitCode::SUCCESS
}

#[derive(Clone, Copy)]
struct Place {
    block: *mut u8,
    bytes: usize,
}

struct Soak {
    heap: Heap,
    places: Vec<Place>,
    live: usize,
    random: u64,
    rounds: u64,
    allocated: u64,
    moved: u64,
    freed: u64,
}

impl Soak {
    fn new(heap: Heap, seed: u64) -> Soak {
        let places = vec![Place { block: std::ptr::null_mut(), bytes: 0 }; PLACES];
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Soak { heap, places, live: 0, random, rounds: 0, allocated: 0, moved: 0, freed: 0 }
    }

    /// Marsaglia's xorshift64.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// A size from 1 byte up: 15 of 16 are small, one in some hundred thousand takes whole arenas.
    fn size(&mut self) -> usize {
        let draw = self.random();
        let below = (draw >> 32) as usize;
        match draw & 0xf_ffff {
            0..=3 => (1 << 20) + below % (4 << 20),
            4..=255 => (32 << 10) + below % (200 << 10),
            256..=0xfff => 2048 + below % (30 << 10),
            0x1000..=0xffff => 512 + below % 1536,
            0x1_0000..=0x3_ffff => 1 + below % 512,
            _ => 16 + below % 112,
        }
    }

    /// Do up to so many operations, fewer if nothing is left to free in a round that drains. Returns how many.
    fn round(&mut self, operations: u64) -> u64 {
        // Rounds grow and shrink in turns: of four, one drains, and one in sixteen drains everything.
        self.rounds += 1;
        let keep_of_8 = match self.rounds % 16 {
            0 => 0,
            n if n % 4 == 0 => 2,
            _ => 6,
        };
        let before = self.allocated + self.moved + self.freed;
        loop {
            let done = self.allocated + self.moved + self.freed - before;
            if done == operations || self.live == 0 && keep_of_8 == 0 {
                return done;
            }
            let draw = self.random();
            let i = draw as usize % PLACES;
            if self.places[i].block.is_null() {
                if draw >> 16 & 7 < keep_of_8 {
                    self.fill(i, draw);
                }
            } else if draw >> 20 & 15 == 0 {
                self.resize(i);
            } else if draw >> 16 & 7 >= keep_of_8 || draw >> 24 & 1 == 0 {
                self.empty(i);
            }
        }
    }

    fn fill(&mut self, i: usize, draw: u64) {
        let bytes = self.size();
        let block = if draw >> 28 & 31 == 0 {
            let block = self.heap.alloc_zeroed(bytes);
            // SAFETY: the block has this many bytes.
            let ends = unsafe { (block.read(), block.add(bytes - 1).read()) };
            assert_eq!(ends, (0, 0), "{bytes} zeroed bytes are not zero");
            block
        } else {
            self.heap.alloc(bytes)
        };
        assert!(!block.is_null(), "out of memory with {} blocks", self.live);
        self.places[i] = Place { block, bytes };
        tag(self.places[i], i);
        self.live += 1;
        self.allocated += 1;
    }

    fn resize(&mut self, i: usize) {
        let place = self.places[i];
        let bytes = if self.random() & 1 == 0 { self.size() } else { place.bytes + place.bytes / 8 + 6 };
        check(place, i);
        // SAFETY: a live block.
        let block = unsafe { self.heap.realloc(place.block, bytes) };
        assert!(!block.is_null(), "out of memory with {} blocks", self.live);
        // SAFETY: the first bytes came along.
        assert_eq!(unsafe { block.read() }, i as u8, "realloc lost the contents of place {i}");
        self.places[i] = Place { block, bytes };
        tag(self.places[i], i);
        self.moved += 1;
    }

    fn empty(&mut self, i: usize) {
        let place = self.places[i];
        check(place, i);
        // SAFETY: a live block.
        assert!(unsafe { self.heap.free(place.block) }, "place {i} is not the heap's");
        self.places[i].block = std::ptr::null_mut();
        self.live -= 1;
        self.freed += 1;
    }

    fn check(&self, range: &Range) {
        self.heap.check().unwrap();
        range.check().unwrap();
        assert_eq!(self.heap.live_blocks(), self.live);
        assert_eq!(self.allocated - self.freed, self.live as u64);
    }

    fn finish(mut self, range: &Range) {
        for i in 0..PLACES {
            if !self.places[i].block.is_null() {
                self.empty(i);
            }
        }
        self.heap.trim();
        self.check(range);
        assert_eq!((range.stats().held_bytes, range.stats().retained_bytes), (0, 0));
    }
}

/// Bytes of the tag at each end of a block, if it has room for both.
const TAG_BYTES: usize = 8;

/// Write the tag of place `i` to both ends of its block.
fn tag(place: Place, i: usize) {
    let word = pattern(place, i);
    // SAFETY: the block has this many bytes.
    unsafe {
        if place.bytes >= TAG_BYTES {
            place.block.add(place.bytes - TAG_BYTES).cast::<u64>().write_unaligned(word);
            place.block.cast::<u64>().write(word);
        } else {
            place.block.write_bytes(i as u8, place.bytes);
        }
        place.block.write(i as u8);
    }
}

fn check(place: Place, i: usize) {
    let word = pattern(place, i);
    // SAFETY: the block has this many bytes.
    unsafe {
        assert_eq!(place.block.read(), i as u8, "the start of place {i} changed");
        if place.bytes >= 2 * TAG_BYTES {
            let end = place.block.add(place.bytes - TAG_BYTES).cast::<u64>().read_unaligned();
            let start = place.block.cast::<u64>().read();
            assert_eq!((end, start >> 8), (word, word >> 8), "place {i} of {} bytes changed", place.bytes);
        }
    }
}

fn pattern(place: Place, i: usize) -> u64 {
    ((i as u64) << 32 | place.bytes as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Says how far it is, where somebody looks at it.
struct Progress {
    operations: u64,
    started: Instant,
    shown: Duration,
    next_tenth: u64,
    terminal: bool,
}

impl Progress {
    fn new(operations: u64) -> Progress {
        let terminal = std::io::stderr().is_terminal();
        Progress { operations, started: Instant::now(), shown: Duration::ZERO, next_tenth: 1, terminal }
    }

    fn show(&mut self, done: u64) {
        let elapsed = self.started.elapsed();
        if self.terminal {
            if elapsed - self.shown < Duration::from_secs(1) {
                return;
            }
        } else if done < self.operations / 10 * self.next_tenth {
            return;
        }
        self.shown = elapsed;
        self.next_tenth = done * 10 / self.operations + 1;
        let rate = done as f64 / elapsed.as_secs_f64();
        let left = (self.operations - done) as f64 / rate;
        let line =
            format!("soak: {:3} %, {:.1} M operations/s, {left:.0} s left", done * 100 / self.operations, rate / 1e6);
        let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        // A closed stderr is no reason to stop.
        let _ = write!(std::io::stderr(), "{start}{line}{end}");
    }

    /// Seconds from start to end.
    fn end(&self) -> f64 {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        self.started.elapsed().as_secs_f64()
    }
}
