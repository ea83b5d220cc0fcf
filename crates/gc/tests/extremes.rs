//! What generated programs are too small for: large refcounts, wide objects that overflow the mark stack, growth.

mod support;

use heapkeeper_gc::{Collector, Generation};
use support::blocks::Blocks;
use support::world::{Id, Store, World};

const REFERRERS: usize = 70_000;

/// A hub that 70,000 objects refer to, and that refers to each of them; held by one root.
fn hub(world: &mut World<Blocks>) -> Id {
    let hub = world.make_root(REFERRERS, true);
    for _ in 0..REFERRERS {
        let referrer = world.make(1, true);
        world.link(referrer, hub);
        world.link(hub, referrer);
        world.decref(referrer);
    }
    hub
}

fn quiet_world() -> World<Blocks> {
    let mut world = World::new(Blocks::new());
    world.store.set_thresholds([0; 3], false);
    world
}

/// A root at a higher address.
fn make_root_behind(world: &mut World<Blocks>, room: usize, address: usize) -> Id {
    loop {
        let made = world.make_root(room, true);
        if world.store.addresses[made as usize] > address {
            return made;
        }
        world.drop_root(world.roots.len() - 1);
        world.store.make_raw(room * 8);
    }
}

fn assert_all_freed(mut world: World<Blocks>) {
    world.store.free_raw();
    assert_eq!(world.store.heap.live_blocks(), 0);
    assert!(world.objects.is_empty() && world.store.collector.is_valid(&world.store.heap));
}

fn large_refcounts_are_exact(oldest: Generation) {
    let mut world = quiet_world();
    let hub = hub(&mut world);
    let external = Collector::collect(&mut world, oldest);
    assert_eq!((external.collected, world.objects.len()), (0, REFERRERS + 1));
    // Exactly 2^16 references from elsewhere: nothing modulo 2^16.
    for _ in 1..1 << 16 {
        world.add_root(hub);
    }
    let oldest = oldest.next().max(oldest);
    assert_eq!(Collector::collect(&mut world, oldest).collected, 0);
    while !world.roots.is_empty() {
        world.drop_root(world.roots.len() - 1);
    }
    // The survivors have moved on.
    let oldest = oldest.next();
    assert_eq!(Collector::collect(&mut world, oldest).collected, REFERRERS + 1);
    assert_all_freed(world);
}

#[test]
fn large_refcounts_are_exact_in_young_collections() {
    // Young, then Middle, then a full one.
    large_refcounts_are_exact(Generation::Young);
}

#[test]
fn large_refcounts_are_exact_in_full_collections() {
    large_refcounts_are_exact(Generation::Old);
}

#[test]
fn large_trash_is_found_by_a_young_collection() {
    let mut world = quiet_world();
    hub(&mut world);
    world.drop_root(0);
    assert_eq!(Collector::collect(&mut world, Generation::Young).collected, REFERRERS + 1);
    assert_all_freed(world);
}

/// With more large refcounts than the table takes, the others count as held from elsewhere, and float until there is room.
#[test]
fn more_large_refcounts_than_the_table_takes() {
    const MANY: usize = 40_000;
    for oldest in [Generation::Young, Generation::Old] {
        let mut world = quiet_world();
        // Held from elsewhere, as far as the collector can tell.
        let held: Vec<Id> = (0..MANY).map(|_| world.make_root(100, true)).collect();
        held.iter().for_each(|id| world.store.set_refcount(*id, REFERRERS));
        let highest = held.iter().map(|id| world.store.addresses[*id as usize]).max().unwrap();
        // The table takes the first by address.
        let looped = make_root_behind(&mut world, REFERRERS, highest);
        (0..REFERRERS).for_each(|_| world.link(looped, looped));
        let place = world.roots.iter().position(|id| *id == looped).unwrap();
        world.drop_root(place);
        assert_eq!(Collector::collect(&mut world, oldest).collected, 0);
        let assumed = world.store.collector.telemetry().of(oldest).assumed_reachable;
        assert!((1..MANY as u64).contains(&assumed), "{assumed}");
        held.iter().for_each(|id| world.store.set_refcount(*id, 1));
        assert_eq!(Collector::collect(&mut world, Generation::Old).collected, 1);
        while !world.roots.is_empty() {
            world.drop_root(0);
        }
        assert_all_freed(world);
    }
}

/// A wide object whose children all lie behind it: more than the mark stack takes. Each child has a child of its own, further
/// back, which a dropped entry would miss.
#[test]
fn wide_objects_overflow_the_mark_stack() {
    const CHILDREN: usize = 20_000;
    for oldest in [Generation::Young, Generation::Old] {
        let mut world = quiet_world();
        let children: Vec<(Id, Id)> = (0..CHILDREN).map(|_| (world.make(1, true), world.make(1, true))).collect();
        let behind = children.iter().map(|(_, child)| world.store.addresses[*child as usize]).max().unwrap();
        let wide = make_root_behind(&mut world, CHILDREN + 1, behind);
        for (inner, child) in children {
            world.link(child, inner);
            world.link(wide, child);
            world.decref(inner);
            world.decref(child);
        }
        world.link(wide, wide);
        // Trash is found although repeated sweeps trace more objects than there are.
        for _ in 0..10 {
            let looped = world.make(1, true);
            world.link(looped, looped);
            world.decref(looped);
        }
        let outcome = Collector::collect(&mut world, oldest);
        assert_eq!((outcome.collected, world.objects.len()), (10, 2 * CHILDREN + 1));
        let repeated = world.store.collector.telemetry().of(oldest).repeated_sweeps;
        assert!((1..=8).contains(&repeated), "{repeated} repeated sweeps");
        world.drop_root(0);
        assert_eq!(Collector::collect(&mut world, Generation::Old).collected, 2 * CHILDREN + 1);
        assert_all_freed(world);
    }
}

