//! The objects for crates whose references are handles: `Clone`, `Deref`, rooted by being held.
//!
//! Five rivals and `heapkeeper` share this text; a crate adds its handle, its cell and its derives. gc-arena, whose
//! references are bound to a turn, has the same shapes in its own file.

use crate::objects::{Objects, Rival, Roots, Work};

/// How a crate of handles collects. The context is what objects are made with: a heap, or nothing for thread-local ones.
pub trait Collecting {
    fn start() -> Self;
    /// Where the crate leaves the pace to its user.
    fn pace(&mut self) {}
    fn pause(&mut self);
    fn resume(&mut self);
    fn collect(&mut self);
    fn own_bytes(&self) -> u64 {
        0
    }
}

/// A crate of handles in use. Roots go before the heap they are on.
pub struct Handles<C: Objects> {
    roots: Roots<C>,
    context: C,
}

impl<C: Objects + Collecting> Rival for Handles<C> {
    fn start() -> Self {
        Handles { roots: Roots::default(), context: C::start() }
    }

    #[inline]
    fn turn<W: Work>(&mut self, work: W) -> W::Output {
        work.run(&self.context, &mut self.roots)
    }

    #[inline]
    fn pace(&mut self) {
        self.context.pace();
    }

    fn pause(&mut self) {
        self.context.pause();
    }

    fn resume(&mut self) {
        self.context.resume();
    }

    fn collect(&mut self) {
        self.context.collect();
    }

    fn own_bytes(&self) -> u64 {
        self.context.own_bytes()
    }
}

