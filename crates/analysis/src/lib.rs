//! Reports made from records.
