//! Programs, written once for two machines: the crate, and a naive twin. Everything that a program can observe is logged.

pub mod real;
pub mod twin;

use std::cell::{Cell, RefCell};
use std::panic::panic_any;
use std::rc::Rc;

use heapkeeper::{Generation, Outcome, Trace};

/// One instruction: four bytes that mean something in any combination.
pub type Op = [u8; 4];

pub type Id = u32;

/// What code that a machine runs does: a finalizer, a `Drop`, a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Trace)]
pub enum Action {
    Nothing,
    /// Keep the object itself: finalizers only.
    KeepSelf,
    KeepChild,
    Create,
    Unlink,
    LinkFromRoot,
    LinkToRoot,
    MakeWeak,
    Collect,
    DropRoot,
    DropWeak,
    Upgrade,
    Freeze,
    /// Find objects without a reference to them, and keep some.
    Enumerate,
    Panic,
}

const ACTIONS: [Action; 15] = [
    Action::Nothing,
    Action::KeepSelf,
    Action::KeepChild,
    Action::Create,
    Action::Unlink,
    Action::LinkFromRoot,
    Action::LinkToRoot,
    Action::MakeWeak,
    Action::Collect,
    Action::DropRoot,
    Action::DropWeak,
    Action::Upgrade,
    Action::Freeze,
    Action::Enumerate,
    Action::Panic,
];

/// The payload of planned panics.
pub struct Planned;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Holds nothing, is not tracked.
    Leaf,
    /// No finalizer.
    Plain,
    Finalized,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Step(usize),
    Started(Generation),
    Finished(Generation, Outcome),
    Collected(Outcome),
    Finalized(Id),
    Dropped(Id),
    Called(u32),
    Upgraded(Option<Id>),
    Child(Option<Id>, bool),
    Froze(bool),
    State(Vec<ObjectState>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectState {
    pub id: Id,
    pub dead: bool,
    pub generation: Option<Generation>,
    pub refcount: usize,
    pub edges: Vec<Id>,
    pub weak: usize,
}

/// Something that keeps objects.
pub trait Machine: Sized + 'static {
    /// A counted handle.
    type Strong: Clone;
    type Weak: Clone;

    fn program() -> Rc<Program<Self>>;

    fn make(kind: Kind, id: Id) -> Self::Strong;
    /// `None` if the object is dead.
    fn id(object: &Self::Strong) -> Option<Id>;
    /// These do nothing with dead objects, and with leaves.
    fn link(from: &Self::Strong, to: &Self::Strong);
    fn unlink(from: &Self::Strong, place: usize);
    fn child(of: &Self::Strong, place: usize) -> Option<Self::Strong>;
    fn hold_weak(object: &Self::Strong, weak: Self::Weak);
    fn set_finalizer(object: &Self::Strong, action: Action);
    fn set_drop(object: &Self::Strong, action: Action);

    fn downgrade(object: &Self::Strong) -> Self::Weak;
    fn downgrade_with(object: &Self::Strong, name: u32, action: Action) -> Self::Weak;
    fn upgrade(weak: &Self::Weak) -> Option<Self::Strong>;

    fn collect(oldest: Generation) -> Outcome;
    fn freeze() -> bool;
    fn unfreeze() -> bool;
    fn set_thresholds(thresholds: [u32; 3], enabled: bool);
    /// Handles to all tracked objects, by id.
    fn enumerate() -> Vec<Self::Strong>;
    fn state() -> Vec<ObjectState>;
}

pub struct Program<M: Machine> {
    pub roots: RefCell<Vec<M::Strong>>,
    pub weaks: RefCell<Vec<M::Weak>>,
    pub log: RefCell<Vec<Event>>,
    pub panics: Cell<u64>,
    next_id: Cell<Id>,
    next_weak: Cell<u32>,
}

fn pick<T: Clone>(from: &RefCell<Vec<T>>, draw: u8) -> Option<T> {
    let from = from.borrow();
    if from.is_empty() { None } else { Some(from[usize::from(draw) * from.len() / 256].clone()) }
}

/// Take one out. The borrow is over when it is dropped.
fn take<T>(from: &RefCell<Vec<T>>, draw: u8) -> Option<T> {
    let mut from = from.borrow_mut();
    let place = usize::from(draw) * from.len() / 256;
    if from.is_empty() { None } else { Some(from.remove(place)) }
}

fn action(draw: u8) -> Action {
    ACTIONS[usize::from(draw) % ACTIONS.len()]
}

impl<M: Machine> Program<M> {
    pub fn new() -> Program<M> {
        Program {
            roots: RefCell::default(),
            weaks: RefCell::default(),
            log: RefCell::default(),
            panics: Cell::new(0),
            next_id: Cell::new(0),
            next_weak: Cell::new(0),
        }
    }

    pub fn log(&self, event: Event) {
        self.log.borrow_mut().push(event);
    }

    fn make(&self, kind: Kind) -> M::Strong {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        M::make(kind, id)
    }

    fn keep(&self, object: M::Strong) {
        self.roots.borrow_mut().push(object);
    }

