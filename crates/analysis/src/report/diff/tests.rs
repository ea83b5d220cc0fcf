//! The tables of what changed, and that any two records have them.

use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

use super::render;
use crate::report::Style;
use crate::stacks::Stacks;
use crate::stacks::tests::{any_stacks, frame, stack};

const MIB: u64 = 1 << 20;
const PACKAGES: &str = "/venv/lib/python3.12/site-packages";

fn before() -> Stacks {
    let main = frame("<module>", "/srv/shop/app.py", 99);
    let serve = frame("serve", "/srv/shop/app.py", 80);
    let remember = frame("Session.remember", "/srv/shop/sessions.py", 44);
    let load = frame("load_rows", "/srv/shop/rows.py", 42);
    let decode = frame("JSONDecoder.raw_decode", "/usr/lib/python3.12/json/decoder.py", 353);
    let resize = frame("Image.resize", &format!("{PACKAGES}/pictures/image.py"), 2200);
    let thumbnail = frame("thumbnail", "/srv/shop/pictures.py", 73);
    let search = frame("search", "/srv/shop/views.py", 12);
    Stacks {
        title: "app.py · live at the peak".to_owned(),
        entries: vec![
            stack(&[remember.clone(), serve.clone(), main.clone()], "MainThread", 72 * MIB, 240_000),
            stack(&[remember, search.clone(), serve.clone(), main.clone()], "MainThread", MIB, 4_000),
            stack(&[decode, load.clone(), main.clone()], "MainThread", 96 * MIB, 820_000),
            stack(&[load, main.clone()], "MainThread", 40 * MIB, 300_000),
            stack(&[resize, thumbnail], "worker-1", 62 * MIB, 790),
            stack(&[search, serve, main], "MainThread", 12 * MIB, 70_000),
            stack(&[], "MainThread", 5 * MIB, 10),
        ],
    }
}

fn after() -> Stacks {
    let mut after = before();
    after.title = "app.py · live at the end".to_owned();
    after.entries[0].bytes *= 3;
    after.entries[2].bytes /= 2;
    after.entries[5].bytes += 1000;
    after.entries.remove(4);
    let index = [frame("Index.rebuild", "/srv/shop/search.py", 60), frame("<module>", "/srv/shop/app.py", 101)];
    after.entries.push(stack(&index, "MainThread", 64 * MIB, 500_000));
    after
}

fn at(columns: usize) -> Style {
    Style { columns, color: false }
}

#[test]
fn what_grew_and_what_shrank() {
    insta::assert_snapshot!(render(&before(), &after(), at(100)));
}

#[test]
fn narrow_pages() {
    insta::assert_snapshot!(render(&before(), &after(), at(48)));
}

#[test]
fn the_other_way_round_the_signs_change() {
    let text = render(&after(), &before(), at(100));
    assert!(text.contains("−64 MiB     64 MiB → gone"), "{text}");
    assert!(text.contains("+62 MiB        new → 62 MiB"), "{text}");
}

#[test]
fn nothing_changed() {
    let text = render(&before(), &before(), at(100));
    assert!(text.ends_with("Change     none.\n"), "{text}");
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn the_way_shown_is_that_of_the_stack_that_changed_most() {
    let mut after = before();
    after.entries[1].bytes += 9 * MIB;
    let text = render(&before(), &after, at(100));
    assert!(text.contains("by search"), "{text}");
    assert!(text.contains("and 1 other way to this line"), "{text}");
}

proptest! {
    #[test]
    fn rendering_is_total_and_keeps_to_its_width(
        before in any_stacks(), after in any_stacks(), columns in 0..200usize, color in any::<bool>(),
    ) {
        let text = render(&before, &after, Style { columns, color });
        prop_assert!(text.ends_with('\n'));
        if !color {
            for line in text.lines() {
                prop_assert!(line.width() <= columns.clamp(20, 160), "{line:?}");
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
}
