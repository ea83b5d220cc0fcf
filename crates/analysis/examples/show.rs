//! Renders the report of a status in JSON, as `heapkeeper run --json` writes it, from standard input.
//!
//! `cargo run -p heapkeeper-analysis --example show -- [--plain|--svg] [--command TEXT] [COLUMNS] < status.json`
//!
//! `--svg` draws the terminal; `--command` puts a prompt with that command above the report. docs/pictures/make.sh uses
//! both.

use std::io::Read;

use anstyle::{AnsiColor, RgbColor, Style as Paint};
use heapkeeper_analysis::report::{Style, render};
use heapkeeper_record::Status;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut style = Style { color: true, ..Style::default() };
    let mut svg = false;
    let mut command = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--plain" => style.color = false,
            "--svg" => svg = true,
            "--command" => command = arguments.next(),
            columns => style.columns = columns.parse()?,
        }
    }
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let status: Status = serde_json::from_str(&json)?;

    let (prompt, bold) = (Paint::new().fg_color(Some(AnsiColor::Green.into())), Paint::new().bold());
    let above = command.map_or(String::new(), |text| format!("{prompt}${prompt:#} {bold}{text}{bold:#}\n\n"));
    let text = above + &render(&status, style);
    if svg {
        let terminal = anstyle_svg::Term::new()
            .palette(anstyle_svg::WIN10_CONSOLE)
            .fg_color(RgbColor(0xd8, 0xdc, 0xe2).into())
            .bg_color(RgbColor(0x10, 0x14, 0x1a).into());
        print!("{}", terminal.render_svg(&text));
    } else {
        print!("{text}");
    }
    Ok(())
}
