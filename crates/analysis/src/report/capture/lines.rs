//! Source files with figures beside their lines.
//!
//! A line counts what it allocated itself and in libraries that it called; `with calls` counts what the program's other
//! functions allocated below it, too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, UNIX_EPOCH};

use heapkeeper_record::Frame;

use super::super::Page;
use super::super::path::{Owner, owner};
use super::super::quantity::{bytes, counted, ratio};
use super::super::text::{Line, Role, right};
use super::{Asked, By, Problem, ShortNames, end};
use crate::capture::{Caller, Moment, Profile, Sources};

/// Files of a smaller share of the peak, the end and all that was allocated are left out unless they are asked for.
const LEAST_SHARE: f64 = 0.01;
/// Files shown where none is asked for.
const FILES: usize = 12;
/// Lines shown around one with figures.
const AROUND: u32 = 2;
/// Columns of a figure.
const FIGURE_COLUMNS: usize = 11;

/// Figures of one line.
#[derive(Clone, Copy, Default)]
struct Figures {
    peak: u64,
    end: u64,
    total: u64,
    /// At the peak, with calls.
    calls: u64,
}

/// Adds the files.
pub(super) fn report(
    page: &mut Page,
    profile: &Profile,
    files: &[String],
    thread: Option<&str>,
) -> Result<(), Problem> {
    let names = ShortNames::new(profile.frames.iter().map(|frame| frame.file.as_str()));
    let asked = Asked { profile, names, thread };
    let by_file = figures(&asked);
    let chosen = chosen(&by_file, files)?;
    let end = end(profile);
    page.wrap(
        Line::new().dim(format!(
            "Of each line, what it allocated itself and in libraries: live at the peak and at {end}, and allocated in all; \
             with calls: at the peak, with what the program's own functions allocated below it."
        )),
        0,
    );
    if chosen.is_empty() {
        page.gap();
        page.wrap(Line::new().plain("No file of the program allocated enough to name it."), 0);
    }
    let mut sources = Sources::default();
    for file in chosen {
        print(page, &asked, &mut sources, file, &by_file[file]);
    }
    Ok(())
}

/// Figures by file and line.
fn figures<'a>(asked: &Asked<'a>) -> HashMap<&'a str, BTreeMap<u32, Figures>> {
    let profile = asked.profile;
    let [peak, end] = [Moment::Peak, Moment::End].map(|moment| profile.figures(moment));
    let mut by_file: HashMap<&str, BTreeMap<u32, Figures>> = HashMap::new();
    for group in asked.groups(By::Line) {
        let Some(frame) = group.headline else { continue };
        let line = by_file.entry(&frame.file).or_default().entry(frame.line).or_default();
        for site in group.sites {
            line.peak = line.peak.saturating_add(peak[site].live.bytes);
            line.end = line.end.saturating_add(end[site].live.bytes);
            line.total = line.total.saturating_add(end[site].total.bytes);
        }
    }
    for (number, site) in profile.sites.iter().enumerate() {
        let bytes = peak[number].live.bytes;
        if bytes == 0 || !profile.is_of(site, asked.thread) {
            continue;
        }
        // A line that recursed counts once.
        let mut seen: HashSet<(&str, u32)> = HashSet::new();
        let mut stack = site.stack;
        while let Caller::Node(node) = stack {
            let node = &profile.nodes[node as usize];
            let frame = &profile.frames[node.frame as usize];
            if seen.insert((&frame.file, frame.line)) {
                let line = by_file.entry(&frame.file).or_default().entry(frame.line).or_default();
                line.calls = line.calls.saturating_add(bytes);
            }
            stack = node.caller;
        }
    }
    by_file
}

