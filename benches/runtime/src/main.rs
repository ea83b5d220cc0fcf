//! One workload on one crate, in a process of its own: `bench CRATE WORKLOAD [--objects N] [--repetitions N]`, or
//! `bench list` for what there is. Prints one line of JSON, see `measure.rs`. `benches/runtime.py` runs it in interleaved
//! rounds and writes the page.
//!
//! Everybody but heapkeeper, which brings its own heap, allocates with the system's `malloc`, as installed.

mod handles;
mod measure;
mod memory;
mod objects;
mod random;
mod rivals;
mod workloads;

use std::process::ExitCode;

use measure::{Repetition, Run};
use objects::Rival;

type Measure = fn(&Arguments) -> Option<Run>;

/// Every crate, by its name on crates.io.
const CRATES: [(&str, Measure); 7] = [
    ("heapkeeper", measure::<rivals::Heapkeeper>),
    ("rc", measure::<rivals::Rc>),
    ("gc-arena", measure::<rivals::GcArena>),
    ("dumpster", measure::<rivals::Dumpster>),
    ("rust-cc", measure::<rivals::RustCc>),
    ("gc", measure::<rivals::Gc>),
    ("bacon_rajan_cc", measure::<rivals::BaconRajanCc>),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["list"] {
        println!("{}", list());
        return ExitCode::SUCCESS;
    }
    let run = Arguments::parse(&words).and_then(|arguments| {
        let (_, measure) = CRATES.iter().find(|(name, _)| *name == arguments.rival)?;
        measure(&arguments)
    });
    match run {
        Some(run) => {
            println!("{}", run.json());
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("usage: bench CRATE WORKLOAD [--objects N] [--repetitions N]\n       bench list");
            ExitCode::from(2)
        }
    }
}

/// A command line.
struct Arguments {
    rival: String,
    workload: String,
    objects: Option<u64>,
    repetitions: Option<usize>,
}

impl Arguments {
    /// Null where the words are no command line.
    fn parse(words: &[String]) -> Option<Arguments> {
        let [rival, workload, options @ ..] = words else { return None };
        let (rival, workload) = (rival.clone(), workload.clone());
        let mut arguments = Arguments { rival, workload, objects: None, repetitions: None };
        for option in options.chunks(2) {
            let [name, value] = option else { return None };
            let number: u64 = value.parse().ok().filter(|number| *number > 0)?;
            match name.as_str() {
                "--objects" => arguments.objects = Some(number),
                "--repetitions" => arguments.repetitions = Some(number as usize),
                _ => return None,
            }
        }
        Some(arguments)
    }
}

/// Run a workload on `R`; null where there is none of that name.
fn measure<R: Rival>(arguments: &Arguments) -> Option<Run> {
    let workload = workloads::all::<R>().into_iter().find(|workload| workload.name == arguments.workload)?;
    let objects = arguments.objects.unwrap_or(workload.objects);
    let baseline_bytes = memory::resident_bytes();
    memory::restart_peak();
    let mut rival = R::start();
    let mut held_bytes = (0, 0);
    let repetitions: Vec<Repetition> = (0..arguments.repetitions.unwrap_or(workload.repetitions))
        .map(|number| {
            let mut repetition = Repetition::default();
            (workload.run)(&mut rival, objects, &mut repetition);
            held_bytes.1 = memory::malloc_bytes() + rival.own_bytes();
            if number == 0 {
                held_bytes.0 = held_bytes.1;
            }
            repetition
        })
        .collect();
    assert!(repetitions.iter().all(|repetition| repetition.checksum == repetitions[0].checksum), "results differ");
    let peak_bytes = memory::peak_bytes();
    let (rival, workload) = (arguments.rival.clone(), workload.name.to_owned());
    Some(Run { rival, workload, objects, repetitions, baseline_bytes, peak_bytes, held_bytes })
}

/// What there is, as JSON: the crates' names, and workload → objects.
fn list() -> String {
    let crates: Vec<_> = CRATES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let workloads: Vec<_> = workloads::all::<rivals::Rc>()
        .iter()
        .map(|workload| format!("\"{}\": {}", workload.name, workload.objects))
        .collect();
    format!("{{\"crates\": [{}], \"workloads\": {{{}}}}}", crates.join(", "), workloads.join(", "))
}
