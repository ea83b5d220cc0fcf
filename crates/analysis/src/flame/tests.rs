//! What the page is made of: its data, and that no name gets out of it. How it looks and works is tested in a browser
//! (tests/flame).

use heapkeeper_record::Frame;
use proptest::prelude::*;
use serde_json::Value;

use super::{SCRIPT, STYLE, difference_page, page};
use crate::stacks::tests::{any_stacks, frame, stack};
use crate::stacks::{NO_FRAME, OUTER_FRAMES, Stacks};

fn data(page: &str) -> Value {
    let (_, rest) = page.split_once(r#"id="data">"#).expect("the data's element");
    serde_json::from_str(rest.split_once("</script>").expect("its end").0).expect("JSON")
}

fn sample() -> Stacks {
    let (main, load) = (frame("main", "/srv/app.py", 9), frame("load", "/srv/rows.py", 4));
    let cut = crate::stacks::Stack { truncated: true, ..stack(std::slice::from_ref(&load), "worker", 7, 1) };
    Stacks {
        title: "app.py".to_owned(),
        entries: vec![
            stack(&[load.clone(), main.clone()], "MainThread", 100, 3),
            stack(&[main], "MainThread", 20, 2),
            cut,
            stack(&[], "worker", 5, 1),
            stack(&[load.clone(), frame("main", "/srv/app.py", 9)], "MainThread", 1, 1),
        ],
    }
}

#[test]
fn every_name_frame_and_path_is_written_once() {
    let data = data(&page(&sample()));
    assert_eq!(data["functions"], serde_json::json!(["main", "load", OUTER_FRAMES, NO_FRAME]));
    assert_eq!(data["frames"]["line"], serde_json::json!([9, 4, 0, 0]));
    // main, main › load, (cut), (cut) › load, (none)
    assert_eq!(data["nodes"]["frame"], serde_json::json!([0, 1, 2, 1, 3]));
    assert_eq!(data["nodes"]["up"], serde_json::json!([0, 1, 0, 1, 0]));
    assert_eq!(data["stacks"]["node"], serde_json::json!([1, 0, 3, 4]));
    assert_eq!(data["stacks"]["thread"], serde_json::json!([0, 0, 1, 1]));
    assert_eq!(data["stacks"]["bytes"], serde_json::json!([[101, 20, 7, 5]]));
    assert_eq!(data["stacks"]["blocks"], serde_json::json!([[4, 2, 1, 1]]));
}

#[test]
fn files_have_a_short_name_and_an_owner() {
    let files =
        ["/srv/app.py", "/v/lib/python3.12/site-packages/flask/app.py", "/usr/lib/python3.12/json/decoder.py", ""];
    let frames: Vec<Frame> = files.iter().map(|file| frame("f", file, 1)).collect();
    let stacks = Stacks { title: String::new(), entries: vec![stack(&frames, "", 1, 1)] };
    let data = data(&page(&stacks));
    let of = |key: &str| -> Vec<String> {
        let files = data["files"].as_array().expect("a list");
        files.iter().rev().map(|file| file[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of("owner"), ["program", "package", "standard", "none"]);
    assert_eq!(of("name"), ["app.py", "flask/app.py", "json/decoder.py", ""]);
    assert_eq!(of("path"), files);
}

#[test]
fn a_difference_has_both_records_stack_by_stack() {
    let mut after = sample();
    after.title = "later".to_owned();
    after.entries.remove(1);
    after.entries.push(stack(&[frame("new", "/srv/app.py", 30)], "MainThread", 64, 8));
    let page = difference_page(&sample(), &after);
    let data = data(&page);
    assert!(page.contains("<title>app.py → later · heapkeeper</title>"));
    assert_eq!(data["titles"], serde_json::json!(["app.py", "later"]));
    assert_eq!(data["stacks"]["bytes"], serde_json::json!([[101, 20, 7, 5, 0], [101, 0, 7, 5, 64]]));
}

#[test]
fn a_page_without_stacks_is_a_page() {
    let data = data(&page(&Stacks::default()));
    assert_eq!(data["stacks"]["bytes"], serde_json::json!([[]]));
}

#[test]
fn the_script_keeps_to_what_the_policy_promises() {
    let script = SCRIPT.concat();
    for word in [
        "innerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttp",
        "import(",
        "console.",
    ] {
        assert!(!script.contains(word), "{word}");
    }
    for part in [&script, STYLE] {
        assert!(!part.contains("</") && !part.contains("url(") && !part.contains("http"), "{part}");
    }
}

/// The page's own elements: whatever the names, there are no more.
fn elements(page: &str) -> usize {
    page.matches('<').count()
}

proptest! {
    #[test]
    fn no_name_gets_out_of_the_data(before in any_stacks(), after in any_stacks()) {
        let script: usize = elements(&SCRIPT.concat());
        let own = elements(super::PAGE) + script;
        for page in [page(&after), difference_page(&before, &after)] {
            prop_assert_eq!(elements(&page), own);
            let data = data(&page);
            let bytes = data["stacks"]["bytes"].as_array().and_then(|sides| sides.last()).and_then(Value::as_array);
            let sum = bytes.into_iter().flatten().filter_map(Value::as_u64).fold(0u64, u64::saturating_add);
            prop_assert_eq!(sum, after.bytes());
        }
    }
}
