//! Whose files are, and their short names.

use super::{Owner, ShortNames, owner};
use crate::report::tests::frame;

#[test]
fn owners_by_path() {
    for (file, whose) in [
        ("/home/ada/app.py", Owner::Program),
        ("app.py", Owner::Program),
        ("<string>", Owner::Program),
        ("<stdin>", Owner::Program),
        ("", Owner::Nobody),
        ("<frozen importlib._bootstrap>", Owner::Standard),
        ("/usr/lib/python3.12/json/decoder.py", Owner::Standard),
        ("/usr/lib64/python3.9/json/decoder.py", Owner::Standard),
        ("/opt/lib/python313.zip/json/decoder.py", Owner::Standard),
        ("/venv/lib/python3.12/site-packages/flask/app.py", Owner::Package),
        ("/usr/lib/python3/dist-packages/apt/cache.py", Owner::Package),
        ("/venv/bin/flask", Owner::Launcher),
        ("/home/ada/lib/pythonista/app.py", Owner::Program),
    ] {
        assert_eq!(owner(file), whose, "{file}");
    }
}

#[test]
fn names_are_short_and_tell_files_apart() {
    let files = [
        "/home/ada/shop/app.py",
        "/home/ada/shop/api/cache.py",
        "/home/ada/shop/web/cache.py",
        "/home/ada/shop/web/__init__.py",
        "/usr/lib/python3.12/json/decoder.py",
        "/venv/lib/python3.12/site-packages/flask/app.py",
        "<frozen runpy>",
        "",
    ];
    let names = ShortNames::new(files.into_iter());
    let shown: Vec<String> = files.iter().map(|file| names.place(&frame("f", file, 3, ""))).collect();
    assert_eq!(
        shown,
        [
            "app.py:3",
            "api/cache.py:3",
            "web/cache.py:3",
            "web/__init__.py:3",
            "json/decoder.py:3",
            "flask/app.py:3",
            "<frozen runpy>:3",
            "?",
        ]
    );
    assert_eq!(names.place(&frame("f", "/home/ada/shop/app.py", 0, "")), "app.py");
}
