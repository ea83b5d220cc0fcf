//! The flame graph: one HTML file that works offline, of one record or of what changed between two.
//!
//! The page holds its style, its script and its data, and asks for nothing else; its content security policy allows just
//! these. The script is in files of its own beside this one:
//!
//! | file | what is in it |
//! |---|---|
//! | `quantity.js` | numbers as people read them |
//! | `tree.js` | from stacks to a tree whose nodes come into being when they are looked at; search |
//! | `chart.js` | the canvas: which boxes are wide enough to draw, and where |
//! | `page.js` | buttons, keys, the pointer, the words beside the picture |
//!
//! Names of functions and files are hostile text: they come to the page inside JSON with no `<` in it, and reach the
//! screen as text of a node or of the canvas, never as markup.

mod data;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::report::text::clean;
use crate::stacks::Stacks;

use data::Data;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: [&str; 4] =
    [include_str!("quantity.js"), include_str!("tree.js"), include_str!("chart.js"), include_str!("page.js")];

/// The flame graph of one record, as the text of an HTML file.
pub fn page(stacks: &Stacks) -> String {
    fill(&clean(&stacks.title), &Data::new(&[stacks]))
}

/// The flame graph of what changed between two records: a box is as wide as the larger of its two figures, red where it
/// grew and blue where it shrank. What is in one record only has its place too.
pub fn difference_page(before: &Stacks, after: &Stacks) -> String {
    let title = format!("{} → {}", clean(&before.title), clean(&after.title));
    fill(&title, &Data::new(&[before, after]))
}

/// Puts the parts into the page. Each is put in once, where the page has its name: what a part says is never searched.
fn fill(title: &str, data: &Data<'_>) -> String {
    let script = SCRIPT.concat();
    let mut text = String::new();
    let mut rest = PAGE;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        text += before;
        text += &match name {
            "title" => escape(title),
            "style" => STYLE.to_owned(),
            "style-hash" => hash(STYLE),
            "script" => script.clone(),
            "script-hash" => hash(&script),
            // JSON has `<` in strings only, where the escape stands for the same character.
            "data" => serde_json::to_string(data).unwrap_or_default().replace('<', "\\u003c"),
            _ => String::new(),
        };
        rest = after;
    }
    text + rest
}

/// The source expression by which a content security policy allows an inline script or style.
fn hash(content: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(content)))
}

/// Text as the content of an HTML element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
