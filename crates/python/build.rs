//! Builds the layout facts of the interpreter that this module is for: one C file a version, compiled with that version's
//! own headers. Any other version, and a free-threaded build, gets a file that says "unsupported", so that the module
//! builds and loads there too and can say why it stays out of the way. And `unwind.c`, which says what it is for.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Minor versions with a file in `src/versions`.
const KNOWN_MINORS: [u8; 4] = [10, 11, 12, 13];

fn main() {
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
    println!("cargo:rerun-if-changed=src/versions");
    println!("cargo:rerun-if-changed=src/unwind.c");
    // `cfg(Py_3_12)` and its like in our own code.
    pyo3_build_config::use_pyo3_cfgs();

    let config = pyo3_build_config::get();
    let python = config.executable().expect(
        "the headers of the interpreter built for are needed: point PYO3_PYTHON at it, instead of a PYO3_CONFIG_FILE",
    );
    let facts = ask(python);
    let known = config.version().major == 3 && KNOWN_MINORS.contains(&config.version().minor) && !facts.free_threaded;
    let file = match known {
        true => format!("v3_{}.c", config.version().minor),
        false => "unsupported.c".to_string(),
    };
    let mut build = cc::Build::new();
    build.file(Path::new("src/versions").join(file)).std("c11").include("src/versions");
    for include in &facts.includes {
        // CPython's headers are not ours to warn about.
        build.flag("-isystem").flag(include).flag("-isystem").flag(include.join("internal"));
    }
    build.compile("hk_layout");
    // Who unwinds comes through these functions.
    let flag = "-fasynchronous-unwind-tables";
    cc::Build::new().file("src/unwind.c").std("gnu11").flag_if_supported(flag).compile("hk_unwind");
}

/// What the interpreter says of itself.
struct Facts {
    /// Where its headers are; two places where `pyconfig.h` has one of its own.
    includes: Vec<PathBuf>,
    free_threaded: bool,
}

fn ask(python: &str) -> Facts {
    let question = "import sysconfig as s\n\
                    print(s.get_config_var('Py_GIL_DISABLED') or 0)\n\
                    print(s.get_path('include'))\n\
                    print(s.get_path('platinclude'))";
    let output = Command::new(python).args(["-I", "-c", question]).output();
    let output = output.unwrap_or_else(|error| panic!("{python} does not run: {error}"));
    assert!(output.status.success(), "{python} does not tell where its headers are: {output:?}");
    let answer = String::from_utf8(output.stdout).expect("paths of headers are UTF-8");
    let mut lines = answer.lines();
    let free_threaded = lines.next() == Some("1");
    let mut includes: Vec<PathBuf> = lines.map(PathBuf::from).collect();
    includes.dedup();
    let header = includes[0].join("Python.h");
    assert!(
        header.is_file(),
        "{python} has no headers at {}: install its development package (python3-dev or alike)",
        header.display()
    );
    Facts { includes, free_threaded }
}
