//! The naive machine: objects in a map, and a collector that asks which of them can be reached, by following references from
//! everything that holds one. A count is found by counting. Written from what the crate documents, not from its code.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use heapkeeper::{Generation, Outcome};

use super::{Action, Event, Id, Kind, Machine, ObjectState, Op, Planned, Program};

pub struct Twin;

struct Node {
    kind: Kind,
    edges: Vec<Id>,
    weaks: Vec<u32>,
    finalizer: Option<Action>,
    to_finalize: bool,
    on_drop: Option<Action>,
    generation: Option<Generation>,
    dead: bool,
}

/// A weak reference, or several that are the same.
struct Cell {
    target: Option<Id>,
    callback: Option<(u32, Action)>,
}

#[derive(Default)]
struct World {
    nodes: BTreeMap<Id, Node>,
    /// Handles that are not in an object.
    handles: BTreeMap<Id, usize>,
    cells: BTreeMap<u32, Cell>,
    weak_handles: BTreeMap<u32, usize>,
    next_cell: u32,
    addresses: Vec<usize>,
    collecting: bool,
    enabled: bool,
    thresholds: [u32; 3],
    counts: [u32; 3],
    long_lived: (usize, usize),
    /// Objects being freed inside each other, and those that wait because there are 50.
    depth: u32,
    pending: Vec<Id>,
}

thread_local! {
    static PROGRAM: RefCell<Option<Rc<Program<Twin>>>> = const { RefCell::new(None) };
    static WORLD: RefCell<World> = RefCell::default();
}

fn with<R>(work: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(work)
}

/// A handle that is not in an object.
pub struct Strong(Id);

impl Clone for Strong {
    fn clone(&self) -> Strong {
        hold(self.0)
    }
}

impl Drop for Strong {
    fn drop(&mut self) {
        let is_last = with(|world| {
            *world.handles.get_mut(&self.0).unwrap() -= 1;
            world.count(self.0) == 0
        });
        if is_last {
            free(self.0);
        }
    }
}

fn hold(id: Id) -> Strong {
    with(|world| *world.handles.entry(id).or_default() += 1);
    Strong(id)
}

/// A weak reference that is not in an object.
pub struct Weak(u32);

impl Clone for Weak {
    fn clone(&self) -> Weak {
        hold_cell(self.0)
    }
}

impl Drop for Weak {
    fn drop(&mut self) {
        with(|world| {
            *world.weak_handles.get_mut(&self.0).unwrap() -= 1;
            if world.weak_count(self.0) == 0 {
                world.cells.remove(&self.0);
            }
        });
    }
}

fn hold_cell(cell: u32) -> Weak {
    with(|world| *world.weak_handles.entry(cell).or_default() += 1);
    Weak(cell)
}

impl World {
    fn count(&self, id: Id) -> usize {
        let inside = self.nodes.values().flat_map(|node| &node.edges).filter(|edge| **edge == id).count();
        inside + self.handles.get(&id).copied().unwrap_or(0)
    }

    fn weak_count(&self, cell: u32) -> usize {
        let inside = self.nodes.values().flat_map(|node| &node.weaks).filter(|held| **held == cell).count();
        inside + self.weak_handles.get(&cell).copied().unwrap_or(0)
    }

    fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// The object, unless it is dead or a leaf.
    fn body(&mut self, id: Id) -> Option<&mut Node> {
        let node = self.node(id);
        (!node.dead && node.kind != Kind::Leaf).then_some(node)
    }

    fn track(&mut self, id: Id) {
        self.node(id).generation = Some(Generation::Young);
        self.counts[0] += 1;
    }

    fn untrack(&mut self, id: Id) {
        if self.node(id).generation.take().is_some() {
            self.counts[0] = self.counts[0].saturating_sub(1);
        }
    }

    /// Clear the weak references to an object. Those with a callback, newest first.
    fn clear_weak(&mut self, id: Id) -> Vec<u32> {
        let mut cleared = Vec::new();
        for (name, cell) in self.cells.iter_mut().rev() {
            if cell.target == Some(id) {
                cell.target = None;
                if cell.callback.is_some() {
                    cleared.push(*name);
                }
            }
        }
        cleared
    }

    fn in_address_order(&self, ids: &BTreeSet<Id>) -> Vec<Id> {
        let mut ordered: Vec<Id> = ids.iter().copied().collect();
        ordered.sort_by_key(|id| self.addresses.get(*id as usize).copied());
        ordered
    }

