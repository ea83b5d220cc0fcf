//! A document: a tree whose nodes know their parents, bookmarks that do not keep what they mark, and an undo history.
//!
//! ```text
//! cargo run -p heapkeeper --example document
//! ```
//! What to look at: parent and child hold each other, so a removed part is a cycle. It lives as long as the history can bring
//! it back; when the history forgets it, the collector frees it, and the bookmarks in it take themselves off the list.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use heapkeeper::{Gc, Generation, Heap, Trace, Weak};

/// A part of a document.
#[derive(Trace)]
pub struct Node {
    text: RefCell<String>,
    parent: RefCell<Option<Gc<Node>>>,
    children: RefCell<Vec<Gc<Node>>>,
}

impl Node {
    /// Titles from the document down to this node.
    pub fn path(&self) -> String {
        match &*self.parent.borrow() {
            Some(parent) => format!("{} / {}", parent.path(), self.text.borrow()),
            None => self.text.borrow().clone(),
        }
    }

    /// The part below at `place`.
    pub fn child(&self, place: usize) -> Option<Gc<Node>> {
        self.children.borrow().get(place).cloned()
    }

    /// This node and all below it, one a line.
    pub fn outline(&self, depth: usize) -> String {
        let children = self.children.borrow();
        let below = children.iter().map(|child| child.outline(depth + 1)).collect::<String>();
        format!("{:indent$}{}\n{below}", "", self.text.borrow(), indent = 2 * depth)
    }
}

/// What takes a change back.
#[derive(Trace)]
enum Undo {
    Insert { removed: Gc<Node>, parent: Gc<Node>, place: usize },
    Remove { inserted: Gc<Node> },
    Write { node: Gc<Node>, text: String },
}

/// Names of places in the document. Shared with the weak references' callbacks, which know no lifetime.
type Bookmarks = Rc<RefCell<BTreeMap<String, Weak<Node>>>>;

/// A tree and what can be done to it.
pub struct Document {
    heap: Heap,
    root: Gc<Node>,
    /// The oldest first; what is forgotten can be freed.
    history: VecDeque<Undo>,
    history_length: usize,
    bookmarks: Bookmarks,
}

impl Document {
    /// A document of one part, which remembers so many changes.
    pub fn new(heap: &Heap, title: &str, history_length: usize) -> Document {
        let root = node(heap, title, None);
        Document { heap: heap.clone(), root, history: VecDeque::new(), history_length, bookmarks: Rc::default() }
    }

    /// The part that all others are in.
    pub fn root(&self) -> &Gc<Node> {
        &self.root
    }

    /// Add a part at the end of `parent`.
    pub fn insert(&mut self, parent: &Gc<Node>, text: &str) -> Gc<Node> {
        let inserted = node(&self.heap, text, Some(parent));
        parent.children.borrow_mut().push(inserted.clone());
        self.note(Undo::Remove { inserted: inserted.clone() });
        inserted
    }

    /// Take a part out, with all below it. The document itself stays.
    pub fn remove(&mut self, node: &Gc<Node>) {
        if let Some((parent, place)) = unlink(node) {
            self.note(Undo::Insert { removed: node.clone(), parent, place });
        }
    }

    /// Change what a part says.
    pub fn write(&mut self, node: &Gc<Node>, text: &str) {
        let text = node.text.replace(text.into());
        self.note(Undo::Write { node: node.clone(), text });
    }

    /// Take the last change back. Whether there was one.
    pub fn undo(&mut self) -> bool {
        match self.history.pop_back() {
            None => return false,
            Some(Undo::Remove { inserted }) => drop(unlink(&inserted)),
            Some(Undo::Write { node, text }) => drop(node.text.replace(text)),
            Some(Undo::Insert { removed, parent, place }) => {
                *removed.parent.borrow_mut() = Some(parent.clone());
                parent.children.borrow_mut().insert(place, removed);
            }
        }
        true
    }

    /// Name a part. The name goes when the part does.
    pub fn bookmark(&self, name: &str, node: &Gc<Node>) {
        // The list owns the weak reference, which owns the callback: it must not own the list.
        let (bookmarks, key) = (Rc::downgrade(&self.bookmarks), name.to_owned());
        let mark = Gc::downgrade_with(node, move |_| {
            let gone = bookmarks.upgrade().and_then(|bookmarks| bookmarks.borrow_mut().remove(&key));
            drop(gone); // after the borrow
        });
        let before = self.bookmarks.borrow_mut().insert(name.into(), mark);
        drop(before);
    }

    /// The bookmarks, with the paths of what they mark.
    pub fn bookmarks(&self) -> Vec<(String, String)> {
        let bookmarks = self.bookmarks.borrow();
        bookmarks.iter().filter_map(|(name, mark)| Some((name.clone(), mark.upgrade()?.path()))).collect()
    }

    fn note(&mut self, undo: Undo) {
        self.history.push_back(undo);
        if self.history.len() > self.history_length {
            self.history.pop_front();
        }
    }
}

fn node(heap: &Heap, text: &str, parent: Option<&Gc<Node>>) -> Gc<Node> {
    heap.alloc(Node {
        text: RefCell::new(text.into()),
        parent: RefCell::new(parent.cloned()),
        children: RefCell::default(),
    })
}

/// Take a node out of its parent. Where it was; `None` for one that has no parent.
fn unlink(node: &Gc<Node>) -> Option<(Gc<Node>, usize)> {
    let parent = node.parent.borrow_mut().take()?;
    let place = parent.children.borrow().iter().position(|child| Gc::ptr_eq(child, node))?;
    parent.children.borrow_mut().remove(place);
    Some((parent, place))
}

fn main() {
    let heap = Heap::new();
    let mut document = Document::new(&heap, "Memory", 3);
    let root = document.root().clone();
    let cycles = document.insert(&root, "Cycles");
    document.insert(&cycles, "Parents and children");
    document.bookmark("here", &cycles);
    document.remove(&cycles);
    drop(cycles);
    println!("{} bookmark while the chapter can come back: {:?}", document.bookmarks().len(), document.bookmarks());
    document.undo();
    print!("{}", document.root().outline(0));

    if let Some(chapter) = root.child(0) {
        document.remove(&chapter);
    }
    for number in 1..=3 {
        document.write(&root, &format!("Memory, version {number}"));
    }
    println!("{} objects, of which {} are freed", heap.stats().objects, heap.collect(Generation::Old).collected);
    println!("{} bookmarks when the history has forgotten it", document.bookmarks().len());
}
