//! Lines of styled text: cut by display width, then painted or left plain.
//!
//! A [`Line`] keeps what each part *means* beside its text; colours are chosen in one place, and widths
//! are measured before any escape code exists. Text that came from outside (a program's name, a source
//! line) is cleaned on entry: it cannot break a line or send an escape code of its own.

use anstyle::{AnsiColor, Style};
use unicode_truncate::UnicodeTruncateStr;
use unicode_width::UnicodeWidthStr;

use super::quantity::GLUE;

/// What a part of a line is, from which its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Running text.
    Plain,
    /// The figures and headings the eye should find first.
    Strong,
    /// Context that may be skipped.
    Dim,
    /// `file:line`.
    Place,
    /// A bar of a small share.
    Low,
    /// A bar of a middling share.
    Middle,
    /// A bar of a large share.
    High,
    /// Something the reader should act upon.
    Warning,
}

impl Role {
    fn style(self) -> Style {
        match self {
            Role::Plain => Style::new(),
            Role::Strong => Style::new().bold(),
            Role::Dim => Style::new().dimmed(),
            Role::Place => AnsiColor::Cyan.on_default(),
            Role::Low => AnsiColor::Green.on_default(),
            Role::Middle => AnsiColor::Yellow.on_default(),
            Role::High => AnsiColor::Red.on_default(),
            Role::Warning => AnsiColor::Yellow.on_default().bold(),
        }
    }
}

/// One line, or one paragraph before it is wrapped.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Vec<(Role, String)>);

impl Line {
    pub(super) fn new() -> Self {
        Line::default()
    }

    /// Adds text as it is meant: cleaned, in its role.
    pub(super) fn with(mut self, role: Role, text: impl AsRef<str>) -> Self {
        self.0.push((role, clean(text.as_ref())));
        self
    }

    pub(super) fn plain(self, text: impl AsRef<str>) -> Self {
        self.with(Role::Plain, text)
    }

    pub(super) fn strong(self, text: impl AsRef<str>) -> Self {
        self.with(Role::Strong, text)
    }

    pub(super) fn dim(self, text: impl AsRef<str>) -> Self {
        self.with(Role::Dim, text)
    }

    /// Adds another line's parts.
    pub(super) fn and(mut self, other: Line) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Joins neighbours of one role, so that each run is painted once.
    pub(super) fn merged(self) -> Self {
        let mut parts: Vec<(Role, String)> = Vec::new();
        for (role, text) in self.0 {
            match parts.last_mut() {
                Some((last, run)) if *last == role => run.push_str(&text),
                _ => parts.push((role, text)),
            }
        }
        Line(parts)
    }

    /// Columns it takes on a terminal.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// The line on its own: cut to `columns` with `…` at the end, trailing blanks dropped.
    pub(super) fn cut(&self, columns: usize, color: bool) -> String {
        let mut left = columns;
        let mut kept = Vec::new();
        let fits = self.width() <= columns;
        for (role, text) in &self.0 {
            if fits || text.width() < left {
                kept.push((*role, text.clone()));
                left = left.saturating_sub(text.width());
            } else {
                kept.push((*role, cut_end(text, left)));
                break;
            }
        }
        while let Some((_, text)) = kept.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            kept.pop();
        }
        paint(&kept, color).replace(GLUE, " ")
    }

    /// The line as a paragraph: wrapped at `columns`, later lines indented by `indent` blanks.
    pub(super) fn wrap(&self, columns: usize, indent: usize, color: bool) -> String {
        let indent = " ".repeat(indent.min(columns / 2));
        // A file's name is found again only in one piece, hyphens or not.
        let whole = textwrap::WordSplitter::NoHyphenation;
        let options = textwrap::Options::new(columns).subsequent_indent(&indent).word_splitter(whole);
        // textwrap measures display width and skips escape codes, so painted text wraps like plain text.
        textwrap::fill(&paint(&self.0, color), options).replace(GLUE, " ")
    }
}

fn paint(parts: &[(Role, String)], color: bool) -> String {
    parts
        .iter()
        .map(|(role, text)| {
            let style = role.style();
            if !color || style == Style::new() || text.trim().is_empty() {
                text.clone()
            } else {
                format!("{style}{text}{style:#}")
            }
        })
        .collect()
}

/// `text` in at most `columns`, its end replaced by `…` where it is too long.
pub(super) fn cut_end(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (kept, _) = text.unicode_truncate(columns.saturating_sub(1));
    if columns == 0 { String::new() } else { format!("{}…", kept.trim_end()) }
}

/// `text` in at most `columns`, its start replaced by `…` where it is too long: for paths and qualified
/// names, whose end says most.
pub(super) fn cut_start(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (kept, _) = text.unicode_truncate_start(columns.saturating_sub(1));
    if columns == 0 { String::new() } else { format!("…{kept}") }
}

/// Pads on the right to `columns`.
pub(super) fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width())))
}

/// Pads on the left to `columns`.
pub(super) fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(text.width())))
}

/// Control characters and direction overrides would let a file name redraw the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => ' ',
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}