/// The objects' types for one crate, and [`Objects`] for its context. `new` makes a handle from a value.
macro_rules! handle_objects {
    (
        context: $Context:ty, handle: $Gc:ident, cell: $Cell:ident, derive: [$($Derive:ident),*],
        new: |$context:ident, $value:ident| $new:expr $(,)?
    ) => {
        #[derive($($Derive),*)]
        pub struct Node {
            next: Option<$Gc<Node>>,
            words: [u64; 3],
        }

        #[derive($($Derive),*)]
        pub struct Link {
            target: $Cell<Option<$Gc<Link>>>,
            words: [u64; 2],
        }

        #[derive($($Derive),*)]
        pub struct Tree {
            children: Option<($Gc<Tree>, $Gc<Tree>)>,
        }

        #[derive($($Derive),*)]
        pub struct Vertex {
            edges: $Cell<[Option<$Gc<Vertex>>; $crate::objects::EDGES]>,
            word: u64,
        }

        #[derive(Clone, $($Derive),*)]
        pub enum Value {
            Nil,
            Number(u64),
            Pair($Gc<Pair>),
            Closure($Gc<Closure>),
            Place($Gc<Place>),
        }

        #[derive($($Derive),*)]
        pub struct Pair {
            head: Value,
            tail: Value,
        }

        #[derive($($Derive),*)]
        pub struct Closure {
            frame: $Gc<Frame>,
            code: u64,
        }

        #[derive($($Derive),*)]
        pub struct Place {
            value: $Cell<Value>,
        }

        #[derive($($Derive),*)]
        pub struct Frame {
            variables: $Cell<[Value; 2]>,
            around: Option<$Gc<Frame>>,
        }

        // The sizes that `objects.rs` names, where a handle is a word and so is none at all. Handles of dumpster and gc leave
        // `Option` no value for "none": there it takes a word more.
        const OPTION: usize = size_of::<Option<$Gc<Node>>>();
        const _: () = assert!(OPTION == 8 || OPTION == 16);
        const _: () = assert!(size_of::<Node>() == 24 + OPTION && size_of::<Link>() == 24 + OPTION);
        const _: () = assert!(size_of::<Tree>() == 8 + OPTION && size_of::<Vertex>() == 16 + 4 * OPTION);
        const _: () = assert!(size_of::<Value>() == 16 && size_of::<Pair>() == 32 && size_of::<Closure>() == 16);
        const _: () = assert!(size_of::<Place>() == 24 && size_of::<Frame>() == 40 + OPTION);

        impl std::fmt::Debug for Value {
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

        impl $crate::objects::Objects for $Context {
            type Node = $Gc<Node>;
            type Link = $Gc<Link>;
            type Tree = $Gc<Tree>;
            type Vertex = $Gc<Vertex>;
            type Value = Value;
            type Frame = $Gc<Frame>;

            #[inline]
            fn node(&self, words: [u64; 3], next: Option<Self::Node>) -> Self::Node {
                let ($context, $value) = (self, Node { next, words });
                $new
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
                let ($context, $value) = (self, Link { target: $Cell::new(None), words });
                $new
            }

            #[inline]
            fn set_target(&self, link: &Self::Link, target: Option<Self::Link>) {
                *link.target.borrow_mut() = target;
            }

            #[inline]
            fn link_word(link: &Self::Link) -> u64 {
                link.words[0]
            }

            #[inline]
            fn tree(&self, children: Option<(Self::Tree, Self::Tree)>) -> Self::Tree {
                let ($context, $value) = (self, Tree { children });
                $new
            }

            #[inline]
            fn children(tree: &Self::Tree) -> Option<(&Self::Tree, &Self::Tree)> {
                tree.children.as_ref().map(|(left, right)| (left, right))
            }

            #[inline]
            fn vertex(&self, word: u64) -> Self::Vertex {
                let edges = $Cell::new([const { None }; $crate::objects::EDGES]);
                let ($context, $value) = (self, Vertex { edges, word });
                $new
            }

            #[inline]
            fn set_edge(&self, vertex: &Self::Vertex, place: usize, to: Self::Vertex) {
                vertex.edges.borrow_mut()[place] = Some(to);
            }

            #[inline]
            fn edge(vertex: &Self::Vertex, place: usize) -> Option<Self::Vertex> {
                vertex.edges.borrow()[place].clone()
            }

            #[inline]
            fn vertex_word(vertex: &Self::Vertex) -> u64 {
                vertex.word
            }

            #[inline]
            fn nil() -> Value {
                Value::Nil
            }

            #[inline]
            fn number(number: u64) -> Value {
                Value::Number(number)
            }

            #[inline]
            fn as_number(value: &Value) -> u64 {
                let Value::Number(number) = value else { panic!("{value:?} instead of a number") };
                *number
            }

            #[inline]
            fn pair(&self, head: Value, tail: Value) -> Value {
                let ($context, $value) = (self, Pair { head, tail });
                Value::Pair($new)
            }

            #[inline]
            fn parts(value: &Value) -> Option<(&Value, &Value)> {
                match value {
                    Value::Pair(pair) => Some((&pair.head, &pair.tail)),
                    _ => None,
                }
            }

            #[inline]
            fn frame(&self, variables: [Value; 2], around: Option<Self::Frame>) -> Self::Frame {
                let ($context, $value) = (self, Frame { variables: $Cell::new(variables), around });
                $new
            }

            #[inline]
            fn variable(frame: &Self::Frame, place: usize) -> Value {
                frame.variables.borrow()[place].clone()
            }

            #[inline]
            fn set_variable(&self, frame: &Self::Frame, place: usize, value: Value) {
                frame.variables.borrow_mut()[place] = value;
            }

            #[inline]
            fn around(frame: &Self::Frame) -> Option<Self::Frame> {
                frame.around.clone()
            }

            #[inline]
            fn closure(&self, frame: Self::Frame, code: u64) -> Value {
                let ($context, $value) = (self, Closure { frame, code });
                Value::Closure($new)
            }

            #[inline]
            fn captured(value: &Value) -> Option<Self::Frame> {
                match value {
                    Value::Closure(closure) if closure.code != u64::MAX => Some(closure.frame.clone()),
                    _ => None,
                }
            }

            #[inline]
            fn place(&self, value: Value) -> Value {
                let ($context, $value) = (self, Place { value: $Cell::new(value) });
                Value::Place($new)
            }

            #[inline]
            fn set_place(&self, place: &Value, value: Value) {
                let Value::Place(place) = place else { panic!("{place:?} instead of a place") };
                *place.value.borrow_mut() = value;
            }
        }
    };
}

pub(crate) use handle_objects;
