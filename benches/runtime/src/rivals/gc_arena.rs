//! gc-arena: marks and sweeps incrementally, between turns, as far as the allocations of the last turn make it.
//!
//! The shapes are those of `handles.rs`; `RefLock` is its cell, and a reference is a plain copy.

use gc_arena::arena::CollectionPhase;
use gc_arena::collect::Trace;
use gc_arena::{Arena, Collect, Gc, Mutation, RefLock, Rootable};

use crate::objects::{EDGES, Objects, Rival, Roots, Work};

#[derive(Collect)]
#[collect(no_drop)]
pub struct Node<'gc> {
    next: Option<Gc<'gc, Node<'gc>>>,
    words: [u64; 3],
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Link<'gc> {
    target: Option<Gc<'gc, RefLock<Link<'gc>>>>,
    words: [u64; 2],
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Tree<'gc> {
    children: Option<(Gc<'gc, Tree<'gc>>, Gc<'gc, Tree<'gc>>)>,
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Vertex<'gc> {
    edges: [Option<Gc<'gc, RefLock<Vertex<'gc>>>>; EDGES],
    word: u64,
}

#[derive(Clone, Copy, Collect)]
#[collect(no_drop)]
pub enum Value<'gc> {
    Nil,
    Number(u64),
    Pair(Gc<'gc, Pair<'gc>>),
    Closure(Gc<'gc, Closure<'gc>>),
    Place(Gc<'gc, RefLock<Place<'gc>>>),
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Pair<'gc> {
    head: Value<'gc>,
    tail: Value<'gc>,
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Closure<'gc> {
    frame: Gc<'gc, RefLock<Frame<'gc>>>,
    code: u64,
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Place<'gc> {
    value: Value<'gc>,
}

#[derive(Collect)]
#[collect(no_drop)]
pub struct Frame<'gc> {
    variables: [Value<'gc>; 2],
    around: Option<Gc<'gc, RefLock<Frame<'gc>>>>,
}

const _: () = assert!(size_of::<Node>() == 32 && size_of::<RefLock<Link>>() == 32 && size_of::<Tree>() == 16);
const _: () = assert!(size_of::<RefLock<Vertex>>() == 48 && size_of::<Value>() == 16 && size_of::<Pair>() == 32);
const _: () = assert!(size_of::<Closure>() == 16 && size_of::<RefLock<Place>>() == 24);
const _: () = assert!(size_of::<RefLock<Frame>>() == 48);

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Value::Nil => "nil",
            Value::Number(_) => "a number",
            Value::Pair(_) => "a pair",
            Value::Closure(_) => "a closure",
            Value::Place(_) => "a place",
        })
    }
}

/// What a turn makes objects with.
pub struct Turn<'gc>(&'gc Mutation<'gc>);

impl<'gc> Objects for Turn<'gc> {
    type Node = Gc<'gc, Node<'gc>>;
    type Link = Gc<'gc, RefLock<Link<'gc>>>;
    type Tree = Gc<'gc, Tree<'gc>>;
    type Vertex = Gc<'gc, RefLock<Vertex<'gc>>>;
    type Value = Value<'gc>;
    type Frame = Gc<'gc, RefLock<Frame<'gc>>>;

    #[inline]
    fn node(&self, words: [u64; 3], next: Option<Self::Node>) -> Self::Node {
        Gc::new(self.0, Node { next, words })
    }

    #[inline]
    fn words(node: &Self::Node) -> &[u64; 3] {
        &node.words
    }

    #[inline]
    fn next(node: &Self::Node) -> Option<&Self::Node> {
        node.next.as_ref()
    }

    #[inline]
    fn link(&self, words: [u64; 2]) -> Self::Link {
        Gc::new(self.0, RefLock::new(Link { target: None, words }))
    }

    #[inline]
    fn set_target(&self, link: &Self::Link, target: Option<Self::Link>) {
        link.borrow_mut(self.0).target = target;
    }

    #[inline]
    fn link_word(link: &Self::Link) -> u64 {
        link.borrow().words[0]
    }

    #[inline]
    fn tree(&self, children: Option<(Self::Tree, Self::Tree)>) -> Self::Tree {
        Gc::new(self.0, Tree { children })
    }

    #[inline]
    fn children(tree: &Self::Tree) -> Option<(&Self::Tree, &Self::Tree)> {
        tree.children.as_ref().map(|(left, right)| (left, right))
    }

