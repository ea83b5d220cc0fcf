//! Programs that must not compile, and what the compiler says. `TRYBUILD=overwrite` accepts new messages.

#[test]
#[cfg_attr(heapkeeper_asan, ignore = "the messages are those of a stable compiler")]
fn misuse_does_not_compile() {
    let tests = trybuild::TestCases::new();
    tests.pass("tests/misuse/ok.rs");
    for program in std::fs::read_dir("tests/misuse").unwrap() {
        let path = program.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("ok.rs") {
            tests.compile_fail(path);
        }
    }
}
