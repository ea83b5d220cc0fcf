//! Renders the report of a status in JSON, as `heapkeeper run --json` writes it, from standard input.
//!
//! `cargo run -p heapkeeper-analysis --example show -- [--plain|--color|--svg] [COLUMNS] < status.json`

use std::io::Read;

use heapkeeper_analysis::report::{Style, render};
use heapkeeper_record::Status;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut style = Style { color: true, ..Style::default() };
    let mut svg = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--plain" => style.color = false,
            "--color" => style.color = true,
            "--svg" => svg = true,
            columns => style.columns = columns.parse()?,
        }
    }
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let status: Status = serde_json::from_str(&json)?;
    let text = render(&status, style);
    if svg {
        let terminal = anstyle_svg::Term::new()
            .palette(anstyle_svg::WIN10_CONSOLE)
            .fg_color(anstyle::RgbColor(0xd8, 0xdc, 0xe2).into())
            .bg_color(anstyle::RgbColor(0x10, 0x14, 0x1a).into());
        print!("{}", terminal.render_svg(&text));
    } else {
        print!("{text}");
    }
    Ok(())
}