/// The files to show, those with most first.
fn chosen<'a>(by_file: &HashMap<&'a str, BTreeMap<u32, Figures>>, files: &[String]) -> Result<Vec<&'a str>, Problem> {
    let sum = |file: &str| {
        by_file[file].values().fold(Figures::default(), |sum, line| Figures {
            peak: sum.peak.saturating_add(line.peak),
            end: sum.end.saturating_add(line.end),
            total: sum.total.saturating_add(line.total),
            calls: sum.calls.max(line.calls),
        })
    };
    let mut all: Vec<(&str, Figures)> = by_file.keys().map(|file| (*file, sum(file))).collect();
    all.sort_by_key(|(file, sum)| (std::cmp::Reverse((sum.peak, sum.total)), *file));
    if files.is_empty() {
        let whole = all.iter().fold([0u64; 3], |whole, (_, sum)| {
            [whole[0].saturating_add(sum.peak), whole[1].saturating_add(sum.end), whole[2].saturating_add(sum.total)]
        });
        let matters = |sum: &Figures| {
            let shares = [ratio(sum.peak, whole[0]), ratio(sum.end, whole[1]), ratio(sum.total, whole[2])];
            shares.into_iter().any(|share| share >= LEAST_SHARE)
        };
        let own = |file: &str| owner(file) == Owner::Program && !file.is_empty();
        let chosen = all.iter().filter(|(file, sum)| own(file) && matters(sum)).map(|(file, _)| *file);
        return Ok(chosen.take(FILES).collect());
    }
    let mut chosen = Vec::new();
    for name in files {
        let found = all.iter().map(|(file, _)| *file).filter(|file| is_named(file, name) && !chosen.contains(file));
        let mut found: Vec<&str> = found.collect();
        // A library may have a file of the same name.
        if found.iter().any(|file| owner(file) == Owner::Program) {
            found.retain(|file| owner(file) == Owner::Program);
        }
        if found.is_empty() && !chosen.iter().any(|file| is_named(file, name)) {
            return Err(Problem::NoFile { name: name.clone() });
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// Whether a name is that of a file, or the end of its path.
fn is_named(file: &str, name: &str) -> bool {
    let name = name.strip_prefix("./").unwrap_or(name);
    file.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/') || name.starts_with('/'))
}

fn print(page: &mut Page, asked: &Asked<'_>, sources: &mut Sources, file: &str, lines: &BTreeMap<u32, Figures>) {
    let profile = asked.profile;
    let frames = profile.frames.iter().zip(&profile.folders).filter(|(frame, _)| frame.file == file);
    let functions: HashMap<u32, &Frame> = frames.clone().map(|(frame, _)| (frame.line, frame)).collect();
    let folder = frames.map(|(_, folder)| folder.as_str()).next().unwrap_or_default();
    let source = sources.file(folder, file);

    page.gap();
    let mut heading = Line::new().with(Role::Place, if file.is_empty() { "(no file)" } else { file });
    match source {
        None => heading = heading.dim("  its source is not here"),
        Some(source) => {
            let began = profile.processes.iter().map(|process| process.header.started_unix_us).min().unwrap_or(0);
            let began = UNIX_EPOCH + Duration::from_micros(began.try_into().unwrap_or(0));
            if source.changed.is_some_and(|changed| changed > began) {
                heading = heading.with(Role::Warning, "  changed since: lines may not fit");
            }
        }
    }
    page.line(heading);
    // From the right, figures give way to the source on narrow pages.
    let shown = match page.columns {
        ..50 => 1,
        50..80 => 2,
        80..96 => 3,
        _ => 4,
    };
    let row = |figures: [String; 4], line: &str| {
        let figures = figures.iter().take(shown).map(|figure| right(figure, FIGURE_COLUMNS)).collect::<String>();
        (figures, right(line, 7))
    };
    let heads =
        ["at the peak".to_owned(), format!("at {}", end(profile)), "allocated".to_owned(), "with calls".to_owned()];
    let (figures, line) = row(heads, "line");
    page.line(Line::new().dim(figures).dim(line));
    let say = |figure: u64| if figure == 0 { String::new() } else { bytes(figure) };
    let most = lines.values().map(|line| line.peak.max(line.end)).max().unwrap_or(0);

    let with_figures = |number: u32, page: &mut Page, text: &str| {
        let known = lines.get(&number).copied().unwrap_or_default();
        let (cells, line) =
            row([say(known.peak), say(known.end), say(known.total), say(known.calls)], &number.to_string());
        let heat = match ratio(known.peak.max(known.end), most) {
            share if share < 0.15 => Role::Strong,
            share if share < 0.5 => Role::Middle,
            _ => Role::High,
        };
        let has_own = known.peak > 0 || known.end > 0 || known.total > 0;
        let role = if has_own { Role::Plain } else { Role::Dim };
        page.line(
            Line::new().with(if has_own { heat } else { Role::Dim }, cells).dim(line).plain("  ").with(role, text),
        );
    };
    let Some(source) = source else {
        for &number in lines.keys() {
            let function = functions.get(&number).map_or("", |frame| frame.function.as_str());
            with_figures(number, page, &format!("in {function}"));
        }
        return;
    };
    let mut last = 0;
    let wanted = lines.keys().flat_map(|&line| line.saturating_sub(AROUND).max(1)..=line.saturating_add(AROUND));
    for number in wanted.collect::<std::collections::BTreeSet<u32>>() {
        if number > source.lines() {
            continue;
        }
        if number > last + 1 && last > 0 {
            page.line(Line::new().dim(right("⋮", shown * FIGURE_COLUMNS + 7)));
        }
        with_figures(number, page, &source.line(number).unwrap_or_default().replace('\t', "    "));
        last = number;
    }
    let beyond = lines.keys().filter(|&&line| line > source.lines()).count() as u64;
    if beyond > 0 {
        page.line(Line::new().with(Role::Warning, format!("{} beyond the end of this file", counted(beyond, "line"))));
    }
}
