//! From instructions to lines: the tables of code objects as CPython stores them.
//!
//! - 3.10 (PEP 626; `Objects/lnotab_notes.txt`): pairs of bytes, how many bytes of instructions, and how much the line
//!   differs from the one before; -128 for instructions without a line.
//! - 3.11 and later (PEP 657; `Objects/locations.md`): entries that begin with a byte whose highest bit is set; it holds a
//!   kind and how many instructions. What follows are columns, and for some kinds the line's difference.
//!
//! Both are read as `PyCode_Addr2Line` reads them. A table may be damaged: then lines are wrong, and nothing else.

/// Lines of one code object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LineTable {
    first_line: i32,
    /// Where each range of instructions ends, in bytes, and its line; -1 for none.
    ranges: Vec<(u32, i32)>,
}

impl LineTable {
    /// Reads the table of a code object that starts on `first_line`, as this version of Python stores it.
    pub(crate) fn read(python_version: (u8, u8), first_line: i32, table: &[u8]) -> LineTable {
        let ranges = match python_version {
            (3, 10) => pairs(first_line, table),
            (3, 11..) => locations(first_line, table),
            _ => Vec::new(),
        };
        LineTable { first_line, ranges }
    }

    /// The line of the instruction at `offset_bytes`, from 1; 0 where it has none. Before the first instruction that is the
    /// line on which the code starts.
    pub(crate) fn line(&self, offset_bytes: i32) -> u32 {
        let line = match u32::try_from(offset_bytes) {
            Err(_) => self.first_line,
            Ok(offset) => {
                let index = self.ranges.partition_point(|&(end, _)| end <= offset);
                self.ranges.get(index).map_or(-1, |&(_, line)| line)
            }
        };
        u32::try_from(line).unwrap_or(0)
    }
}

fn pairs(first_line: i32, table: &[u8]) -> Vec<(u32, i32)> {
    let (mut end, mut line) = (0u32, first_line);
    let (pairs, _) = table.as_chunks::<2>();
    let ranges = pairs.iter().map(|&[bytes, difference]| {
        end = end.saturating_add(u32::from(bytes));
        match difference.cast_signed() {
            i8::MIN => (end, -1),
            difference => {
                line = line.wrapping_add(i32::from(difference));
                (end, line)
            }
        }
    });
    ranges.collect()
}

fn locations(first_line: i32, table: &[u8]) -> Vec<(u32, i32)> {
    /// Kinds of entries whose line differs by a number that follows, and the one without a line.
    const NO_COLUMNS: u8 = 13;
    const LONG: u8 = 14;
    const NO_LINE: u8 = 15;
    /// Kinds whose line differs by 0, 1 and 2.
    const ONE_LINE: u8 = 10;

    let (mut end, mut line) = (0u32, first_line);
    let starts = (0..table.len()).filter(|&at| table[at] & 0x80 != 0);
    let ranges = starts.map(|at| {
        let (kind, units) = (table[at] >> 3 & 15, u32::from(table[at] & 7) + 1);
        end = end.saturating_add(units * 2);
        line = line.wrapping_add(match kind {
            NO_COLUMNS | LONG => signed(&table[at + 1..]),
            ONE_LINE..NO_COLUMNS => i32::from(kind - ONE_LINE),
            _ => 0,
        });
        (end, if kind == NO_LINE { -1 } else { line })
    });
    ranges.collect()
}

/// A number in groups of six bits, least first, each but the last with bit 6 set; its lowest bit is the sign.
fn signed(bytes: &[u8]) -> i32 {
    let mut value = 0u32;
    for (group, byte) in bytes.iter().enumerate().take(6) {
        value |= u32::from(byte & 63) << (6 * group);
        if byte & 64 == 0 {
            break;
        }
    }
    let magnitude = (value >> 1).cast_signed();
    if value & 1 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::LineTable;

    /// What four versions of CPython looked up: see fixtures/line_tables.py.
    #[test]
    fn lines_are_those_that_cpython_looks_up() {
        for text in [
            include_str!("../../fixtures/line_tables_3_10.json"),
            include_str!("../../fixtures/line_tables_3_11.json"),
            include_str!("../../fixtures/line_tables_3_12.json"),
            include_str!("../../fixtures/line_tables_3_13.json"),
        ] {
            let fixture: Value = serde_json::from_str(text).unwrap();
            let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
            let version = (number(&fixture["version"][0]) as u8, number(&fixture["version"][1]) as u8);
            let codes = fixture["codes"].as_array().unwrap();
            assert!(codes.len() > 10);
            for code in codes {
                let digits = code["table"].as_str().unwrap();
                let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
                let table = LineTable::read(version, number(&code["first_line"]), &bytes);
                let lines = code["lines"].as_array().unwrap();
                for (index, pair) in lines.iter().enumerate() {
                    let end = lines.get(index + 1).map_or(number(&code["end"]), |next| number(&next[0]));
                    for offset in number(&pair[0])..end {
                        let expected = u32::try_from(number(&pair[1])).unwrap_or(0);
                        assert_eq!(table.line(offset), expected, "{version:?} {code} at {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_table_only_the_first_line_is_known() {
        let table = LineTable::read((2, 7), 12, &[2, 1]);
        assert_eq!((table.line(-1), table.line(0), table.line(i32::MAX)), (12, 0, 0));
    }

    proptest! {
        #[test]
        fn a_damaged_table_gives_some_line(minor in 9u8..16, first: i32, bytes: Vec<u8>, offset: i32) {
            let _ = LineTable::read((3, minor), first, &bytes).line(offset);
        }
    }
}
