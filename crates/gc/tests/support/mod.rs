//! A small object world with counts, weak references and finalizers, on two kinds of store: blocks of a real heap with the
//! collector under test, and sets with a naive one.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod blocks;
pub mod program;
pub mod sets;
pub mod world;
