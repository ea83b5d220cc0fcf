//! The world: what programs do to objects, written once. A [`Store`] keeps objects, counts and generations, and collects.
//!
//! Every event that a program could observe is logged, so that two worlds can be compared.

use std::collections::BTreeMap;

use heapkeeper_gc::{Generation, Outcome};

pub type Id = u32;

/// What a finalizer or a callback does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Nothing,
    ResurrectSelf,
    ResurrectChild,
    Create,
    Unlink,
    LinkFromRoot,
    LinkToRoot,
    MakeWeak,
    Collect,
    DropRoot,
    Freeze,
    /// Find an object without a reference to it, as `gc.get_objects()` does, and keep it.
    Enumerate,
    /// Stop half-way through, as if an exception had been raised.
    Fail,
}

impl Action {
    pub const ALL: [Action; 13] = [
        Action::Nothing,
        Action::ResurrectSelf,
        Action::ResurrectChild,
        Action::Create,
        Action::Unlink,
        Action::LinkFromRoot,
        Action::LinkToRoot,
        Action::MakeWeak,
        Action::Collect,
        Action::DropRoot,
        Action::Freeze,
        Action::Enumerate,
        Action::Fail,
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Step(usize),
    Started(Generation),
    Finished(Generation, Outcome),
    Collected(Option<Outcome>),
    WeakCleared(Id),
    Called(Id),
    Finalized(Id),
    Freed(Id),
    Uncollectable(Id),
    Froze(bool),
    State(Vec<ObjectState>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectState {
    pub id: Id,
    pub generation: Option<Generation>,
    pub refcount: usize,
    pub edges: Vec<Id>,
    pub finalized: bool,
}

pub trait Store: Sized {
    fn make(&mut self, id: Id, room: usize, tracked: bool);
    /// A block that holds no object.
    fn make_raw(&mut self, bytes: usize);
    fn free(&mut self, id: Id);
    /// The object is about to be freed: no collection considers it any more.
    fn untrack(&mut self, id: Id);
    fn refcount(&self, id: Id) -> usize;
    fn set_refcount(&mut self, id: Id, refcount: usize);
    fn edges(&self, id: Id) -> Vec<Id>;
    /// False if there is no room.
    fn push_edge(&mut self, id: Id, child: Id) -> bool;
    fn remove_edge(&mut self, id: Id, place: usize) -> Id;
    fn generation(&self, id: Id) -> Option<Generation>;
    fn set_thresholds(&mut self, thresholds: [u32; 3], enabled: bool);
    fn collect(world: &mut World<Self>, oldest: Generation) -> Outcome;
    fn collect_if_due(world: &mut World<Self>) -> Option<Outcome>;
    fn freeze(world: &mut World<Self>) -> bool;
    fn unfreeze(world: &mut World<Self>) -> bool;
}

/// What a world knows of an object besides its count and references.
#[derive(Debug, Clone, Default)]
pub struct Traits {
    pub finalizer: Option<Action>,
    pub finalized: bool,
    pub uncollectable: bool,
    /// What a weak reference leads to.
    pub target: Option<Id>,
    pub callback: Option<Action>,
}

pub struct World<S> {
    pub store: S,
    pub objects: BTreeMap<Id, Traits>,
    /// Weak references by their target, oldest first.
    pub weakrefs: BTreeMap<Id, Vec<Id>>,
    pub roots: Vec<Id>,
    /// References held by code that is running.
    pub held: Vec<Id>,
    /// Uncollectable objects that were listed.
    pub garbage: Vec<Id>,
    /// Weak references whose callbacks wait to be called.
    pub callbacks: Vec<Id>,
    pub log: Vec<Event>,
    next: Id,
}

impl<S: Store> World<S> {
    pub fn new(store: S) -> World<S> {
        World {
            store,
            objects: BTreeMap::new(),
            weakrefs: BTreeMap::new(),
            roots: Vec::new(),
            held: Vec::new(),
            garbage: Vec::new(),
            callbacks: Vec::new(),
            log: Vec::new(),
            next: 0,
        }
    }

    /// A new object, with one reference that the caller owns. A collection may run.
    pub fn make(&mut self, room: usize, tracked: bool) -> Id {
        let id = self.next;
        self.next += 1;
        self.store.make(id, room, tracked);
        self.objects.insert(id, Traits::default());
        if tracked {
            self.held.push(id);
            let outcome = S::collect_if_due(self);
            if outcome.is_some() {
                self.log.push(Event::Collected(outcome));
            }
            self.held.pop();
        }
        id
    }

    pub fn make_root(&mut self, room: usize, tracked: bool) -> Id {
        let id = self.make(room, tracked);
        self.roots.push(id);
        id
    }

    pub fn add_root(&mut self, id: Id) {
        self.incref(id);
        self.roots.push(id);
    }

    pub fn drop_root(&mut self, place: usize) {
        let id = self.roots.remove(place);
        self.decref(id);
    }

    pub fn link(&mut self, from: Id, to: Id) {
        if self.store.push_edge(from, to) {
            self.incref(to);
        }
    }

    pub fn unlink(&mut self, from: Id, place: usize) {
        let child = self.store.remove_edge(from, place);
        self.decref(child);
    }

    /// A weak reference, itself a tracked object, held by the caller.
    pub fn make_weak(&mut self, target: Id, callback: Option<Action>) -> Id {
        self.held.push(target);
        let weak = self.make(1, true);
        self.held.pop();
        let traits = self.objects.get_mut(&weak).unwrap();
        (traits.target, traits.callback) = (Some(target), callback);
        self.weakrefs.entry(target).or_default().push(weak);
        weak
    }

    pub fn incref(&mut self, id: Id) {
        self.store.set_refcount(id, self.store.refcount(id) + 1);
    }

    pub fn decref(&mut self, id: Id) {
        let refcount = self.store.refcount(id) - 1;
        self.store.set_refcount(id, refcount);
        if refcount == 0 {
            self.free(id);
        }
    }

    fn free(&mut self, id: Id) {
        if self.has_finalizer(id) {
            self.incref(id);
            self.held.push(id);
            self.finalize(id);
            self.held.pop();
            let refcount = self.store.refcount(id) - 1;
            self.store.set_refcount(id, refcount);
            if refcount > 0 {
                return;
            }
        }
        self.store.untrack(id);
        let waiting = core::mem::take(&mut self.callbacks);
        self.clear_weakrefs_to(id, |_| true);
        self.call_callbacks();
        self.callbacks = waiting;
        self.log.push(Event::Freed(id));
        self.forget_target(id);
        self.objects.remove(&id);
        let edges = self.store.edges(id);
        self.store.free(id);
        self.release(edges);
    }

    /// A weak reference leads nowhere any more.
    fn forget_target(&mut self, weak: Id) {
        if let Some(target) = self.objects.get_mut(&weak).unwrap().target.take() {
            self.weakrefs.get_mut(&target).unwrap().retain(|other| *other != weak);
        }
    }

    fn release(&mut self, mut references: Vec<Id>) {
        references.reverse();
        self.held.extend(&references);
        for _ in 0..references.len() {
            // Code that runs meanwhile leaves `held` as it found it.
            let id = self.held.pop().unwrap();
            self.decref(id);
        }
    }

    pub fn has_finalizer(&self, id: Id) -> bool {
        let traits = &self.objects[&id];
        traits.finalizer.is_some() && !traits.finalized
    }

    /// The caller holds a reference.
    pub fn finalize(&mut self, id: Id) {
        let traits = self.objects.get_mut(&id).unwrap();
        traits.finalized = true;
        let action = traits.finalizer.unwrap();
        self.log.push(Event::Finalized(id));
        self.act(action, Some(id));
    }

    /// Clear the weak references to `target`; those with callbacks that `wanted` wants wait to be called.
    pub fn clear_weakrefs_to(&mut self, target: Id, wanted: impl Fn(Id) -> bool) {
        for weak in self.weakrefs.remove(&target).unwrap_or_default() {
            self.log.push(Event::WeakCleared(weak));
            let traits = self.objects.get_mut(&weak).unwrap();
            traits.target = None;
            if traits.callback.is_some() && wanted(weak) && self.store.refcount(weak) > 0 {
                self.incref(weak);
                self.callbacks.push(weak);
            }
        }
    }

    pub fn call_callbacks(&mut self) -> bool {
        let waiting = core::mem::take(&mut self.callbacks);
        let any = !waiting.is_empty();
        self.held.extend(waiting.iter().rev());
        for weak in waiting {
            let action = self.objects[&weak].callback.unwrap();
            self.log.push(Event::Called(weak));
            self.act(action, None);
            assert_eq!(self.held.pop(), Some(weak));
            self.decref(weak);
        }
        any
    }

    /// Drop all references that an object holds.
    pub fn clear(&mut self, id: Id) {
        self.forget_target(id);
        let edges = self.store.edges(id);
        (0..edges.len()).rev().for_each(|place| assert_eq!(self.store.remove_edge(id, place), edges[place]));
        self.release(edges);
    }

    pub fn uncollectable(&mut self, id: Id) {
        self.log.push(Event::Uncollectable(id));
        self.incref(id);
        self.garbage.push(id);
    }

    pub fn act(&mut self, action: Action, this: Option<Id>) {
        let first_root = self.roots.first().copied();
        match (action, this) {
            (Action::ResurrectSelf, Some(this)) => self.add_root(this),
            (Action::ResurrectChild, Some(this)) => {
                if let Some(child) = self.store.edges(this).first() {
                    self.add_root(*child);
                }
            }
            (Action::Create, this) => {
                let made = self.make(2, true);
                self.held.push(made);
                if let Some(this) = this {
                    self.link(this, made);
                    self.link(made, this);
                }
                self.held.pop();
                self.decref(made);
            }
            (Action::Unlink, Some(this)) => {
                while !self.store.edges(this).is_empty() {
                    self.unlink(this, 0);
                }
            }
            (Action::Fail, Some(this)) if !self.store.edges(this).is_empty() => self.unlink(this, 0),
            (Action::LinkFromRoot, Some(this)) => {
                if let Some(root) = first_root {
                    self.link(root, this);
                }
            }
            (Action::LinkToRoot, Some(this)) => {
                if let Some(root) = first_root {
                    self.link(this, root);
                }
            }
            (Action::MakeWeak, Some(this)) => {
                let weak = self.make_weak(this, Some(Action::Create));
                self.roots.push(weak);
            }
            (Action::Enumerate, _) => {
                // A few from the middle, where garbage is.
                let tracked: Vec<Id> =
                    self.objects.keys().copied().filter(|id| self.store.generation(*id).is_some()).collect();
                tracked.iter().skip(tracked.len() / 2).take(2).for_each(|id| self.add_root(*id));
            }
            (Action::Collect, _) => {
                let outcome = S::collect(self, Generation::Old);
                self.log.push(Event::Collected(Some(outcome)));
            }
            (Action::DropRoot, _) if first_root.is_some() => self.drop_root(0),
            (Action::Freeze, _) => {
                let done = S::freeze(self);
                self.log.push(Event::Froze(done));
            }
            _ => {}
        }
    }

    /// All there is, for comparison.
    pub fn state(&self) -> Vec<ObjectState> {
        let state = |(id, traits): (&Id, &Traits)| ObjectState {
            id: *id,
            generation: self.store.generation(*id),
            refcount: self.store.refcount(*id),
            edges: self.store.edges(*id),
            finalized: traits.finalized,
        };
        self.objects.iter().map(state).collect()
    }
}
