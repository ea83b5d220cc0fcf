//! Every crate computes the same on every workload, and frees what it made. `cargo test` here compiles the rivals, which is
//! why `make test` does not.

use std::collections::BTreeMap;
use std::process::{Command, Output};

/// Small, but more than a turn, and enough for each workload to do all that it does.
const OBJECTS: &str = "20000";

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap()
}

/// The value of a field in a line of JSON, as text.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{name}\": ")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split([',', '}']).next().unwrap().trim_matches('"')
}

/// The quoted words between `[` or `{` after `name` and its end.
fn names(list: &str, name: &str) -> Vec<String> {
    let (_, rest) = list.split_once(&format!("\"{name}\": ")).unwrap();
    let inner = rest.split([']', '}']).next().unwrap();
    inner.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The line of each crate on each workload.
fn lines() -> BTreeMap<(String, String), String> {
    let list = String::from_utf8(bench(&["list"]).stdout).unwrap();
    let mut lines = BTreeMap::new();
    for workload in names(&list, "workloads") {
        for rival in names(&list, "crates") {
            let output = bench(&[&rival, &workload, "--objects", OBJECTS, "--repetitions", "3"]);
            assert!(output.status.success(), "{rival} {workload}: {}", String::from_utf8_lossy(&output.stderr));
            lines.insert((workload.clone(), rival), String::from_utf8(output.stdout).unwrap());
        }
    }
    lines
}

#[test]
fn all_crates_compute_the_same_and_only_rc_leaks() {
    let lines = lines();
    assert!(lines.len() >= 11 * 7);
    for ((workload, rival), line) in &lines {
        let other = &lines[&(workload.clone(), "rc".to_owned())];
        assert_eq!(field(line, "checksum"), field(other, "checksum"), "{rival} on {workload}");
        let leaked: f64 = field(line, "leaked_bytes_per_object").parse().unwrap();
        let cyclic = ["cycles", "cycles_paced", "graphs", "interpreter", "aged"].contains(&workload.as_str());
        // Tables of a crate may still grow a little; an object that stays is 32 bytes and more.
        assert_eq!(leaked > 4.0, rival == "rc" && cyclic, "{rival} on {workload} leaves {leaked} bytes an object");
    }
}

#[test]
fn what_is_no_command_line_is_refused() {
    for arguments in [
        &[][..],
        &["rc"],
        &["rc", "nothing"],
        &["nobody", "keep"],
        &["rc", "keep", "--objects"],
        &["rc", "keep", "--objects", "0"],
        &["rc", "keep", "--rounds", "2"],
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}