/// Many objects that refer to near and far ones, before and behind them, and few that are held: what these lead to is left.
#[test]
fn tangles() {
    const OBJECTS: usize = 6_000;
    let mut state = 1_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    for (turn, oldest) in [Generation::Young, Generation::Old].into_iter().cycle().take(12).enumerate() {
        let mut world = quiet_world();
        let rooms: Vec<usize> = (0..OBJECTS).map(|_| 1 + below(4) + if below(50) == 0 { 60 } else { 0 }).collect();
        let ids: Vec<Id> = rooms.iter().map(|room| world.make(*room, true)).collect();
        let mut edges = vec![Vec::new(); OBJECTS];
        for (i, room) in rooms.iter().enumerate() {
            for _ in 0..below(room + 1) {
                let near = i.saturating_sub(100) + below(200);
                let child = if below(3) == 0 { below(OBJECTS) } else { near.min(OBJECTS - 1) };
                world.link(ids[i], ids[child]);
                edges[i].push(child);
            }
        }
        // From one in ten to one in a thousand.
        let sparse = [10, 100, 1000][turn / 4];
        let mut waiting: Vec<usize> = (0..OBJECTS).filter(|_| below(sparse) == 0).collect();
        let mut is_reached = vec![false; OBJECTS];
        waiting.iter().for_each(|i| world.add_root(ids[*i]));
        while let Some(i) = waiting.pop() {
            if !core::mem::replace(&mut is_reached[i], true) {
                waiting.extend(&edges[i]);
            }
        }
        ids.iter().for_each(|id| world.decref(*id));
        Collector::collect(&mut world, oldest);
        let left: Vec<Id> = world.objects.keys().copied().collect();
        let reached: Vec<Id> =
            ids.iter().zip(&is_reached).filter(|(_, is_reached)| **is_reached).map(|(id, _)| *id).collect();
        assert_eq!(left, reached);
        while !world.roots.is_empty() {
            world.drop_root(world.roots.len() - 1);
        }
        Collector::collect(&mut world, Generation::Old);
        assert_all_freed(world);
    }
}

/// `held ≤ H + max(g·H, 8 MiB) + A`, whatever the counts say.
#[test]
fn growth_is_bounded_by_bytes() {
    const BLOCK_BYTES: usize = 8 << 10;
    const THRESHOLD: u32 = 20;
    let mut world = World::new(Blocks::new());
    world.store.set_thresholds([THRESHOLD, 1_000_000, 1_000_000], true);
    world.store.collector.pace_mut().growth_percent = Some(50);
    let live: Vec<Id> = (0..4000).map(|_| world.make_root(BLOCK_BYTES / 8 - 3, true)).collect();
    Collector::collect(&mut world, Generation::Old);
    let kept = world.store.heap.held_bytes();
    let mut most = 0;
    for i in 0..20_000 {
        // Old enough to be out of a young collection's sight before it is dropped.
        let object = world.make_root(BLOCK_BYTES / 8 - 3, true);
        world.link(object, object);
        if i % 100 == 99 {
            (0..100).for_each(|_| world.drop_root(live.len()));
        }
        most = most.max(world.store.heap.held_bytes());
    }
    let period = (THRESHOLD as usize + 1) * BLOCK_BYTES;
    // H itself may hold the 100 that are not dropped yet, and pools are not full.
    let most_kept = kept + 120 * BLOCK_BYTES;
    assert!(most <= most_kept + (most_kept / 2).max(8 << 20) + period, "{most} bytes held, {kept} of them live");
    assert!(most > kept + (8 << 20), "garbage did float: {most}");
    let full = world.store.collector.telemetry().of(Generation::Old).collections;
    assert!(full >= 5, "{full} full collections");
    while !world.roots.is_empty() {
        world.drop_root(world.roots.len() - 1);
    }
    Collector::collect(&mut world, Generation::Old);
    assert_all_freed(world);
}

#[test]
fn telemetry_adds_up() {
    let mut world = quiet_world();
    for _ in 0..100 {
        let object = world.make_root(2, true);
        world.link(object, object);
    }
    (0..60).for_each(|_| world.drop_root(0));
    Collector::collect(&mut world, Generation::Young);
    (0..10).for_each(|_| world.drop_root(0));
    Collector::collect(&mut world, Generation::Old);
    let telemetry = *world.store.collector.telemetry();
    let of = |generation| {
        let stats = telemetry.of(generation);
        (stats.collections, stats.candidates, stats.collected)
    };
    assert_eq!((of(Generation::Young), of(Generation::Middle)), ((1, 100, 60), (0, 0, 0)));
    assert_eq!(of(Generation::Old), (1, 40, 10));
    let phases = telemetry.phases;
    let spent = phases.walk_ns + phases.count_ns + phases.mark_ns + phases.dispose_ns;
    assert_eq!(telemetry.pauses.count(), 2);
    assert!(spent > 0 && u128::from(spent) <= telemetry.pauses.total().as_nanos());
    assert!(telemetry.pauses.at_most(1.0) == telemetry.pauses.longest());
    (0..30).for_each(|_| world.drop_root(0));
    Collector::collect(&mut world, Generation::Old);
    assert_all_freed(world);
}