    fn weak_to(&self, object: &M::Strong, callback: Option<Action>) -> M::Weak {
        match callback {
            None => M::downgrade(object),
            Some(action) => {
                let name = self.next_weak.get();
                self.next_weak.set(name + 1);
                M::downgrade_with(object, name, action)
            }
        }
    }

    fn hold_weak(&self, weak: M::Weak) {
        self.weaks.borrow_mut().push(weak);
    }

    /// Code that the machine runs.
    pub fn act(&self, action: Action, this: Option<&M::Strong>, child: Option<M::Strong>) {
        let root = pick(&self.roots, 0);
        match (action, this) {
            (Action::KeepSelf, Some(this)) => self.keep(this.clone()),
            (Action::KeepChild, _) => {
                if let Some(child) = child {
                    self.log(Event::Child(
                        M::id(&child),
                        M::downgrade(&child).pipe(|weak| M::upgrade(&weak).is_some()),
                    ));
                    self.keep(child);
                }
            }
            (Action::Create, _) => {
                let made = self.make(Kind::Plain);
                M::link(&made, &made);
                if let Some(this) = this {
                    M::link(this, &made);
                    M::link(&made, this);
                }
            }
            (Action::Unlink, Some(this)) => {
                while M::child(this, 0).is_some() {
                    M::unlink(this, 0);
                }
            }
            (Action::LinkFromRoot, Some(this)) => {
                if let Some(root) = root {
                    M::link(&root, this);
                }
            }
            (Action::LinkToRoot, Some(this)) => {
                if let Some(root) = root {
                    M::link(this, &root);
                }
            }
            (Action::MakeWeak, Some(this)) => self.hold_weak(self.weak_to(this, Some(Action::Create))),
            (Action::MakeWeak, None) => {
                if let Some(child) = child {
                    self.hold_weak(self.weak_to(&child, Some(Action::Create)));
                }
            }
            (Action::Collect, _) => {
                let outcome = M::collect(Generation::Old);
                self.log(Event::Collected(outcome));
            }
            (Action::DropRoot, _) => drop(take(&self.roots, 0)),
            (Action::DropWeak, _) => drop(take(&self.weaks, 0)),
            (Action::Upgrade, _) => self.upgrade(255),
            (Action::Freeze, _) => self.log(Event::Froze(M::freeze())),
            (Action::Enumerate, _) => {
                let all = M::enumerate();
                all.iter().skip(all.len() / 2).take(2).for_each(|object| self.keep(object.clone()));
            }
            (Action::Panic, _) => {
                self.panics.set(self.panics.get() + 1);
                // What the code holds goes first.
                drop((root, child));
                panic_any(Planned);
            }
            _ => {}
        }
    }

    fn upgrade(&self, draw: u8) {
        if let Some(weak) = pick(&self.weaks, draw) {
            let object = M::upgrade(&weak);
            self.log(Event::Upgraded(object.as_ref().and_then(M::id)));
            self.roots.borrow_mut().extend(object);
        }
    }

    fn step(&self, [code, a, b, c]: Op) {
        let act = action(c);
        match code % 32 {
            0..=4 => {
                let kind = [Kind::Leaf, Kind::Plain, Kind::Plain, Kind::Finalized][usize::from(a % 4)];
                let object = self.make(kind);
                self.keep(object);
            }
            5..=11 => {
                if let (Some(from), Some(to)) = (pick(&self.roots, a), pick(&self.roots, b)) {
                    M::link(&from, &to);
                }
            }
            12..=15 => drop(take(&self.roots, a)),
            16 => {
                if let Some(from) = pick(&self.roots, a) {
                    M::unlink(&from, usize::from(b % 4));
                }
            }
            17 => {
                if let Some(child) = pick(&self.roots, a).and_then(|from| M::child(&from, usize::from(b % 4))) {
                    self.keep(child);
                }
            }
            18 | 19 => {
                if let Some(target) = pick(&self.roots, a) {
                    self.hold_weak(self.weak_to(&target, (b % 3 > 0).then_some(act)));
                }
            }
            20 => {
                if let (Some(object), Some(target)) = (pick(&self.roots, a), pick(&self.roots, b)) {
                    M::hold_weak(&object, self.weak_to(&target, (c % 4 > 0).then_some(act)));
                }
            }
            21 => self.upgrade(a),
            22 if b % 3 == 0 => {
                // The same weak reference in two places.
                if let (Some(object), Some(weak)) = (pick(&self.roots, a), pick(&self.weaks, b)) {
                    M::hold_weak(&object, weak);
                }
            }
            22 => drop(take(&self.weaks, a)),
            23 => {
                if let Some(object) = pick(&self.roots, a) {
                    M::set_finalizer(&object, act);
                }
            }
            24 => {
                if let Some(object) = pick(&self.roots, a) {
                    M::set_drop(&object, act);
                }
            }
            25 | 26 => self.make_ring([a, b, c]),
            27 => {
                let generation = [Generation::Young, Generation::Middle, Generation::Old][usize::from(a % 3)];
                let outcome = M::collect(generation);
                self.log(Event::Collected(outcome));
            }
            28 if c % 4 == 0 => self.act(Action::Freeze, None, None),
            28 if c % 4 == 1 => self.log(Event::Froze(M::unfreeze())),
            29 => M::set_thresholds([u32::from(a % 16), u32::from(b % 3), u32::from(c % 3)], a % 8 != 7),
            30 if a % 16 == 0 => self.make_chain(usize::from(b % 40), act, a >= 192),
            31 => {
                if let Some(object) = pick(&self.roots, a) {
                    self.keep(object);
                }
            }
            _ => {}
        }
    }

