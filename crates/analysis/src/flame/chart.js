
// The picture: a canvas as large as what is seen of it, which stays in place while its container scrolls.
//
// `rows[depth]` are the boxes at one depth from left to right, { node, x, width } in pixels. What is narrower than a
// pixel is left out; where siblings together are wider, one box with `rest`, the nodes, stands for them.

class Chart {
  static LEAST_WIDTH = 1;
  static MOST_BOXES = 200000;

  constructor(canvas, container, space) {
    Object.assign(this, { canvas, container, space, rows: [], root: null, zoomed: null });
    this.selected = null;
    this.hovered = null;
    this.found = null;
    this.context = canvas.getContext("2d");
    this.frameRequested = false;
    this.labels = new Map();
    this.fills = new Map();
  }

  // Shows a tree, all of it or below one node.
  show(root, zoomed = root) {
    if (this.root !== root) this.labels.clear();
    Object.assign(this, { root, zoomed, hovered: null });
    this.layout();
    this.container.scrollTop = Math.max(0, Math.min(this.container.scrollTop, (zoomed.depth - 1) * this.rowHeight));
  }

  // Takes over the size of the container and the colours of the style sheet, and finds the boxes anew.
  layout() {
    const style = getComputedStyle(document.documentElement);
    const names = ["program", "package", "standard", "none", "match", "grew", "shrank", "same"];
    this.palette = Object.fromEntries(names.map((name) => [name, style.getPropertyValue("--" + name).split(" ").map(Number)]));
    this.textColor = style.getPropertyValue("--box-text");
    this.outlineColor = style.getPropertyValue("--outline");
    this.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    this.fills = new Map();
    this.rowHeight = matchMedia("(pointer: coarse)").matches ? 26 : 22;
    // The canvas has a margin of 8 pixels on both sides.
    this.width = this.container.clientWidth - 16;
    this.height = this.container.clientHeight;
    this.rows = [];
    if (this.zoomed) this.placeBoxes();
    const rest = Math.max(0, this.rows.length * this.rowHeight + 8 - this.height);
    this.space.style.height = rest + "px";
    const ratio = window.devicePixelRatio || 1;
    this.canvas.style.width = this.width + "px";
    this.canvas.style.height = this.height + "px";
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.draw();
  }

  placeBoxes() {
    for (let node = this.zoomed; node; node = node.parent) this.rows[node.depth] = [{ node, x: 0, width: this.width }];
    const scale = this.zoomed.width > 0 ? this.width / this.zoomed.width : 0;
    const left = (x) => (x - this.zoomed.x) * scale;
    let boxes = 0;
    for (let depth = this.zoomed.depth; depth < this.rows.length && boxes < Chart.MOST_BOXES; depth++) {
      const row = [];
      for (const { node } of this.rows[depth]) {
        if (!node) continue;
        const children = childrenOf(node);
        for (const [index, child] of children.entries()) {
          if (child.width * scale >= Chart.LEAST_WIDTH) {
            row.push({ node: child, x: left(child.x), width: child.width * scale });
            continue;
          }
          // The widest come first: all that follow are too narrow as well.
          const last = children[children.length - 1];
          const width = (last.x + last.width - child.x) * scale;
          if (width >= Chart.LEAST_WIDTH) row.push({ node: null, rest: children.slice(index), x: left(child.x), width });
          break;
        }
      }
      boxes += row.length;
      if (row.length) this.rows.push(row);
    }
  }

  // Draws soon, once for all changes until then.
  draw() {
    if (this.frameRequested) return;
    this.frameRequested = true;
    requestAnimationFrame(() => {
      this.frameRequested = false;
      this.paint();
    });
  }

  paint() {
    const { context, rowHeight } = this;
    const scrolled = this.container.scrollTop;
    context.clearRect(0, 0, this.width, this.height);
    context.font = this.font;
    context.textBaseline = "middle";
    const first = Math.floor(scrolled / rowHeight);
    const last = Math.min(this.rows.length - 1, Math.floor((scrolled + this.height) / rowHeight));
    for (let depth = first; depth <= last; depth++) {
      for (const box of this.rows[depth]) this.paintBox(box, depth * rowHeight - scrolled + 4);
    }
  }

  paintBox(box, y) {
    const { context } = this;
    const height = this.rowHeight - 1;
    const width = Math.max(box.width - (box.width > 3 ? 1 : 0.3), 0.7);
    context.globalAlpha = this.strength(box);
    context.fillStyle = this.fill(box);
    if (width > 6) {
      context.beginPath();
      context.roundRect(box.x, y, width, height, 2.5);
      context.fill();
    } else {
      context.fillRect(box.x, y, width, height);
    }
    if (width > 26) {
      // What is faint can still be read.
      context.globalAlpha = 0.5 + context.globalAlpha / 2;
      this.paintLabel(box, y + height / 2 + 0.5, width - 12);
    }
    context.globalAlpha = 1;
    const marked = box.node && (box.node === this.selected || box === this.hovered);
    if (marked) {
      context.strokeStyle = this.outlineColor;
      context.lineWidth = box.node === this.selected ? 2 : 1;
      context.strokeRect(box.x + 1, y + 1, Math.max(width - 2, 0.5), height - 2);
    }
  }

