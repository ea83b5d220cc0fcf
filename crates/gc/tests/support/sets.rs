//! The naive store: objects in a map, and a collector that asks which objects can be reached, by following references from
//! everything that holds one. It never looks at a refcount. Written from the facts about CPython, not from the collector.

use std::collections::{BTreeMap, BTreeSet};

use heapkeeper_gc::{Generation, Outcome};

use super::world::{Event, Id, Store, World};

struct Node {
    refcount: usize,
    room: usize,
    edges: Vec<Id>,
    generation: Option<Generation>,
}

pub struct Sets {
    nodes: BTreeMap<Id, Node>,
    /// Where the other store put each object: the order of disposal follows it.
    addresses: Vec<usize>,
    collecting: bool,
    enabled: bool,
    thresholds: [u32; 3],
    counts: [u32; 3],
    long_lived_total: usize,
    long_lived_pending: usize,
}

impl Sets {
    pub fn new(addresses: Vec<usize>) -> Sets {
        Sets {
            nodes: BTreeMap::new(),
            addresses,
            collecting: false,
            enabled: true,
            thresholds: [700, 10, 10],
            counts: [0; 3],
            long_lived_total: 0,
            long_lived_pending: 0,
        }
    }

    fn promote(&mut self, id: Id, generation: Generation) {
        self.nodes.get_mut(&id).unwrap().generation = Some(generation);
    }

    fn in_address_order(&self, ids: &BTreeSet<Id>) -> Vec<Id> {
        let mut ordered: Vec<Id> = ids.iter().copied().collect();
        ordered.sort_by_key(|id| self.addresses[*id as usize]);
        ordered
    }

    /// Those of `among` that can be reached from `from`, by way of `among` alone.
    fn reached(&self, from: impl IntoIterator<Item = Id>, among: &BTreeSet<Id>) -> BTreeSet<Id> {
        let mut todo: Vec<Id> = from.into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = todo.pop() {
            if among.contains(&id) && reached.insert(id) {
                todo.extend(&self.nodes[&id].edges);
            }
        }
        reached
    }
}

impl World<Sets> {
    /// Every reference that something other than `among` holds.
    fn references_from_elsewhere(&self, among: &BTreeSet<Id>) -> Vec<Id> {
        let mut found: Vec<Id> =
            [&self.roots, &self.garbage, &self.held, &self.callbacks].into_iter().flatten().copied().collect();
        for (id, node) in &self.store.nodes {
            if !among.contains(id) {
                found.extend(&node.edges);
            }
        }
        found
    }

    fn unreachable(&self, candidates: &BTreeSet<Id>) -> BTreeSet<Id> {
        let reached = self.store.reached(self.references_from_elsewhere(candidates), candidates);
        candidates - &reached
    }

    fn alive(&self, ids: &BTreeSet<Id>) -> BTreeSet<Id> {
        ids.iter().filter(|id| self.objects.contains_key(id)).copied().collect()
    }

    fn collect_generation(&mut self, oldest: Generation) -> Outcome {
        for i in 0..=oldest.index() {
            self.store.counts[i] = 0;
        }
        if oldest != Generation::Old {
            self.store.counts[oldest.index() + 1] += 1;
        }
        let next = if oldest == Generation::Young { Generation::Middle } else { Generation::Old };
        let is_candidate = |node: &Node| node.generation.is_some_and(|generation| generation <= oldest);
        let candidates: BTreeSet<Id> =
            self.store.nodes.iter().filter(|(_, node)| is_candidate(node)).map(|(id, _)| *id).collect();
        let unreachable = self.unreachable(&candidates);
        let survivors = &candidates - &unreachable;
        survivors.iter().for_each(|id| self.store.promote(*id, next));
        match oldest {
            Generation::Middle => self.store.long_lived_pending += survivors.len(),
            Generation::Old => {
                self.store.long_lived_pending = 0;
                self.store.long_lived_total = survivors.len();
            }
            _ => {}
        }

        let must_stay: Vec<Id> = unreachable.iter().copied().filter(|id| self.objects[id].uncollectable).collect();
        let set_aside = self.store.reached(must_stay, &unreachable);
        let trash = &unreachable - &set_aside;

        let ordered = self.store.in_address_order(&trash);
        ordered.iter().for_each(|id| self.clear_weakrefs_to(*id, |weak| !trash.contains(&weak)));
        self.call_callbacks();
        for id in ordered {
            if self.objects.contains_key(&id) && self.has_finalizer(id) {
                self.incref(id);
                self.finalize(id);
                self.decref(id);
            }
        }

        let before = self.alive(&trash);
        let trash = self.unreachable(&before);
        let resurrected = &before - &trash;
        resurrected.iter().for_each(|id| self.store.promote(*id, next));
        let ordered = self.store.in_address_order(&trash);
        ordered.iter().for_each(|id| self.clear_weakrefs_to(*id, |_| false));
        for id in ordered {
            if self.objects.contains_key(&id) {
                self.incref(id);
                self.clear(id);
                self.decref(id);
                if self.objects.contains_key(&id) {
                    self.store.promote(id, next);
                }
            }
        }

        let set_aside = self.alive(&set_aside);
        for id in self.store.in_address_order(&set_aside) {
            self.store.promote(id, next);
            if self.objects[&id].uncollectable {
                self.uncollectable(id);
            }
        }
        Outcome { collected: trash.len(), uncollectable: set_aside.len(), resurrected: resurrected.len() }
    }