    /// A ring, held nowhere else; with a weak reference inside, and perhaps a link to a root.
    fn make_ring(&self, [a, b, c]: [u8; 3]) {
        let act = action(c);
        let kind = if b % 2 == 0 { Kind::Finalized } else { Kind::Plain };
        let all: Vec<_> = (0..a % 5 + 1).map(|_| self.make(kind)).collect();
        for (i, object) in all.iter().enumerate() {
            M::link(object, &all[(i + 1) % all.len()]);
        }
        M::set_finalizer(&all[0], act);
        if b % 3 == 0 {
            M::set_drop(&all[all.len() - 1], act);
        }
        if b % 5 == 0 {
            let weak = self.weak_to(&all[0], (b % 4 > 0).then_some(act));
            if b % 7 == 0 {
                self.hold_weak(weak.clone());
            }
            M::hold_weak(&all[all.len() - 1], weak);
        }
        if let (0, Some(root)) = (c % 3, pick(&self.roots, a)) {
            M::link(&all[0], &root);
        }
    }

    /// Longer than what is freed at once.
    fn make_chain(&self, extra: usize, act: Action, freeze: bool) {
        let mut last = self.make(Kind::Plain);
        for i in 0..50 + extra {
            let next = self.make(if i % 7 == 3 { Kind::Finalized } else { Kind::Plain });
            M::link(&next, &last);
            if i % 20 == 5 {
                M::set_drop(&next, act);
                self.hold_weak(self.weak_to(&next, (i % 3 == 0).then_some(act)));
            }
            if i % 14 == 10 {
                M::set_finalizer(&next, act);
            }
            last = next;
        }
        if freeze {
            self.log(Event::Froze(M::freeze()));
        }
    }

    pub fn run(&self, program: &[Op], check: impl Fn()) {
        for (i, op) in program.iter().enumerate() {
            self.log(Event::Step(i));
            self.step(*op);
            check();
            self.log(Event::State(M::state()));
        }
        self.finish();
    }

    /// Let go of everything. Finalizers and drops may keep objects, each once; what is left then is a leak.
    fn finish(&self) {
        self.log(Event::Step(usize::MAX));
        M::set_thresholds([0; 3], false);
        for _ in 0..1000 {
            M::unfreeze();
            while let Some(root) = take(&self.roots, 0) {
                drop(root);
            }
            while let Some(weak) = take(&self.weaks, 0) {
                drop(weak);
            }
            M::unfreeze();
            let outcome = M::collect(Generation::Old);
            self.log(Event::Collected(outcome));
            if M::state().is_empty() && self.weaks.borrow().is_empty() {
                break;
            }
        }
        self.log(Event::State(M::state()));
    }
}

trait Pipe: Sized {
    fn pipe<R>(self, then: impl FnOnce(Self) -> R) -> R {
        then(self)
    }
}
impl<T> Pipe for T {}

/// How often what happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Coverage {
    pub collected: usize,
    pub resurrected: usize,
    pub called: usize,
    pub finalized: usize,
    pub upgraded: usize,
    pub dead_children: usize,
    pub panics: usize,
    pub by_generation: [usize; 3],
}

/// Run a program on both machines and compare the logs.
pub fn run(ops: &[Op]) -> Coverage {
    let (real, addresses) = real::run(ops);
    let twin = twin::run(ops, addresses);
    let (was, should) = (real.log.borrow(), twin.log.borrow());
    if let Some(i) = (0..was.len().max(should.len())).find(|i| was.get(*i) != should.get(*i)) {
        let step = was[..i].iter().rev().find(|event| matches!(event, Event::Step(_)));
        let before: Vec<_> =
            was[i.saturating_sub(30)..i].iter().filter(|event| !matches!(event, Event::State(_))).collect();
        panic!("{step:?}\n  was    {:?}\n  should {:?}\nafter {before:?}", was.get(i), should.get(i));
    }
    assert_eq!(real.panics, twin.panics);
    let mut seen = Coverage { panics: real.panics.get() as usize, ..Coverage::default() };
    for event in was.iter() {
        match event {
            Event::Finished(oldest, outcome) => {
                seen.collected += outcome.collected;
                seen.resurrected += outcome.resurrected;
                seen.by_generation[oldest.index()] += 1;
            }
            Event::Called(_) => seen.called += 1,
            Event::Finalized(_) => seen.finalized += 1,
            Event::Upgraded(Some(_)) => seen.upgraded += 1,
            Event::Child(None, _) => seen.dead_children += 1,
            _ => {}
        }
    }
    seen
}