  // Name, place and figure as far as there is room.
  paintLabel(box, y, room) {
    const { context } = this;
    const label = box.node ? this.label(box.node.frame) : { name: `${counted(box.rest.length, "narrower frame")}`, place: "" };
    const x = box.x + 6;
    context.fillStyle = this.textColor;
    const name = this.cut(label.name, room);
    context.fillText(name, x, y);
    let used = context.measureText(name).width + 8;
    if (!box.node) return;
    context.globalAlpha *= 0.68;
    if (label.place && name === label.name && room - used > 40) {
      const place = this.cut(label.place, room - used);
      context.fillText(place, x + used, y);
      used += context.measureText(place).width + 8;
    }
    const figure = this.figure(box.node);
    const figureWidth = context.measureText(figure).width;
    if (name === label.name && room - used > figureWidth + 12) context.fillText(figure, x + room - figureWidth, y);
  }

  // What a box says at its right end: what the node holds, or its change.
  figure(node) {
    const { data, view } = node.tree;
    const short = view.metric === "bytes" ? bytes : count;
    if (data.titles.length === 1) return short(node.width);
    const [before, after] = amounts(data, node.stacks).map((amount) => amount[view.metric]);
    return before === after ? "" : (after > before ? "+" : "−") + short(Math.abs(after - before));
  }

  // A text in so many pixels, its end replaced by … where it is too long.
  cut(text, room) {
    const { context } = this;
    // Nobody sees more than this of a name.
    let kept = text.length > 400 ? Array.from(text).slice(0, 400).join("") : text;
    let width = context.measureText(kept).width;
    if (kept === text && width <= room) return text;
    while (kept && width > room) {
      const characters = Array.from(kept);
      const fitting = Math.min(characters.length - 1, Math.floor((characters.length * room) / width));
      kept = characters.slice(0, fitting).join("");
      width = context.measureText(kept + "…").width;
    }
    return kept ? kept + "…" : "";
  }

  label(frame) {
    let label = this.labels.get(frame);
    if (!label) {
      label = describe(this.root.tree.data, frame);
      this.labels.set(frame, label);
    }
    return label;
  }

  strength(box) {
    if (!box.node) return 0.45;
    if (this.found) return this.found.frames[box.node.frame] ? 1 : 0.38;
    return box.node.depth < this.zoomed.depth ? 0.55 : 1;
  }

  fill(box) {
    const color = (channels) => `rgb(${channels.map((channel) => Math.min(255, Math.round(channel))).join(" ")})`;
    if (!box.node) return color(this.palette.none);
    const { frame, tree } = box.node;
    if (this.found && this.found.frames[frame]) return color(this.palette.match);
    if (tree.data.titles.length > 1) return color(this.changed(box.node));
    let fill = this.fills.get(frame);
    if (!fill) {
      // Files of one owner differ a little, so that neighbours can be told apart.
      const { owner, path } = this.label(frame);
      let hash = 0;
      for (const character of path.replace(/:\d+$/, "")) hash = (hash * 31 + character.codePointAt(0)) % 9973;
      const shade = 0.92 + (hash % 17) / 100;
      fill = color(this.palette[owner].map((channel) => channel * shade));
      this.fills.set(frame, fill);
    }
    return fill;
  }

  // Red where it grew, blue where it shrank, the stronger the larger the change is beside the box.
  changed(node) {
    const [before, after] = amounts(node.tree.data, node.stacks).map((amount) => amount[node.tree.view.metric]);
    const change = node.width > 0 ? (after - before) / node.width : 0;
    const part = Math.min(1, Math.abs(change)) ** 0.6;
    const end = change > 0 ? this.palette.grew : this.palette.shrank;
    return this.palette.same.map((channel, index) => channel + (end[index] - channel) * part);
  }

  // The box at a point of the canvas.
  boxAt(x, y) {
    const row = this.rows[Math.floor((y - 4 + this.container.scrollTop) / this.rowHeight)];
    return row?.find((box) => x >= box.x && x < box.x + box.width) ?? null;
  }

  // The box that a key leads to from the selected node.
  neighbour(key) {
    const node = this.selected && this.rows[this.selected.depth]?.some((box) => box.node === this.selected) ? this.selected : null;
    if (!node) return this.rows[this.zoomed.depth]?.[0] ?? null;
    const row = this.rows[node.depth];
    const here = row.findIndex((box) => box.node === node);
    const named = (box) => box.node;
    if (key === "ArrowUp") return this.rows[node.depth - 1]?.find((box) => box.node === node.parent) ?? null;
    if (key === "ArrowDown") return this.rows[node.depth + 1]?.find((box) => box.node && box.node.parent === node) ?? null;
    if (key === "ArrowLeft") return row.slice(0, here).reverse().find(named) ?? null;
    return row.slice(here + 1).find(named) ?? null;
  }

  // Scrolls so that a node's row is seen.
  reveal(node) {
    const top = node.depth * this.rowHeight;
    const { scrollTop } = this.container;
    if (top < scrollTop) this.container.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + this.height) this.container.scrollTop = top + this.rowHeight + 8 - this.height;
  }
}