    fn move_all(&mut self, which: impl Fn(Generation) -> bool, to: Generation) -> bool {
        if self.store.collecting {
            return false;
        }
        for node in self.store.nodes.values_mut().filter(|node| node.generation.is_some_and(&which)) {
            node.generation = Some(to);
        }
        true
    }
}

impl Store for Sets {
    fn make(&mut self, id: Id, room: usize, tracked: bool) {
        let generation = tracked.then_some(Generation::Young);
        self.nodes.insert(id, Node { refcount: 1, room, edges: Vec::new(), generation });
        self.counts[0] += u32::from(tracked);
    }

    fn make_raw(&mut self, _: usize) {}

    fn free(&mut self, id: Id) {
        self.nodes.remove(&id).unwrap();
    }

    fn untrack(&mut self, id: Id) {
        if self.nodes.get_mut(&id).unwrap().generation.take().is_some() && self.counts[0] > 0 {
            self.counts[0] -= 1;
        }
    }

    fn refcount(&self, id: Id) -> usize {
        self.nodes[&id].refcount
    }

    fn set_refcount(&mut self, id: Id, refcount: usize) {
        self.nodes.get_mut(&id).unwrap().refcount = refcount;
    }

    fn edges(&self, id: Id) -> Vec<Id> {
        self.nodes[&id].edges.clone()
    }

    fn push_edge(&mut self, id: Id, child: Id) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let has_room = node.edges.len() < node.room;
        if has_room {
            node.edges.push(child);
        }
        has_room
    }

    fn remove_edge(&mut self, id: Id, place: usize) -> Id {
        self.nodes.get_mut(&id).unwrap().edges.remove(place)
    }

    fn generation(&self, id: Id) -> Option<Generation> {
        self.nodes[&id].generation
    }

    fn set_thresholds(&mut self, thresholds: [u32; 3], enabled: bool) {
        (self.thresholds, self.enabled) = (thresholds, enabled);
    }

    fn collect(world: &mut World<Self>, oldest: Generation) -> Outcome {
        if world.store.collecting {
            return Outcome::default();
        }
        world.store.collecting = true;
        world.log.push(Event::Started(oldest));
        let outcome = world.collect_generation(oldest);
        world.store.collecting = false;
        world.log.push(Event::Finished(oldest, outcome));
        outcome
    }

    fn collect_if_due(world: &mut World<Self>) -> Option<Outcome> {
        let store = &world.store;
        if store.collecting || !store.enabled || store.thresholds[0] == 0 || store.counts[0] <= store.thresholds[0] {
            return None;
        }
        let mut oldest = Generation::Young;
        if store.counts[1] > store.thresholds[1] {
            oldest = Generation::Middle;
        }
        if store.counts[2] > store.thresholds[2] && store.long_lived_pending >= store.long_lived_total / 4 {
            oldest = Generation::Old;
        }
        Some(Self::collect(world, oldest))
    }

    fn freeze(world: &mut World<Self>) -> bool {
        let done = world.move_all(|_| true, Generation::Permanent);
        if done {
            world.store.counts = [0; 3];
        }
        done
    }

    fn unfreeze(world: &mut World<Self>) -> bool {
        world.move_all(|generation| generation == Generation::Permanent, Generation::Old)
    }
}
