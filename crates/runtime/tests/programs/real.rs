//! The crate as a machine.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use heapkeeper::{AnyGc, Finalize, Gc, Generation, Heap, Mistake, Outcome, Phase, Trace, Weak};

use super::{Action, Event, Id, Kind, Machine, ObjectState, Op, Program};

pub struct Real;

thread_local! {
    static PROGRAM: RefCell<Option<Rc<Program<Real>>>> = const { RefCell::new(None) };
    static HEAP: RefCell<Option<Heap>> = const { RefCell::new(None) };
    /// Where each object ever made was.
    static ADDRESSES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn heap() -> Heap {
    HEAP.with_borrow(|heap| heap.clone().unwrap())
}

/// A handle of any kind: also an enum for the derive.
#[derive(Clone, Trace)]
pub enum Handle {
    Leaf(Gc<Leaf>),
    Plain(Gc<Plain>),
    Finalized(Gc<Finalized>),
}

#[derive(Trace)]
pub struct Leaf {
    id: Id,
    on_drop: Cell<Option<Action>>,
}

#[derive(Trace)]
pub struct Plain(Body);

#[derive(Trace)]
#[trace(finalize)]
pub struct Finalized {
    action: Cell<Option<Action>>,
    body: Body,
}

#[derive(Trace)]
struct Body {
    id: Id,
    on_drop: Cell<Option<Action>>,
    edges: RefCell<Vec<Handle>>,
    weaks: RefCell<Vec<AnyWeak>>,
}

#[derive(Clone, Trace)]
pub enum AnyWeak {
    Leaf(Weak<Leaf>),
    Plain(Weak<Plain>),
    Finalized(Weak<Finalized>),
}

impl Finalize for Finalized {
    fn finalize(this: &Gc<Finalized>) {
        let program = Real::program();
        program.log(Event::Finalized(this.body.id));
        if let Some(action) = this.action.get() {
            let object = Handle::Finalized(this.clone());
            program.act(action, Some(&object), Real::child(&object, 0));
        }
    }
}

fn dropped(id: Id, action: Option<Action>, child: impl FnOnce() -> Option<Handle>) {
    let program = Real::program();
    program.log(Event::Dropped(id));
    if let Some(action) = action {
        program.act(action, None, child());
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        dropped(self.id, self.on_drop.get(), || None);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        dropped(self.id, self.on_drop.get(), || self.edges.borrow().first().cloned());
    }
}

impl Handle {
    /// `None` for leaves and dead objects.
    fn body(&self) -> Option<&Body> {
        match self {
            Handle::Leaf(_) => None,
            Handle::Plain(object) => Gc::try_get(object).map(|plain| &plain.0),
            Handle::Finalized(object) => Gc::try_get(object).map(|finalized| &finalized.body),
        }
    }

    fn of(object: &AnyGc) -> Option<Handle> {
        let leaf = object.downcast().map(Handle::Leaf);
        leaf.or_else(|| object.downcast().map(Handle::Plain)).or_else(|| object.downcast().map(Handle::Finalized))
    }

    fn state(&self) -> ObjectState {
        fn of<T>(object: &Gc<T>) -> (usize, Option<Generation>, usize, bool) {
            let weak = heap().where_is(object).unwrap().weak_references;
            (Gc::refcount(object), Gc::generation(object), weak, Gc::is_dead(object))
        }
        let (refcount, generation, weak, dead) = match self {
            Handle::Leaf(object) => of(object),
            Handle::Plain(object) => of(object),
            Handle::Finalized(object) => of(object),
        };
        let edges = self.body().map(|body| body.edges.borrow().iter().filter_map(Real::id).collect());
        ObjectState {
            id: Real::id(self).unwrap_or(Id::MAX),
            dead,
            generation,
            refcount,
            edges: edges.unwrap_or_default(),
            weak,
        }
    }
}

impl Machine for Real {
    type Strong = Handle;
    type Weak = AnyWeak;

    fn program() -> Rc<Program<Real>> {
        PROGRAM.with_borrow(|program| program.clone().unwrap())
    }

    fn make(kind: Kind, id: Id) -> Handle {
        let body = || Body { id, on_drop: Cell::new(None), edges: RefCell::default(), weaks: RefCell::default() };
        // The address is known only when a collection has run, perhaps, that made further objects.
        ADDRESSES.with_borrow_mut(|addresses| {
            assert_eq!(addresses.len(), id as usize);
            addresses.push(0);
        });
        let heap = heap();
        let note = |address| ADDRESSES.with_borrow_mut(|addresses| addresses[id as usize] = address);
        match kind {
            Kind::Leaf => {
                let object = heap.alloc(Leaf { id, on_drop: Cell::new(None) });
                note(heap.where_is(&object).unwrap().address);
                Handle::Leaf(object)
            }
            Kind::Plain => {
                let object = heap.alloc(Plain(body()));
                note(heap.where_is(&object).unwrap().address);
                Handle::Plain(object)
            }
            Kind::Finalized => {
                let object = heap.alloc(Finalized { action: Cell::new(None), body: body() });
                note(heap.where_is(&object).unwrap().address);
                Handle::Finalized(object)
            }
        }
    }

    fn id(object: &Handle) -> Option<Id> {
        match object {
            Handle::Leaf(object) => Gc::try_get(object).map(|leaf| leaf.id),
            _ => object.body().map(|body| body.id),
        }
    }

    fn link(from: &Handle, to: &Handle) {
        if let Some(body) = from.body() {
            body.edges.borrow_mut().push(to.clone());
        }
    }

    fn unlink(from: &Handle, place: usize) {
        let edge = from.body().and_then(|body| {
            let mut edges = body.edges.borrow_mut();
            (place < edges.len()).then(|| edges.remove(place))
        });
        drop(edge);
    }

    fn child(of: &Handle, place: usize) -> Option<Handle> {
        of.body()?.edges.borrow().get(place).cloned()
    }

    fn hold_weak(object: &Handle, weak: AnyWeak) {
        if let Some(body) = object.body() {
            body.weaks.borrow_mut().push(weak);
        }
    }

    fn set_finalizer(object: &Handle, action: Action) {
        if let Handle::Finalized(object) = object
            && let Some(finalized) = Gc::try_get(object)
        {
            finalized.action.set(Some(action));
        }
    }

    fn set_drop(object: &Handle, action: Action) {
        match object {
            Handle::Leaf(leaf) => leaf.on_drop.set(Some(action)),
            _ => _ = object.body().map(|body| body.on_drop.set(Some(action))),
        }
    }

    fn downgrade(object: &Handle) -> AnyWeak {
        match object {
            Handle::Leaf(object) => AnyWeak::Leaf(Gc::downgrade(object)),
            Handle::Plain(object) => AnyWeak::Plain(Gc::downgrade(object)),
            Handle::Finalized(object) => AnyWeak::Finalized(Gc::downgrade(object)),
        }
    }

    fn downgrade_with(object: &Handle, name: u32, action: Action) -> AnyWeak {
        fn call<T>(name: u32, action: Action) -> impl FnOnce(&Weak<T>) {
            move |weak| {
                assert!(weak.upgrade().is_none());
                let program = Real::program();
                program.log(Event::Called(name));
                program.act(action, None, None);
            }
        }
        match object {
            Handle::Leaf(object) => AnyWeak::Leaf(Gc::downgrade_with(object, call(name, action))),
            Handle::Plain(object) => AnyWeak::Plain(Gc::downgrade_with(object, call(name, action))),
            Handle::Finalized(object) => AnyWeak::Finalized(Gc::downgrade_with(object, call(name, action))),
        }
    }

    fn upgrade(weak: &AnyWeak) -> Option<Handle> {
        match weak {
            AnyWeak::Leaf(weak) => weak.upgrade().map(Handle::Leaf),
            AnyWeak::Plain(weak) => weak.upgrade().map(Handle::Plain),
            AnyWeak::Finalized(weak) => weak.upgrade().map(Handle::Finalized),
        }
    }

    fn collect(oldest: Generation) -> Outcome {
        heap().collect(oldest)
    }

    fn freeze() -> bool {
        heap().freeze()
    }

    fn unfreeze() -> bool {
        heap().unfreeze()
    }

    fn set_thresholds(thresholds: [u32; 3], enabled: bool) {
        heap().set_thresholds(thresholds);
        if enabled { heap().enable() } else { heap().disable() }
    }

    fn enumerate() -> Vec<Handle> {
        let mut all: Vec<Handle> = heap().objects(None).iter().filter_map(Handle::of).collect();
        all.sort_by_key(Real::id);
        all
    }

    fn state() -> Vec<ObjectState> {
        let mut found: Vec<Handle> = Real::enumerate();
        // What is not tracked is found from what is, and from the roots.
        let roots = Real::program().roots.borrow().clone();
        let edges: Vec<Handle> =
            found.iter().flat_map(|object| object.body().unwrap().edges.borrow().clone()).collect();
        let rest = roots.into_iter().chain(edges);
        let untracked: Vec<Handle> = rest.filter(|object| object.state().generation.is_none()).collect();
        let known = found.len();
        for object in untracked {
            let is_same = |other: &Handle| match (other, &object) {
                (Handle::Leaf(a), Handle::Leaf(b)) => Gc::ptr_eq(a, b),
                (Handle::Plain(a), Handle::Plain(b)) => Gc::ptr_eq(a, b),
                (Handle::Finalized(a), Handle::Finalized(b)) => Gc::ptr_eq(a, b),
                _ => false,
            };
            if !found[known..].iter().any(is_same) {
                found.push(object);
            }
        }
        // Each is held once more, here.
        let mut states: Vec<ObjectState> = found.iter().map(Handle::state).collect();
        states.iter_mut().for_each(|state| state.refcount -= 1);
        states.sort_by_key(|state| (state.id, state.refcount));
        states
    }
}

/// Run a program; the heap must be empty at its end. Returns where each object was.
pub fn run(ops: &[Op]) -> (Rc<Program<Real>>, Vec<usize>) {
    let program = Rc::new(Program::new());
    let heap = Heap::builder().growth_percent(None).panic_hook(|payload| assert!(payload.is::<super::Planned>()));
    let heap = heap.build().unwrap();
    let log = Rc::downgrade(&program);
    heap.on_collection(move |info| {
        log.upgrade().unwrap().log(match info.phase {
            Phase::Start => Event::Started(info.generation),
            Phase::Stop => Event::Finished(info.generation, info.outcome),
        });
    });
    // What a failed run left is not this one's.
    std::mem::forget((PROGRAM.take(), HEAP.take()));
    PROGRAM.set(Some(program.clone()));
    HEAP.set(Some(heap.clone()));
    ADDRESSES.take();
    program.run(ops, || {
        if program.log.borrow().len() % 4 == 0 {
            heap.check().unwrap();
            // Padding may look like a handle, or a weak reference.
            let mistakes = heap.verify();
            let looks_missed =
                |mistake: &Mistake| matches!(mistake, Mistake::Missed { .. } | Mistake::MissedWeak { .. });
            assert!(mistakes.iter().all(looks_missed), "{mistakes:?}");
        }
    });
    heap.check().unwrap();
    let stats = heap.stats();
    assert_eq!((stats.objects, stats.panics), (0, program.panics.get()), "leaked {:?}", heap.objects(None));
    HEAP.take();
    PROGRAM.take();
    (program, ADDRESSES.take())
}
