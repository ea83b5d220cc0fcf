//! What the workloads ask of a crate: [`Objects`], the objects they are made of, and [`Rival`], a crate in use.
//!
//! One text of each workload runs on every crate. To distort no crate's idiom, work comes in turns of about [`TURN`]
//! objects: gc-arena does a turn in one `mutate` and collects between two, as its documentation asks; where references are
//! handles, a turn is a call. Whatever lives beyond a turn is in [`Roots`], which gc-arena keeps inside its arena.

use std::fmt;

/// Objects in a turn, roughly: after so many, a crate that leaves its pace to its user may collect.
pub const TURN: u64 = 1000;

/// Edges of a vertex.
pub const EDGES: usize = 4;

/// What is made and read during a turn. Values are of the same shape and size on every crate, see `handles.rs`.
pub trait Objects {
    /// 32 bytes: three words, and a reference that does not change.
    type Node: Clone;
    /// 32 bytes: two words, and a reference that may be stored to.
    type Link: Clone;
    /// 16 bytes: two references to smaller trees.
    type Tree: Clone;
    /// 48 bytes: a word, and `EDGES` references that may be stored to.
    type Vertex: Clone;
    /// What an interpreter's variable holds: nothing, a number, a pair, a closure or a place.
    type Value: Clone + fmt::Debug;
    /// An interpreter's frame: two values that may be stored to, and the frame around it.
    type Frame: Clone;

    fn node(&self, words: [u64; 3], next: Option<Self::Node>) -> Self::Node;
    fn words(node: &Self::Node) -> &[u64; 3];
    fn next(node: &Self::Node) -> Option<&Self::Node>;

    fn link(&self, words: [u64; 2]) -> Self::Link;
    fn set_target(&self, link: &Self::Link, target: Option<Self::Link>);
    fn link_word(link: &Self::Link) -> u64;

    fn tree(&self, children: Option<(Self::Tree, Self::Tree)>) -> Self::Tree;
    fn children(tree: &Self::Tree) -> Option<(&Self::Tree, &Self::Tree)>;

    fn vertex(&self, word: u64) -> Self::Vertex;
    fn set_edge(&self, vertex: &Self::Vertex, place: usize, to: Self::Vertex);
    fn edge(vertex: &Self::Vertex, place: usize) -> Option<Self::Vertex>;
    fn vertex_word(vertex: &Self::Vertex) -> u64;

    fn nil() -> Self::Value;
    fn number(number: u64) -> Self::Value;
    fn as_number(value: &Self::Value) -> u64;
    fn pair(&self, head: Self::Value, tail: Self::Value) -> Self::Value;
    /// Head and tail; null for what is no pair.
    fn parts(value: &Self::Value) -> Option<(&Self::Value, &Self::Value)>;
    fn frame(&self, variables: [Self::Value; 2], around: Option<Self::Frame>) -> Self::Frame;
    fn variable(frame: &Self::Frame, place: usize) -> Self::Value;
    fn set_variable(&self, frame: &Self::Frame, place: usize, value: Self::Value);
    fn around(frame: &Self::Frame) -> Option<Self::Frame>;
    fn closure(&self, frame: Self::Frame, code: u64) -> Self::Value;
    /// What a closure captured; null for what is no closure.
    fn captured(value: &Self::Value) -> Option<Self::Frame>;
    /// A cell of the interpreter's language: a value that may be stored to.
    fn place(&self, value: Self::Value) -> Self::Value;
    fn set_place(&self, place: &Self::Value, value: Self::Value);
}

/// What lives on between turns.
pub struct Roots<O: Objects + ?Sized> {
    pub nodes: Vec<Option<O::Node>>,
    pub links: Vec<O::Link>,
    pub trees: Vec<O::Tree>,
    pub vertices: Vec<Option<O::Vertex>>,
    pub values: Vec<O::Value>,
}

impl<O: Objects + ?Sized> Default for Roots<O> {
    fn default() -> Self {
        Roots { nodes: Vec::new(), links: Vec::new(), trees: Vec::new(), vertices: Vec::new(), values: Vec::new() }
    }
}

/// Work of one turn.
pub trait Work {
    type Output;

    fn run<O: Objects>(self, objects: &O, roots: &mut Roots<O>) -> Self::Output;
}

/// A crate in use: its heap and its roots.
pub trait Rival {
    fn start() -> Self;

    /// Do one turn.
    fn turn<W: Work>(&mut self, work: W) -> W::Output;

    /// Between two turns: the crate collects if it is time to, by the crate's own measure. Nothing where it does so by itself.
    fn pace(&mut self);

    /// Nothing collects but `collect`, until `resume`.
    fn pause(&mut self);

    /// The crate's own pace again.
    fn resume(&mut self);

    /// Free whatever is not reachable from the roots.
    fn collect(&mut self);

    /// Bytes that the crate holds from somewhere else than `malloc`.
    fn own_bytes(&self) -> u64 {
        0
    }
}

/// `0..objects` in turns.
pub fn turns(objects: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..objects).step_by(TURN as usize).map(move |first| first..objects.min(first + TURN))
}