    /// Candidates that nothing else leads to.
    fn unreachable(&self, candidates: &BTreeSet<Id>) -> BTreeSet<Id> {
        let mut todo: Vec<Id> = self.handles.iter().filter(|(_, handles)| **handles > 0).map(|(id, _)| *id).collect();
        for (id, node) in &self.nodes {
            if !candidates.contains(id) {
                todo.extend(&node.edges);
            }
        }
        let mut left = candidates.clone();
        while let Some(id) = todo.pop() {
            if left.remove(&id) {
                todo.extend(&self.nodes[&id].edges);
            }
        }
        left
    }
}

/// Nothing holds the object any more.
fn free(id: Id) {
    let waits = with(|world| {
        let waits = world.depth >= 50;
        if waits {
            world.untrack(id);
            world.pending.push(id);
        } else {
            world.depth += 1;
        }
        waits
    });
    if waits {
        return;
    }
    free_now(id);
    with(|world| world.depth -= 1);
    free_pending();
}

fn free_pending() {
    while let Some(id) = with(|world| if world.depth == 0 { world.pending.pop() } else { None }) {
        with(|world| world.depth = 1);
        free(id);
        with(|world| world.depth = 0);
    }
}

fn free_now(id: Id) {
    if !with(|world| world.node(id).dead) {
        if with(|world| world.node(id).to_finalize) {
            with(|world| {
                if world.node(id).generation.is_none() {
                    world.track(id);
                }
            });
            finalize(id);
            if with(|world| world.count(id)) > 0 {
                return;
            }
        }
        let called: Vec<Weak> = with(|world| {
            world.untrack(id);
            world.clear_weak(id)
        })
        .into_iter()
        .map(hold_cell)
        .collect();
        called.into_iter().for_each(call);
        drop_value(id);
    }
    with(|world| world.nodes.remove(&id));
}

/// Run the finalizer with a handle that is not one of the program's.
fn finalize(id: Id) {
    let program = Twin::program();
    program.log(Event::Finalized(id));
    let action = with(|world| {
        let node = world.node(id);
        node.to_finalize = false;
        *world.handles.entry(id).or_default() += 1;
        world.node(id).finalizer
    });
    if let Some(action) = action {
        act(&program, action, || {
            let this = hold(id);
            let child = Twin::child(&this, 0);
            (Some(this), child)
        });
    }
    with(|world| *world.handles.get_mut(&id).unwrap() -= 1);
}

fn act(program: &Program<Twin>, action: Action, context: impl FnOnce() -> (Option<Strong>, Option<Strong>)) {
    let run = || {
        let (this, child) = context();
        program.act(action, this.as_ref(), child);
    };
    if let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        assert!(payload.is::<Planned>());
    }
}

fn call(weak: Weak) {
    if let Some((name, action)) = with(|world| world.cells.get_mut(&weak.0).unwrap().callback.take()) {
        let program = Twin::program();
        program.log(Event::Called(name));
        act(&program, action, || (None, None));
    }
}

/// What the value holds goes with it, in the order of its fields.
fn drop_value(id: Id) {
    let (edges, weaks, action) = with(|world| {
        let node = world.node(id);
        (std::mem::take(&mut node.edges), std::mem::take(&mut node.weaks), node.on_drop)
    });
    // Held before the first goes.
    let edges: Vec<Strong> = edges.into_iter().map(hold).collect();
    let weaks: Vec<Weak> = weaks.into_iter().map(hold_cell).collect();
    let program = Twin::program();
    program.log(Event::Dropped(id));
    if let Some(action) = action {
        act(&program, action, || (None, edges.first().cloned()));
    }
    edges.into_iter().for_each(drop);
    weaks.into_iter().for_each(drop);
}

fn collect_if_due() {
    let due = with(|world| {
        if world.collecting || !world.enabled || world.thresholds[0] == 0 || world.counts[0] <= world.thresholds[0] {
            return None;
        }
        let over = |i: usize| world.counts[i] > world.thresholds[i];
        Some(if over(2) && world.long_lived.1 >= world.long_lived.0 / 4 {
            Generation::Old
        } else if over(1) {
            Generation::Middle
        } else {
            Generation::Young
        })
    });
    if let Some(oldest) = due {
        Twin::collect(oldest);
    }
}

