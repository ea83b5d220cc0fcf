//! Generated programs, and running them on both stores.

use super::blocks::Blocks;
use super::sets::Sets;
use super::world::{Action, Event, Store, World};
use heapkeeper_gc::Generation;

/// One instruction: four bytes that mean something in any combination.
pub type Op = [u8; 4];

const COLLECTED: [Generation; 3] = [Generation::Young, Generation::Middle, Generation::Old];

fn pick<T: Copy>(from: &[T], draw: u8) -> Option<T> {
    if from.is_empty() { None } else { Some(from[usize::from(draw) * from.len() / 256]) }
}

impl<S: Store> World<S> {
    pub fn step(&mut self, [code, a, b, c]: Op) {
        let action = Action::ALL[usize::from(c) % Action::ALL.len()];
        match code % 32 {
            0..=3 => {
                self.make_root(usize::from(a % 12), true);
            }
            4..=10 => {
                if let (Some(from), Some(to)) = (pick(&self.roots, a), pick(&self.roots, b)) {
                    self.link(from, to);
                }
            }
            11..=14 => {
                if let Some(place) = (!self.roots.is_empty()).then(|| usize::from(a) * self.roots.len() / 256) {
                    self.drop_root(place);
                }
            }
            15 => {
                if let Some(from) = pick(&self.roots, a)
                    && let length @ 1.. = self.store.edges(from).len()
                {
                    self.unlink(from, usize::from(b) % length);
                }
            }
            16 => {
                if let Some(child) = pick(&self.roots, a).and_then(|from| pick(&self.store.edges(from), b)) {
                    self.add_root(child);
                }
            }
            17..=19 => {
                if let Some(target) = pick(&self.roots, a) {
                    let callback = (b % 4 > 0).then_some(action);
                    let weak = self.make_weak(target, callback);
                    self.roots.push(weak);
                }
            }
            20..=22 => {
                if let Some(object) = pick(&self.roots, a) {
                    self.objects.get_mut(&object).unwrap().finalizer = Some(action);
                }
            }
            23 if c % 4 == 0 => {
                if let Some(object) = pick(&self.roots, a) {
                    self.objects.get_mut(&object).unwrap().uncollectable = true;
                }
            }
            // A ring, held nowhere else; with a tail that hangs from it.
            24..=26 => {
                let first = self.make(4, true);
                self.held.push(first);
                let mut last = first;
                for _ in 0..a % 5 {
                    let object = self.make(4, true);
                    self.link(last, object);
                    // The reference from `last` remains.
                    self.decref(object);
                    last = object;
                }
                self.link(last, first);
                self.objects.get_mut(&last).unwrap().finalizer = (b % 2 == 0).then_some(action);
                self.objects.get_mut(&first).unwrap().uncollectable = b % 16 == 5;
                if c % 3 == 0 {
                    let weak = self.make_weak(last, (c % 2 == 0).then_some(action));
                    self.link(first, weak);
                    self.decref(weak);
                }
                if let (0, Some(root)) = (b % 3, self.roots.first().copied()) {
                    self.link(first, root);
                }
                self.held.pop();
                self.decref(first);
            }
            27 => {
                let outcome = S::collect(self, COLLECTED[usize::from(a) % 3]);
                self.log.push(Event::Collected(Some(outcome)));
            }
            28 if c % 4 == 0 => self.act(Action::Freeze, None),
            28 if c % 4 == 1 => {
                let done = S::unfreeze(self);
                self.log.push(Event::Froze(done));
            }
            29 => self.store.make_raw(usize::from(a) + 1),
            30 => {
                self.make_root(usize::from(a % 2), false);
            }
            31 => {
                let thresholds = [u32::from(a % 16), u32::from(b % 3), u32::from(c % 3)];
                self.store.set_thresholds(thresholds, a % 8 != 7);
            }
            _ => {}
        }
    }

    /// Let go of everything; what is left then is a leak.
    pub fn finish(&mut self) {
        self.log.push(Event::Step(usize::MAX));
        S::unfreeze(self);
        // Finalizers may resurrect, each once.
        for _ in 0..1000 {
            self.objects.values_mut().for_each(|traits| traits.uncollectable = false);
            while !self.roots.is_empty() {
                self.drop_root(0);
            }
            while let Some(id) = self.garbage.pop() {
                self.decref(id);
            }
            // Cycles through untracked objects are no collector's.
            while let Some(id) = self
                .objects
                .keys()
                .copied()
                .find(|id| self.store.generation(*id).is_none() && !self.store.edges(*id).is_empty())
            {
                self.incref(id);
                self.held.push(id);
                self.clear(id);
                self.held.pop();
                self.decref(id);
            }
            S::unfreeze(self);
            S::collect(self, Generation::Old);
            if self.objects.is_empty() {
                break;
            }
        }
        self.log.push(Event::State(self.state()));
    }

    fn run(&mut self, program: &[Op], check: impl Fn(&Self)) {
        for (i, op) in program.iter().enumerate() {
            self.log.push(Event::Step(i));
            self.step(*op);
            assert!(self.held.is_empty() && self.callbacks.is_empty());
            check(self);
            self.log.push(Event::State(self.state()));
        }
        self.finish();
    }
}

/// What programs did, for telling whether they reach everything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Coverage {
    pub collected: usize,
    pub uncollectable: usize,
    pub resurrected: usize,
    pub called: usize,
    pub finalized: usize,
    pub by_generation: [usize; 3],
}

/// Run a program on both stores and compare all that could be observed. Objects have room for `least_room` references at
/// least.
pub fn run(program: &[Op], least_room: usize) -> Coverage {
    let mut world = World::new(Blocks::new());
    world.store.least_room = least_room;
    world.run(program, |world| {
        if world.log.len() % 8 == 0 {
            assert!(world.store.collector.is_valid(&world.store.heap), "a counter was left");
            world.store.heap.check().unwrap();
        }
    });
    let mut twin = World::new(Sets::new(world.store.addresses.clone()));
    twin.run(program, |_| {});
    if let Some(i) = (0..world.log.len().max(twin.log.len())).find(|i| world.log.get(*i) != twin.log.get(*i)) {
        let step = world.log[..i].iter().rev().find_map(|event| match event {
            Event::Step(step) => Some(*step),
            _ => None,
        });
        panic!(
            "step {step:?}\n  was    {:?}\n  should {:?}\nafter {:#?}",
            world.log.get(i),
            twin.log.get(i),
            world.log[i.saturating_sub(12)..i].iter().filter(|e| !matches!(e, Event::State(_))).collect::<Vec<_>>()
        );
    }
    assert!(world.objects.is_empty(), "leaked: {:?}", world.state());
    world.store.free_raw();
    assert_eq!(world.store.heap.live_blocks(), 0, "blocks that nobody names");
    assert!(world.store.collector.is_valid(&world.store.heap));
    coverage(&world.log)
}

fn coverage(log: &[Event]) -> Coverage {
    let mut seen = Coverage::default();
    for event in log {
        match event {
            Event::Finished(oldest, outcome) => {
                seen.collected += outcome.collected;
                seen.uncollectable += outcome.uncollectable;
                seen.resurrected += outcome.resurrected;
                seen.by_generation[oldest.index()] += 1;
            }
            Event::Called(_) => seen.called += 1,
            Event::Finalized(_) => seen.finalized += 1,
            _ => {}
        }
    }
    seen
}
