//! The profiler's tables: code objects, stacks, sites, live samples.
//!
//! ```text
//! Code ← Node (parent, code, offset) ← Site (node, thread; estimate) ← Sample (block, size)
//! ```
//!
//! Stacks are a trie from the outermost frame inwards, so that stacks share what they have in common. A site is a stack
//! and a thread. A sample is a live block that was sampled, found by its address.
//!
//! Invariants, checked by [`Tables::is_valid`]:
//! - `Σ over samples of Estimate::of_sample(size) by site = site.live`, `Σ over sites of site.live = total.live`,
//!   `Σ over sites of site.at_peak = total.at_peak`;
//! - a node's parent comes before it; every id names an entry of its table;
//! - a table that cannot grow leaves everything as it was: the sample is counted in `lost`.

pub(crate) mod export;
pub(crate) mod snapshot;

use allocator_api2::vec::Vec;
use hashbrown::HashTable;

use crate::gaps::mix;
use crate::peak::Epoch;
use crate::{Estimate, Pages, Tracked};

/// Frames kept of a stack, innermost ones first.
pub const MAX_DEPTH: usize = 128;

/// Code objects that the tables tell apart. Each is kept alive by the caller, so a program that makes functions without end
/// must not make them all stay; frames beyond this many are [`Code::Omitted`].
pub const MAX_CODES: usize = 65_536;

/// So often a code object may be in a stack before [`Tables::folded_child`] folds it: often enough for wrappers of one decorator
/// around several functions, and so seldom that a recursion which branches has some dozens of stacks and not thousands.
pub const MAX_RECURSION: usize = 4;

/// What a frame runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A code object at this address, which the caller keeps alive.
    Object(usize),
    /// Anything that runs in the interpreter of this number, which keeps its frames to itself.
    Interpreter(i64),
    /// One of the code objects beyond [`MAX_CODES`].
    Omitted,
    /// Levels of a recursion that were left out, see [`Tables::folded_child`].
    Recursion,
    /// Outer frames that were left out; the offset says how many the whole stack has.
    Outer,
}

/// Names an entry of the table of code objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeId(u32);

/// Names a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// Names a thread; the caller's choice of number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(pub usize);

/// Names a stack in a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SiteId(pub(crate) u32);

/// A table could not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What [`Tables::intern`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interned {
    /// The code object, or an earlier one that no report can tell from it.
    pub id: CodeId,
    /// The table now points to the code object: the caller must keep it alive from now on.
    pub keep_alive: bool,
}

impl CodeId {
    const OMITTED: CodeId = CodeId(0);
    const RECURSION: CodeId = CodeId(1);
    const OUTER: CodeId = CodeId(2);
}

impl NodeId {
    /// The empty stack.
    pub const EMPTY: NodeId = NodeId(0);
    /// The empty stack of which outer frames were left out.
    pub const TRUNCATED: NodeId = NodeId(1);

    /// Whether there is a frame in it.
    pub fn has_frames(self) -> bool {
        self.0 > NodeId::TRUNCATED.0
    }

    /// A hash of this stack and a word, for small caches.
    #[inline(always)]
    pub fn mixed(self, word: usize) -> usize {
        let word = (word as u64 ^ u64::from(self.0) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word >> 40) as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    parent: NodeId,
    code: CodeId,
    /// Bytes into the code object's instructions, as `PyCode_Addr2Line` takes it.
    offset_bytes: i32,
}

impl Node {
    fn hash(&self) -> u64 {
        let stack = u64::from(self.parent.0) << 32 | u64::from(self.code.0);
        mix(mix(stack) ^ u64::from(self.offset_bytes as u32))
    }
}

#[derive(Debug, Clone, Copy)]
struct Site {
    node: NodeId,
    thread: ThreadId,
    bytes: Tracked,
    /// Everything ever sampled here.
    total: Estimate,
    /// What of it was freed, in blocks.
    freed: Freed,
}

/// Estimated blocks of a site that were freed, by what they had lived through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// No collection of cycles.
    pub soon: u64,
    /// A young collection, but no full one.
    pub young: u64,
    /// A full collection.
    pub old: u64,
}

/// Collections of cycles so far: what a block has lived through is told by these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Collections {
    young: u32,
    full: u32,
}