fn collect(oldest: Generation) -> Outcome {
    let next = if oldest == Generation::Young { Generation::Middle } else { Generation::Old };
    let trash = with(|world| {
        world.counts[..=oldest.index()].fill(0);
        if oldest != Generation::Old {
            world.counts[oldest.index() + 1] += 1;
        }
        let is_candidate = |node: &Node| node.generation.is_some_and(|generation| generation <= oldest);
        let candidates: BTreeSet<Id> =
            world.nodes.iter().filter(|(_, node)| is_candidate(node)).map(|(id, _)| *id).collect();
        let trash = world.unreachable(&candidates);
        let survivors = candidates.len() - trash.len();
        for id in candidates.difference(&trash) {
            world.node(*id).generation = Some(next);
        }
        match oldest {
            Generation::Middle => world.long_lived.1 += survivors,
            Generation::Old => world.long_lived = (survivors, 0),
            _ => {}
        }
        trash
    });

    // Callbacks, unless all of a weak reference lies in the trash itself.
    let called: Vec<Weak> = with(|world| {
        let ordered = world.in_address_order(&trash);
        let cleared: Vec<u32> = ordered.iter().flat_map(|id| world.clear_weak(*id)).collect();
        let inside =
            |cell: u32| trash.iter().flat_map(|id| &world.nodes[id].weaks).filter(|held| **held == cell).count();
        cleared.into_iter().filter(|cell| world.weak_count(*cell) > inside(*cell)).collect::<Vec<_>>()
    })
    .into_iter()
    .map(hold_cell)
    .collect();
    called.into_iter().for_each(call);

    for id in with(|world| world.in_address_order(&trash)) {
        if with(|world| is_still_trash(world, id, &trash) && world.node(id).to_finalize) {
            let held = hold(id);
            finalize(id);
            drop(held);
        }
    }

    let (trash, resurrected) = with(|world| {
        let before: BTreeSet<Id> = trash.iter().copied().filter(|id| is_still_trash(world, *id, &trash)).collect();
        let trash = world.unreachable(&before);
        for id in before.difference(&trash) {
            world.node(*id).generation = Some(next);
        }
        trash.iter().for_each(|id| drop(world.clear_weak(*id)));
        let resurrected = before.len() - trash.len();
        (trash, resurrected)
    });

    for id in with(|world| world.in_address_order(&trash)) {
        if with(|world| is_still_trash(world, id, &trash)) {
            let held = hold(id);
            with(|world| {
                world.clear_weak(id);
                world.untrack(id);
                world.node(id).dead = true;
                world.depth += 1;
            });
            drop_value(id);
            with(|world| world.depth -= 1);
            free_pending();
            drop(held);
        }
    }
    Outcome { collected: trash.len(), uncollectable: 0, resurrected }
}

/// Whether an object of the trash was not freed, or begun to be freed, meanwhile.
fn is_still_trash(world: &World, id: Id, _: &BTreeSet<Id>) -> bool {
    world.nodes.get(&id).is_some_and(|node| node.generation.is_some())
}

impl Machine for Twin {
    type Strong = Strong;
    type Weak = Weak;

    fn program() -> Rc<Program<Twin>> {
        PROGRAM.with_borrow(|program| program.clone().unwrap())
    }

    fn make(kind: Kind, id: Id) -> Strong {
        with(|world| {
            let to_finalize = kind == Kind::Finalized;
            let node = Node {
                kind,
                edges: Vec::new(),
                weaks: Vec::new(),
                finalizer: None,
                to_finalize,
                on_drop: None,
                generation: None,
                dead: false,
            };
            world.nodes.insert(id, node);
        });
        let made = hold(id);
        if kind != Kind::Leaf {
            with(|world| world.track(id));
            collect_if_due();
        }
        made
    }

    fn id(object: &Strong) -> Option<Id> {
        with(|world| (!world.node(object.0).dead).then_some(object.0))
    }

    fn link(from: &Strong, to: &Strong) {
        with(|world| {
            if let Some(body) = world.body(from.0) {
                body.edges.push(to.0);
            }
        });
    }

    fn unlink(from: &Strong, place: usize) {
        let edge = with(|world| {
            let body = world.body(from.0)?;
            let edge = (place < body.edges.len()).then(|| body.edges.remove(place))?;
            *world.handles.entry(edge).or_default() += 1;
            Some(Strong(edge))
        });
        drop(edge);
    }

    fn child(of: &Strong, place: usize) -> Option<Strong> {
        with(|world| world.body(of.0)?.edges.get(place).copied()).map(hold)
    }

    fn hold_weak(object: &Strong, weak: Weak) {
        with(|world| {
            if let Some(body) = world.body(object.0) {
                body.weaks.push(weak.0);
            }
        });
    }

