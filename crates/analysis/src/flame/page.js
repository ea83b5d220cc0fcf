
// The page around the chart: what is asked for, and what is said in words. Every text is set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const view = { metric: "bytes", inverted: false, byThread: false };
const isDifference = data.titles.length > 1;
const everything = amounts(data, Array.from(data.stacks.node.keys()));
const byId = (id) => document.getElementById(id);
const chart = new Chart(byId("chart"), byId("view"), byId("space"));

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

const held = ({ bytes: size, blocks }) => `${bytes(size)} in ${counted(blocks, "block")}`;
const words = (size) => (view.metric === "bytes" ? bytes(size) : counted(size, "block"));

// Lines about some stacks: what they hold, and their share.
function figures(stacks) {
  const sides = amounts(data, stacks);
  if (!isDifference) {
    const share = percent(sides[0][view.metric], everything[0][view.metric]);
    const inside = chart.zoomed !== chart.root && sides[0][view.metric] < chart.zoomed.width;
    const shown = inside ? `, ${percent(sides[0][view.metric], chart.zoomed.width)} of the zoomed` : "";
    return [held(sides[0]), `${share} of all ${view.metric}${shown}`];
  }
  const [before, after] = sides;
  const only = !before.blocks && !before.bytes ? "only after: " : !after.blocks && !after.bytes ? "only before: " : "";
  return [
    only + change(before[view.metric], after[view.metric], words),
    `before: ${held(before)}`,
    `after: ${held(after)}`,
  ];
}

// What is said of a box: [class, text], the name first.
function lines(box) {
  if (!box.node) {
    const stacks = box.rest.flatMap((node) => node.stacks);
    return [["name", `${counted(box.rest.length, "frame")} too narrow to draw`], ...figures(stacks).map((line) => ["", line])];
  }
  const { name, path } = describe(data, box.node.frame);
  const said = [["name", name], ...(path ? [["place", path]] : []), ...figures(box.node.stacks).map((line) => ["", line])];
  const own = ending(box.node);
  if (!view.inverted && !isDifference && own.length && own.length < box.node.stacks.length) {
    said.push(["", `${held(amounts(data, own)[0])} by this line itself`]);
  }
  return said;
}

function say(box) {
  byId("details").replaceChildren(...(box ? lines(box).map(([className, text]) => element("span", className, text)) : []));
}

// What the line at the foot is about while no box is pointed at.
function sayCurrent() {
  const node = chart.selected ?? chart.zoomed;
  say(node && { node });
}

function point(event) {
  const box = event && event.pointerType !== "touch" ? chart.boxAt(event.offsetX, event.offsetY) : null;
  const tooltip = byId("tooltip");
  if (box !== chart.hovered) {
    chart.hovered = box;
    chart.draw();
    tooltip.hidden = !box;
    if (box) {
      tooltip.replaceChildren(...lines(box).map(([className, text]) => element("div", className, text)));
      say(box);
    } else {
      sayCurrent();
    }
  }
  if (box) {
    const { offsetWidth: width, offsetHeight: height } = tooltip;
    const right = event.clientX + 14;
    const below = event.clientY + 16;
    const x = Math.max(8, right + width > innerWidth - 8 ? innerWidth - 8 - width : right);
    const y = Math.max(8, below + height > innerHeight - 8 ? event.clientY - 10 - height : below);
    tooltip.style.transform = `translate(${x}px, ${y}px)`;
  }
}

function zoom(node, root = chart.root) {
  point(null);
  chart.selected = node.parent ? node : null;
  chart.show(root, node);
  byId("reset").disabled = node === root;
  sayCurrent();
}

function select(box) {
  if (!box || !box.node) return;
  point(null);
  chart.selected = box.node;
  chart.reveal(box.node);
  chart.draw();
  sayCurrent();
}

// Draws the view anew. Other figures of the same boxes leave the zoom where it is.
function refresh(keepZoom) {
  const trail = [];
  for (let node = chart.zoomed; keepZoom && node && node.parent; node = node.parent) trail.unshift(node.frame);
  const root = plant(data, view);
  let node = root;
  for (const frame of trail) node = childrenOf(node).find((child) => child.frame === frame) ?? node;
  zoom(node, root);
  showButtons();
  find();
}