impl Site {
    fn hash(node: NodeId, thread: ThreadId) -> u64 {
        mix(mix(thread.0 as u64) ^ u64::from(node.0))
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    block: usize,
    size_bytes: usize,
    site: u32,
    born: Collections,
}

/// All tables of a profiler.
#[derive(Debug)]
pub struct Tables {
    mean_bytes: u64,
    codes: Vec<Code, Pages>,
    codes_by_address: HashTable<(usize, CodeId), Pages>,
    codes_by_content: HashTable<(u64, CodeId), Pages>,
    nodes: Vec<Node, Pages>,
    nodes_by_content: HashTable<NodeId, Pages>,
    sites: Vec<Site, Pages>,
    sites_by_content: HashTable<u32, Pages>,
    samples: HashTable<Sample, Pages>,
    total: Tracked,
    epoch: Epoch,
    peak_level: u64,
    peak_at_ms: u64,
    taken: u64,
    lost: u64,
    collections: Collections,
}

impl Tables {
    /// Empty tables for samples at a mean distance of `mean_bytes`, above zero.
    ///
    /// # Errors
    /// [`Full`] where the OS gives no memory.
    pub fn new(mean_bytes: u64) -> Result<Tables, Full> {
        let mut tables = Tables {
            mean_bytes,
            codes: Vec::new_in(Pages),
            codes_by_address: HashTable::new_in(Pages),
            codes_by_content: HashTable::new_in(Pages),
            nodes: Vec::new_in(Pages),
            nodes_by_content: HashTable::new_in(Pages),
            sites: Vec::new_in(Pages),
            sites_by_content: HashTable::new_in(Pages),
            samples: HashTable::new_in(Pages),
            total: Tracked::default(),
            epoch: 1,
            peak_level: 0,
            peak_at_ms: 0,
            taken: 0,
            lost: 0,
            collections: Collections::default(),
        };
        push(&mut tables.codes, Code::Omitted)?;
        push(&mut tables.codes, Code::Recursion)?;
        push(&mut tables.codes, Code::Outer)?;
        // The two empty stacks: never looked up by content, so their own fields say nothing.
        let empty = Node { parent: NodeId::EMPTY, code: CodeId::OMITTED, offset_bytes: -1 };
        push(&mut tables.nodes, empty)?;
        push(&mut tables.nodes, empty)?;
        Ok(tables)
    }

    /// Bytes that the tables of stacks and sites have taken from the OS, without those of live samples.
    pub fn memory_bytes(&self) -> usize {
        self.codes.capacity() * size_of::<Code>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.sites.capacity() * size_of::<Site>()
            + self.codes_by_address.allocation_size()
            + self.codes_by_content.allocation_size()
            + self.nodes_by_content.allocation_size()
            + self.sites_by_content.allocation_size()
    }

    /// Sites so far.
    pub fn site_count(&self) -> usize {
        self.sites.len()
    }

    /// The mean distance between samples.
    pub fn mean_bytes(&self) -> u64 {
        self.mean_bytes
    }

    /// The code object at `address`, if it has been interned.
    #[inline]
    pub fn code_at(&self, address: usize) -> Option<CodeId> {
        self.codes_by_address.find(mix(address as u64), |(known, _)| *known == address).map(|(_, id)| *id)
    }

    /// Make `code` known. `content` is a hash of all that a report says of it: of two code objects with one content the
    /// first stands for both, so that a program that compiles the same source over and over keeps one alive, not all.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub fn intern(&mut self, code: Code, content: u64) -> Result<Interned, Full> {
        let found = self.codes_by_content.find(mix(content), |(known, _)| *known == content);
        if let Some((_, id)) = found {
            return Ok(Interned { id: *id, keep_alive: false });
        }
        if self.codes.len() >= MAX_CODES {
            return Ok(Interned { id: CodeId::OMITTED, keep_alive: false });
        }
        let id = CodeId(next_id(self.codes.len())?);
        self.codes_by_content.try_reserve(1, hash_content).map_err(|_| Full)?;
        self.codes_by_address.try_reserve(1, hash_address).map_err(|_| Full)?;
        push(&mut self.codes, code)?;
        self.codes_by_content.insert_unique(mix(content), (content, id), hash_content);
        let Code::Object(address) = code else {
            return Ok(Interned { id, keep_alive: false });
        };
        self.codes_by_address.insert_unique(mix(address as u64), (address, id), hash_address);
        Ok(Interned { id, keep_alive: true })
    }