    fn set_finalizer(object: &Strong, action: Action) {
        with(|world| {
            let node = world.node(object.0);
            if !node.dead {
                node.finalizer = Some(action);
            }
        });
    }

    fn set_drop(object: &Strong, action: Action) {
        with(|world| {
            let node = world.node(object.0);
            if !node.dead {
                node.on_drop = Some(action);
            }
        });
    }

    fn downgrade(object: &Strong) -> Weak {
        let cell = with(|world| {
            let same = |cell: &Cell| cell.target == Some(object.0) && cell.callback.is_none();
            world.cells.iter().find(|(_, cell)| same(cell)).map(|(name, _)| *name).unwrap_or_else(|| {
                let target = (!world.nodes[&object.0].dead).then_some(object.0);
                world.new_cell(Cell { target, callback: None })
            })
        });
        hold_cell(cell)
    }

    fn downgrade_with(object: &Strong, name: u32, action: Action) -> Weak {
        hold_cell(with(|world| {
            let target = (!world.nodes[&object.0].dead).then_some(object.0);
            world.new_cell(Cell { target, callback: Some((name, action)) })
        }))
    }

    fn upgrade(weak: &Weak) -> Option<Strong> {
        let target = with(|world| world.cells[&weak.0].target.filter(|id| world.count(*id) > 0));
        target.map(hold)
    }

    fn collect(oldest: Generation) -> Outcome {
        if with(|world| std::mem::replace(&mut world.collecting, true)) {
            return Outcome::default();
        }
        let depth = with(|world| std::mem::take(&mut world.depth));
        let program = Twin::program();
        program.log(Event::Started(oldest));
        let outcome = collect(oldest);
        with(|world| {
            world.collecting = false;
            world.depth = depth;
        });
        program.log(Event::Finished(oldest, outcome));
        outcome
    }

    fn freeze() -> bool {
        with(|world| {
            let done = !world.collecting;
            if done {
                world.counts = [0; 3];
                for node in world.nodes.values_mut().filter(|node| node.generation.is_some()) {
                    node.generation = Some(Generation::Permanent);
                }
            }
            done
        })
    }

    fn unfreeze() -> bool {
        with(|world| {
            let done = !world.collecting;
            if done {
                for node in world.nodes.values_mut().filter(|node| node.generation == Some(Generation::Permanent)) {
                    node.generation = Some(Generation::Old);
                }
            }
            done
        })
    }

    fn set_thresholds(thresholds: [u32; 3], enabled: bool) {
        with(|world| (world.thresholds, world.enabled) = (thresholds, enabled));
    }

    fn enumerate() -> Vec<Strong> {
        let tracked: Vec<Id> = with(|world| {
            let is_tracked = |(id, node): &(&Id, &Node)| node.generation.is_some() && world.count(**id) > 0;
            world.nodes.iter().filter(is_tracked).map(|(id, _)| *id).collect()
        });
        tracked.into_iter().map(hold).collect()
    }

    fn state() -> Vec<ObjectState> {
        with(|world| {
            let alive = |id: &Id| !world.nodes[id].dead;
            let mut states: Vec<ObjectState> = world
                .nodes
                .iter()
                .map(|(id, node)| ObjectState {
                    id: if node.dead { Id::MAX } else { *id },
                    dead: node.dead,
                    generation: node.generation,
                    refcount: world.count(*id),
                    edges: node.edges.iter().copied().filter(alive).collect(),
                    weak: {
                        let to_it = world.cells.iter().filter(|(_, cell)| cell.target == Some(*id));
                        to_it.map(|(name, _)| world.weak_count(*name)).sum()
                    },
                })
                .collect();
            states.sort_by_key(|state| (state.id, state.refcount));
            states
        })
    }
}

impl World {
    fn new_cell(&mut self, cell: Cell) -> u32 {
        self.next_cell += 1;
        self.cells.insert(self.next_cell, cell);
        self.next_cell
    }
}

pub fn run(ops: &[Op], addresses: Vec<usize>) -> Rc<Program<Twin>> {
    let program = Rc::new(Program::new());
    let enabled = true;
    std::mem::forget(PROGRAM.take());
    WORLD.set(World { addresses, enabled, thresholds: [700, 10, 10], ..World::default() });
    PROGRAM.set(Some(program.clone()));
    program.run(ops, || ());
    assert!(with(|world| world.nodes.is_empty() && world.pending.is_empty()));
    PROGRAM.take();
    program
}
