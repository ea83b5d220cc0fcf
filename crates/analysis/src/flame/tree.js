
// From stacks to the tree that is drawn. A node's children are made when somebody asks for them, so a page of many
// stacks opens as quickly as its widest boxes can be found.
//
// A view is { metric: "bytes" or "blocks", inverted, byThread }. A node's `width` is in units of the metric: what the
// stacks through it hold, of two records the larger of both, stack by stack. So children fit into their parent always.

// The paths of all stacks as they are drawn, in one array: that of stack i is path[start[i]] to path[start[i + 1] - 1].
// Numbers from data.frames.line.length on are threads.
function paths(data, view) {
  const { up, frame } = data.nodes;
  const firstThread = data.frames.line.length;
  const depth = new Uint32Array(up.length);
  for (let node = 0; node < up.length; node++) depth[node] = up[node] ? depth[node - up[node]] + 1 : 1;
  const stacks = data.stacks.node.length;
  const lead = view.byThread ? 1 : 0;
  const start = new Uint32Array(stacks + 1);
  for (let stack = 0; stack < stacks; stack++) start[stack + 1] = start[stack] + lead + depth[data.stacks.node[stack]];
  const path = new Uint32Array(start[stacks]);
  for (let stack = 0; stack < stacks; stack++) {
    if (lead) path[start[stack]] = firstThread + data.stacks.thread[stack];
    // From the innermost frame to the outermost.
    let at = view.inverted ? start[stack] + lead : start[stack + 1] - 1;
    for (let node = data.stacks.node[stack], steps = depth[node]; steps > 0; steps--) {
      path[at] = frame[node];
      at += view.inverted ? 1 : -1;
      node -= up[node];
    }
  }
  return { path, start };
}

// The root of the tree of a view.
function plant(data, view) {
  const columns = data.stacks[view.metric];
  const tree = { data, view, ...paths(data, view), width: new Float64Array(data.stacks.node.length) };
  for (const column of columns) column.forEach((amount, stack) => (tree.width[stack] = Math.max(tree.width[stack], amount)));
  return grow(tree, null, -1, Array.from(tree.width.keys()));
}

function grow(tree, parent, frame, stacks) {
  const sum = (column) => stacks.reduce((total, stack) => total + column[stack], 0);
  return {
    tree,
    parent,
    frame,
    stacks,
    depth: parent ? parent.depth + 1 : 0,
    width: sum(tree.width),
    x: 0,
    children: null,
  };
}

// The children of a node, widest first, each with its place `x`.
function childrenOf(node) {
  if (node.children) return node.children;
  const { tree } = node;
  const groups = new Map();
  for (const stack of node.stacks) {
    const at = tree.start[stack] + node.depth;
    if (at === tree.start[stack + 1]) continue;
    const group = groups.get(tree.path[at]);
    if (group) group.push(stack);
    else groups.set(tree.path[at], [stack]);
  }
  node.children = Array.from(groups, ([frame, stacks]) => grow(tree, node, frame, stacks));
  node.children.sort((one, other) => other.width - one.width || one.frame - other.frame);
  let x = node.x;
  for (const child of node.children) {
    child.x = x;
    x += child.width;
  }
  return node.children;
}

// What stacks hold, for each record: [{ bytes, blocks }].
function amounts(data, stacks) {
  return data.titles.map((_, side) => {
    const sum = (columns) => stacks.reduce((total, stack) => total + columns[side][stack], 0);
    return { bytes: sum(data.stacks.bytes), blocks: sum(data.stacks.blocks) };
  });
}

// The part of a node that its children do not hold: stacks that end there.
function ending(node) {
  const { start } = node.tree;
  return node.stacks.filter((stack) => start[stack] + node.depth === start[stack + 1]);
}

// What a frame, or a thread, is called: { name, place, path, owner }.
function describe(data, number) {
  const { frames } = data;
  if (number < 0) return { name: "everything", place: "", path: "", owner: "none" };
  if (number >= frames.line.length) {
    const name = data.threads[number - frames.line.length] || "(unnamed thread)";
    return { name, place: "thread", path: "thread", owner: "none" };
  }
  const file = data.files[frames.file[number]];
  const line = frames.line[number] > 0 ? ":" + frames.line[number] : "";
  const name = data.functions[frames.function[number]];
  return { name, place: file.name && file.name + line, path: file.path && file.path + line, owner: file.owner };
}

// Whether a text matches what is searched for; null where nothing is. Throws SyntaxError for a bad regular expression.
function matcher(text, regular) {
  if (text === "") return null;
  if (regular) {
    const expression = new RegExp(text, "i");
    return (name) => expression.test(name);
  }
  const wanted = text.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}

// Which frames match, and which stacks have one of them in their path: { frames, stacks }.
function search(data, matches) {
  const frames = data.frames.line.map((_, number) => {
    const { name, path } = describe(data, number);
    return matches(`${name} ${path}`);
  });
  // A path matches where its last frame does, or the path to its caller, which comes before it.
  const nodes = new Uint8Array(data.nodes.frame.length);
  data.nodes.up.forEach((up, node) => {
    nodes[node] = frames[data.nodes.frame[node]] || (up && nodes[node - up]) ? 1 : 0;
  });
  const stacks = [];
  data.stacks.node.forEach((node, stack) => nodes[node] && stacks.push(stack));
  return { frames, stacks };
}
