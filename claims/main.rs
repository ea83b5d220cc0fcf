//! Measures a claim on the crate `heapkeeper`, as the programs beside it do on Pythons: `heapkeeper-claims claims/NN_name.rs`
//! prints what the program of that row found, and the verdict, as one line of JSON. `make claims` runs them all.

use serde_json::Value;

macro_rules! programs {
    ($($number:literal $name:ident $path:literal),* $(,)?) => {
        $(#[path = $path] mod $name;)*
        const PROGRAMS: &[(u32, fn() -> Value)] = &[$(($number, $name::measure)),*];
    };
}

programs! {
    3 given_back "03_given_back.rs",
    7 reference_counts "07_reference_counts.rs",
    8 freed_at_zero "08_freed_at_zero.rs",
    10 cycles "10_cycles.rs",
    11 generations "11_generations.rs",
    12 old_generations "12_old_generations.rs",
    13 in_the_background "13_in_the_background.rs",
    14 controls "14_controls.rs",
    15 curing_leaks "15_curing_leaks.rs",
    16 small_integers "16_small_integers.rs",
    17 interning "17_interning.rs",
    23 del "23_del.rs",
    28 finalizers_in_cycles "28_finalizers_in_cycles.rs",
    29 weak_references "29_weak_references.rs",
    38 isolated_interpreters "38_isolated_interpreters.rs",
    41 pausing_the_collector "41_pausing_the_collector.rs",
}

fn main() -> Result<(), String> {
    let path = std::env::args().nth(1).ok_or("which program? claims/NN_name.rs")?;
    let name = path.rsplit('/').next().unwrap_or(&path);
    let number = name.split('_').next().and_then(|number| number.parse().ok());
    let program = PROGRAMS.iter().find(|(known, _)| Some(*known) == number);
    let (_, measure) = program.ok_or_else(|| format!("no program {path}"))?;
    println!("{}", measure());
    Ok(())
}