function showButtons() {
  const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));
  for (const button of document.querySelectorAll("[data-metric]")) press(button, button.dataset.metric === view.metric);
  for (const button of document.querySelectorAll("[data-inverted]")) press(button, button.dataset.inverted === String(view.inverted));
  press(byId("threads"), view.byThread);
}

function find() {
  const input = byId("search");
  let found = null;
  let said = "";
  let wrong = false;
  try {
    const matches = matcher(input.value.trim(), byId("regex").getAttribute("aria-pressed") === "true");
    found = matches && search(data, matches);
  } catch (error) {
    said = "not a regular expression";
    wrong = true;
  }
  if (found) {
    const sides = amounts(data, found.stacks).map((amount) => amount[view.metric]);
    if (!found.stacks.length) said = "nothing matches";
    else if (isDifference) said = `${change(...sides, words)}: ${words(sides[0])} → ${words(sides[1])}`;
    else said = `${percent(sides[0], everything[0][view.metric])} · ${words(sides[0])}`;
  }
  input.setAttribute("aria-invalid", String(wrong));
  byId("found").textContent = said;
  chart.found = found;
  chart.draw();
}

function introduce() {
  const distinct = `${counted(data.stacks.node.length, "stack")} in ${counted(data.threads.length, "thread")}`;
  const totals = byId("totals");
  const legend = (className, text) => {
    const item = element("span", "", text);
    item.prepend(element("i", className, ""));
    byId("legend").append(item);
  };
  if (isDifference) {
    const [before, after] = everything;
    const trend = after.bytes > before.bytes ? "grew" : after.bytes < before.bytes ? "shrank" : "";
    totals.append(element("span", trend, change(before.bytes, after.bytes, bytes)), ` · before ${held(before)} · after ${held(after)} · ${distinct}`);
    legend("grew", "grew");
    legend("same", "as before");
    legend("shrank", "shrank");
  } else {
    totals.textContent = `${held(everything[0])} · ${distinct}`;
    legend("program", "program");
    legend("package", "packages");
    legend("standard", "standard library");
  }
  byId("threads").hidden = data.threads.length < 2;
  byId("empty").hidden = data.stacks.node.length > 0;
}

function listen() {
  const { canvas } = chart;
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("click", (event) => {
    const box = chart.boxAt(event.offsetX, event.offsetY);
    // The rest of narrow boxes is drawn by zooming to where they are.
    if (box) zoom(box.node ?? box.rest[0].parent);
  });
  chart.container.addEventListener("scroll", () => {
    point(null);
    chart.draw();
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow")) select(chart.neighbour(event.key));
    else if (event.key === "Enter" || event.key === " ") zoom(chart.selected ?? chart.zoomed);
    else if (event.key === "Backspace") zoom(chart.zoomed.parent ?? chart.root);
    else if (event.key === "Escape" || event.key === "Home") zoom(chart.root);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === byId("search")) return;
    event.preventDefault();
    byId("search").select();
    byId("search").focus();
  });
  byId("search").addEventListener("input", find);
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Escape") byId("search").value = "";
    if (event.key === "Escape" || event.key === "Enter") canvas.focus();
    if (event.key === "Escape") find();
  });
  byId("regex").addEventListener("click", (event) => {
    const button = event.currentTarget;
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    find();
  });
  for (const button of document.querySelectorAll("[data-metric]")) {
    button.addEventListener("click", () => {
      view.metric = button.dataset.metric;
      refresh(true);
    });
  }
  for (const button of document.querySelectorAll("[data-inverted]")) {
    button.addEventListener("click", () => {
      view.inverted = button.dataset.inverted === "true";
      refresh(false);
    });
  }
  byId("threads").addEventListener("click", () => {
    view.byThread = !view.byThread;
    refresh(false);
  });
  byId("reset").addEventListener("click", () => zoom(chart.root));
  new ResizeObserver(() => chart.layout()).observe(chart.container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.layout());
}

introduce();
listen();
refresh(false);