    /// The stack `parent` with one frame more inside it.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub fn child(&mut self, parent: NodeId, code: CodeId, offset_bytes: i32) -> Result<NodeId, Full> {
        let node = Node { parent, code, offset_bytes };
        let nodes = &self.nodes;
        let found = self.nodes_by_content.find(node.hash(), |id| nodes[id.0 as usize] == node);
        if let Some(id) = found {
            return Ok(*id);
        }
        let id = NodeId(next_id(nodes.len())?);
        self.nodes_by_content.try_reserve(1, |id| nodes[id.0 as usize].hash()).map_err(|_| Full)?;
        push(&mut self.nodes, node)?;
        let nodes = &self.nodes;
        self.nodes_by_content.insert_unique(node.hash(), id, |id| nodes[id.0 as usize].hash());
        Ok(id)
    }

    /// The empty stack of which outer frames were left out, with the number of frames that the whole stack has.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub fn truncated(&mut self, frames: usize) -> Result<NodeId, Full> {
        self.child(NodeId::TRUNCATED, CodeId::OUTER, i32::try_from(frames).unwrap_or(i32::MAX))
    }

    /// As [`Tables::child`], but with recursion folded: where `code` is in the stack [`MAX_RECURSION`] times already, the new
    /// frame takes the place of the last of them, behind a [`Code::Recursion`] that stands for the levels left out.
    ///
    /// A recursion that calls itself from two lines has 2^depth stacks. To a reader they are one, and neither tables nor
    /// captures could hold them.
    ///
    /// # Errors
    /// [`Full`]; a node may have been added then.
    pub fn folded_child(&mut self, parent: NodeId, code: CodeId, offset_bytes: i32) -> Result<NodeId, Full> {
        let mut times = 0;
        let mut before = NodeId::EMPTY;
        let mut at = parent;
        while at.has_frames() {
            let node = &self.nodes[at.0 as usize];
            if node.code == code {
                if times == 0 {
                    before = node.parent;
                }
                times += 1;
            }
            at = node.parent;
        }
        if times < MAX_RECURSION {
            return self.child(parent, code, offset_bytes);
        }
        let is_folded = before.has_frames() && self.nodes[before.0 as usize].code == CodeId::RECURSION;
        let before = if is_folded { before } else { self.child(before, CodeId::RECURSION, -1)? };
        self.child(before, code, offset_bytes)
    }

    /// Record that the block at `block`, of `size_bytes` (above zero), was sampled with this stack in this thread.
    ///
    /// `level` is how much memory is held at this moment; a higher level than ever before makes this moment the peak, of
    /// which `now_ms` is asked the time. **A caller that knows the level should say it**: where it is `None`, the estimate
    /// of live bytes takes its place, and since a maximum is chosen from noisy values, a program that stays level for long
    /// gets a peak that is some standard deviations too high. One caller gives a level always or never.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then. The caller counts it with [`Tables::lose`].
    pub fn insert(
        &mut self,
        block: usize,
        size_bytes: usize,
        node: NodeId,
        thread: ThreadId,
        level: Option<u64>,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<(), Full> {
        let SiteId(site) = self.site(node, thread)?;
        self.samples.try_reserve(1, hash_sample).map_err(|_| Full)?;
        // A block whose free went unseen: whatever it was, it is this one now.
        self.remove(block);
        let sample = Sample { block, size_bytes, site, born: self.collections };
        self.samples.insert_unique(hash_sample(&sample), sample, hash_sample);

        let estimate = Estimate::of_sample(size_bytes, self.mean_bytes);
        let sampled = &mut self.sites[site as usize];
        sampled.bytes.add(self.epoch, &estimate);
        sampled.total.add(&estimate);
        self.total.add(self.epoch, &estimate);
        self.taken += 1;
        let level = level.unwrap_or(self.total.live.bytes);
        if level > self.peak_level {
            self.peak_level = level;
            self.begin_epoch(now_ms());
        }
        Ok(())
    }

    /// Make this moment the peak if the estimate of live bytes is higher now: the level may have been higher when less was
    /// live. For whoever shows both, so that the peak is not below what is live.
    pub fn settle_peak(&mut self, now_ms: u64) {
        if self.total.live.bytes > self.total.at_peak(self.epoch).bytes {
            self.begin_epoch(now_ms);
        }
    }

    fn begin_epoch(&mut self, now_ms: u64) {
        self.peak_at_ms = now_ms;
        self.epoch += 1;
    }

    /// Forget the block at `block`, which is being freed. Says whether it was a sample.
    #[inline]
    pub fn remove(&mut self, block: usize) -> bool {
        let found = self.samples.find_entry(mix(block as u64), |sample| sample.block == block);
        let Ok(entry) = found else {
            return false;
        };
        let (sample, _) = entry.remove();
        self.leave(&sample);
        true
    }

    /// Visit every sampled block that is live: its address, its size in bytes, and who allocated it.
    pub fn visit_samples(&self, mut visit: impl FnMut(usize, usize, SiteId)) {
        self.samples.iter().for_each(|sample| visit(sample.block, sample.size_bytes, SiteId(sample.site)));
    }

    /// A collection of cycles is over: live samples have lived through it.
    pub fn collected(&mut self, is_full: bool) {
        let count = if is_full { &mut self.collections.full } else { &mut self.collections.young };
        *count = count.wrapping_add(1);
    }

    /// Count a sample that found no room.
    pub fn lose(&mut self) {
        self.lost += 1;
    }

    /// Check the invariants of this module, from scratch. Allocates; for tests and debug builds outside hooks.
    pub fn is_valid(&self) -> bool {
        let mut sums = vec![Estimate::default(); self.sites.len()];
        for sample in &self.samples {
            sums[sample.site as usize].add(&Estimate::of_sample(sample.size_bytes, self.mean_bytes));
        }
        let (mut live, mut at_peak) = (Estimate::default(), Estimate::default());
        for site in &self.sites {
            live.add(&site.bytes.live);
            at_peak.add(&site.bytes.at_peak(self.epoch));
        }
        let nodes_in_order = self
            .nodes
            .iter()
            .enumerate()
            .skip(2)
            .all(|(id, node)| (node.parent.0 as usize) < id && (node.code.0 as usize) < self.codes.len());
        let sites_right = self
            .sites
            .iter()
            .zip(&sums)
            .all(|(site, sum)| site.bytes.live == *sum && (site.node.0 as usize) < self.nodes.len());
        nodes_in_order
            && sites_right
            && live == self.total.live
            && at_peak == self.total.at_peak(self.epoch)
            && self.nodes_by_content.len() + 2 == self.nodes.len()
            && self.sites_by_content.len() == self.sites.len()
    }

    /// The site of this stack in this thread.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed then.
    pub fn site(&mut self, node: NodeId, thread: ThreadId) -> Result<SiteId, Full> {
        let sites = &self.sites;
        let hash_of = |id: &u32| {
            let site = &sites[*id as usize];
            Site::hash(site.node, site.thread)
        };
        let hash = Site::hash(node, thread);
        let found = self.sites_by_content.find(hash, |id| {
            let site = &sites[*id as usize];
            site.node == node && site.thread == thread
        });
        if let Some(id) = found {
            return Ok(SiteId(*id));
        }
        let id = next_id(sites.len())?;
        self.sites_by_content.try_reserve(1, hash_of).map_err(|_| Full)?;
        // Room first, then the index, then the site: an error leaves both tables as they were.
        self.sites.try_reserve(1).map_err(|_| Full)?;
        let sites = &self.sites;
        self.sites_by_content.insert_unique(hash, id, |id| {
            let site = &sites[*id as usize];
            Site::hash(site.node, site.thread)
        });
        self.sites.push(Site {
            node,
            thread,
            bytes: Tracked::default(),
            total: Estimate::default(),
            freed: Freed::default(),
        });
        Ok(SiteId(id))
    }

    fn leave(&mut self, sample: &Sample) {
        let estimate = Estimate::of_sample(sample.size_bytes, self.mean_bytes);
        let site = &mut self.sites[sample.site as usize];
        site.bytes.sub(self.epoch, &estimate);
        self.total.sub(self.epoch, &estimate);
        let freed = match sample.born {
            born if born.full != self.collections.full => &mut site.freed.old,
            born if born.young != self.collections.young => &mut site.freed.young,
            _ => &mut site.freed.soon,
        };
        *freed += estimate.blocks();
    }
}

fn hash_address((address, _): &(usize, CodeId)) -> u64 {
    mix(*address as u64)
}

fn hash_content((content, _): &(u64, CodeId)) -> u64 {
    mix(*content)
}

fn hash_sample(sample: &Sample) -> u64 {
    mix(sample.block as u64)
}

fn next_id(entries: usize) -> Result<u32, Full> {
    u32::try_from(entries).map_err(|_| Full)
}

fn push<T>(entries: &mut Vec<T, Pages>, entry: T) -> Result<(), Full> {
    entries.try_reserve(1).map_err(|_| Full)?;
    entries.push(entry);
    Ok(())
}