    #[inline]
    fn vertex(&self, word: u64) -> Self::Vertex {
        Gc::new(self.0, RefLock::new(Vertex { edges: [None; EDGES], word }))
    }

    #[inline]
    fn set_edge(&self, vertex: &Self::Vertex, place: usize, to: Self::Vertex) {
        vertex.borrow_mut(self.0).edges[place] = Some(to);
    }

    #[inline]
    fn edge(vertex: &Self::Vertex, place: usize) -> Option<Self::Vertex> {
        vertex.borrow().edges[place]
    }

    #[inline]
    fn vertex_word(vertex: &Self::Vertex) -> u64 {
        vertex.borrow().word
    }

    #[inline]
    fn nil() -> Self::Value {
        Value::Nil
    }

    #[inline]
    fn number(number: u64) -> Self::Value {
        Value::Number(number)
    }

    #[inline]
    fn as_number(value: &Self::Value) -> u64 {
        let Value::Number(number) = value else { panic!("{value:?} instead of a number") };
        *number
    }

    #[inline]
    fn pair(&self, head: Self::Value, tail: Self::Value) -> Self::Value {
        Value::Pair(Gc::new(self.0, Pair { head, tail }))
    }

    #[inline]
    fn parts(value: &Self::Value) -> Option<(&Self::Value, &Self::Value)> {
        match value {
            Value::Pair(pair) => Some((&pair.head, &pair.tail)),
            _ => None,
        }
    }

    #[inline]
    fn frame(&self, variables: [Self::Value; 2], around: Option<Self::Frame>) -> Self::Frame {
        Gc::new(self.0, RefLock::new(Frame { variables, around }))
    }

    #[inline]
    fn variable(frame: &Self::Frame, place: usize) -> Self::Value {
        frame.borrow().variables[place]
    }

    #[inline]
    fn set_variable(&self, frame: &Self::Frame, place: usize, value: Self::Value) {
        frame.borrow_mut(self.0).variables[place] = value;
    }

    #[inline]
    fn around(frame: &Self::Frame) -> Option<Self::Frame> {
        frame.borrow().around
    }

    #[inline]
    fn closure(&self, frame: Self::Frame, code: u64) -> Self::Value {
        Value::Closure(Gc::new(self.0, Closure { frame, code }))
    }

    #[inline]
    fn captured(value: &Self::Value) -> Option<Self::Frame> {
        match value {
            Value::Closure(closure) if closure.code != u64::MAX => Some(closure.frame),
            _ => None,
        }
    }

    #[inline]
    fn place(&self, value: Self::Value) -> Self::Value {
        Value::Place(Gc::new(self.0, RefLock::new(Place { value })))
    }

    #[inline]
    fn set_place(&self, place: &Self::Value, value: Self::Value) {
        let Value::Place(place) = place else { panic!("{place:?} instead of a place") };
        place.borrow_mut(self.0).value = value;
    }
}

// SAFETY: every vector is traced, and dropping one reads no reference.
unsafe impl<'gc> Collect<'gc> for Roots<Turn<'gc>> {
    fn trace<T: Trace<'gc>>(&self, tracer: &mut T) {
        tracer.trace(&self.nodes);
        tracer.trace(&self.links);
        tracer.trace(&self.trees);
        tracer.trace(&self.vertices);
        tracer.trace(&self.values);
    }
}

type RootsInside = Rootable!['gc => Roots<Turn<'gc>>];

/// An arena with its roots inside.
pub struct Collected {
    arena: Arena<RootsInside>,
    paused: bool,
}

impl Rival for Collected {
    fn start() -> Self {
        Collected { arena: Arena::new(|_| Roots::default()), paused: false }
    }

    #[inline]
    fn turn<W: Work>(&mut self, work: W) -> W::Output {
        self.arena.mutate_root(|mutation, roots| work.run(&Turn(mutation), roots))
    }

    #[inline]
    fn pace(&mut self) {
        if !self.paused {
            self.arena.collect_debt();
        }
    }

    fn pause(&mut self) {
        self.paused = true;
    }

    fn resume(&mut self) {
        self.paused = false;
    }

    fn collect(&mut self) {
        // What died after it was marked stays until the next cycle.
        if self.arena.collection_phase() != CollectionPhase::Sleeping {
            self.arena.finish_cycle();
        }
        self.arena.finish_cycle();
    }
}
