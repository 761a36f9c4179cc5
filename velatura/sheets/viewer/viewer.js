"use strict";
// The page of a sheet: a grid over two axes of any number, one zoom for all cells, two cells compared.

const sheet = JSON.parse(document.getElementById("sheet").textContent);
const pictures = JSON.parse(document.getElementById("pictures").textContent);
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const byPlace = new Map(sheet.cells.map((cell) => [cell.place.join(), cell]));
const axes = sheet.axes;

const state = {
  x: 0, y: axes.length > 1 ? 1 : -1, at: axes.map(() => 0),
  chosen: null, a: null, b: null, mode: "slider", cut: 0.5,
  favourites: new Set(sheet.said.favourites), notes: { ...sheet.said.notes },
};
const view = { scale: 1, x: 0, y: 0 };

// --- favourites and notes: a page may not write beside itself unasked. Where the browser lets a person choose a file,
// that file is kept up to date from then on; elsewhere it is given as a download. In between the browser remembers.
const memory = `velatura-sheet:${sheet.cells.map((cell) => cell.name).join().slice(0, 4000)}`;
let chosenFile = null, unsaved = false;

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(memory) || "null");
    if (kept) take(kept);
  } catch { /* a browser that keeps nothing for files */ }
}

function said() {
  const notes = Object.fromEntries(Object.entries(state.notes).filter(([, note]) => note).sort());
  return { favourites: [...state.favourites].sort(), notes };
}

function keep() {
  try { localStorage.setItem(memory, JSON.stringify(said())); } catch { /* as above */ }
  unsaved = true;
  if (chosenFile) write();
  else saved();
}

function saved() {
  $("save").textContent = unsaved ? "save notes \u2022" : "save notes";
}

function take(told) {
  if (!Array.isArray(told.favourites) || typeof told.notes !== "object") throw new Error("no notes");
  state.favourites = new Set([...state.favourites, ...told.favourites.map(String)]);
  for (const [name, note] of Object.entries(told.notes)) state.notes[name] = String(note);
}

const asText = () => JSON.stringify(said(), null, 1) + "\n";
let writing = Promise.resolve();

function write() { // one after the other; the last one has all of it
  writing = writing.then(async () => {
    const out = await chosenFile.createWritable();
    await out.write(asText());
    await out.close();
    unsaved = false;
  }).catch(() => { chosenFile = null; }).then(saved);
  return writing;
}

async function save() {
  if (window.showSaveFilePicker) {
    try {
      chosenFile = await window.showSaveFilePicker({ suggestedName: "notes.json" });
      return write();
    } catch (problem) { if (problem.name === "AbortError") return; }
  }
  const link = element("a", { href: URL.createObjectURL(new Blob([asText()], { type: "application/json" })) });
  link.download = "notes.json";
  link.click();
  unsaved = false;
  saved();
}

// --- the grid
const element = (name, told = {}, ...children) => {
  const made = Object.assign(document.createElement(name), told);
  made.append(...children);
  return made;
};

function cellAt(x, y) {
  const place = [...state.at];
  place[state.x] = x;
  if (state.y >= 0) place[state.y] = y;
  return byPlace.get(place.join());
}

function pivots() {
  const row = $("pivots");
  row.replaceChildren();
  const choice = (label, value, options, told) => {
    const select = element("select", { onchange: () => told(Number(select.value)) });
    for (const [key, text] of options) select.append(element("option", { value: key, textContent: text }));
    select.value = value;
    row.append(element("label", {}, label, select));
    return select;
  };
  const titles = axes.map((axis, number) => [number, axis.title]);
  choice("across", state.x, titles, (axis) => turn(axis, axis === state.y ? state.x : state.y)).id = "across";
  choice("down", state.y, [[-1, "nothing"], ...titles], (axis) =>
    turn(axis === state.x ? (state.y >= 0 ? state.y : state.x) : state.x, axis === state.x && state.y < 0 ? -1 : axis)
  ).id = "down";
  axes.forEach((axis, number) => {
    if (number === state.x || number === state.y) return;
    choice(axis.title, state.at[number], axis.labels.map((label, at) => [at, label]), (at) => {
      state.at[number] = at;
      follow();
    }).dataset.axis = number;
  });
}

function follow() { // the same spot on another layer
  if (state.chosen) {
    const place = [...state.at];
    place[state.x] = state.chosen.place[state.x];
    if (state.y >= 0) place[state.y] = state.chosen.place[state.y];
    state.chosen = byPlace.get(place.join()) || null;
  }
  draw();
}

function turn(x, y) {
  if (state.chosen) state.at = [...state.chosen.place];
  state.x = x;
  state.y = y === x ? -1 : y;
  draw();
}

function draw() {
  pivots();
  const across = axes[state.x].labels, down = state.y >= 0 ? axes[state.y].labels : [""];
  fill(across.length);
  const head = element("tr", {}, element("th"));
  across.forEach((label) => head.append(element("th", { scope: "col", textContent: label })));
  const body = element("tbody");
  down.forEach((label, y) => {
    const row = element("tr", {}, element("th", { scope: "row", textContent: label }));
    across.forEach((_, x) => row.append(element("td", {}, tile(cellAt(x, y)))));
    body.append(row);
  });
  $("grid").replaceChildren(element("table", {}, element("thead", {}, head), body));
  mark();
}

function fill(columns) { // as wide as the window, within reason; a phone shows two
  const room = ($("grid").clientWidth - 150) / columns - 6;
  if (window.innerWidth > 640) root.style.setProperty("--cell", `${Math.min(320, Math.max(110, Math.floor(room)))}px`);
  else root.style.removeProperty("--cell");
}

function tile(cell) {
  if (!cell) return "";
  const image = element("img", { src: pictures[cell.picture], draggable: false, alt: described(cell), decoding: "async" });
  const made = element("div", { className: "cell" }, image, element("span", { className: "mark" }));
  made.dataset.name = cell.place.join();
  return made;
}

const described = (cell) => axes.map((axis, number) => axis.labels[cell.place[number]]).join(", ");

function mark() {
  for (const tileOf of document.querySelectorAll(".cell")) {
    const cell = byPlace.get(tileOf.dataset.name);
    const favourite = state.favourites.has(cell.name);
    tileOf.classList.toggle("on", cell === state.chosen);
    tileOf.classList.toggle("a", cell === state.a);
    tileOf.classList.toggle("b", cell === state.b);
    tileOf.classList.toggle("dim", $("only").checked && !favourite);
    const signs = [cell === state.a ? "A" : "", cell === state.b ? "B" : "", favourite ? "\u2605" : "",
      state.notes[cell.name] ? "\u270e" : ""];
    tileOf.lastChild.textContent = signs.filter(Boolean).join(" ");
  }
  const cell = state.chosen;
  $("bar").hidden = !cell;
  if (!cell) return;
  const favourite = state.favourites.has(cell.name);
  $("where").textContent = described(cell);
  $("favourite").setAttribute("aria-pressed", favourite);
  $("favourite").textContent = favourite ? "\u2605" : "\u2606";
  if (document.activeElement !== $("note")) $("note").value = state.notes[cell.name] || "";
  $("made").textContent = cell.text;
  $("compare").disabled = !(state.a && state.b);
}

function choose(cell, { pair = false } = {}) {
  if (!cell) return;
  if (pair && state.chosen && state.chosen !== cell) {
    state.a = state.chosen;
    state.b = cell;
  }
  state.chosen = cell;
  mark();
  const shown = document.querySelector(`.cell[data-name="${cell.place.join()}"]`);
  if (shown) shown.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function step(dx, dy) {
  if (!state.chosen) return choose(cellAt(0, 0));
  const x = state.chosen.place[state.x] + dx, y = state.y >= 0 ? state.chosen.place[state.y] + dy : 0;
  choose(cellAt(x, y));
}

function layer(by) { // through all values of the axes that are neither across nor down
  const others = axes.map((_, number) => number).filter((number) => number !== state.x && number !== state.y);
  for (const number of others) {
    state.at[number] += by;
    if (state.at[number] >= 0 && state.at[number] < axes[number].labels.length) break;
    state.at[number] = by > 0 ? 0 : axes[number].labels.length - 1;
  }
  if (others.length) follow();
}

// --- one zoom for all: in parts of a cell's width, so that it means the same in the pair
function zoomed(scale, at = { x: 0.5, y: 0.5 }) {
  const after = Math.min(Math.max(scale, 1), 32);
  view.x = at.x - (at.x - view.x) * after / view.scale;
  view.y = at.y - (at.y - view.y) * after / view.scale;
  view.scale = after;
  show();
}

function moved(dx, dy) { // gives back what the edge of the picture left over
  const x = view.x + dx, y = view.y + dy;
  view.x = x;
  view.y = y;
  show();
  return { x: x - view.x, y: y - view.y };
}

function show() {
  view.x = Math.min(0, Math.max(1 - view.scale, view.x));
  view.y = Math.min(0, Math.max(1 - view.scale, view.y));
  root.style.setProperty("--s", view.scale);
  // percentages of the picture itself, so that cells of any size go along
  root.style.setProperty("--x", `${view.x * 100}%`);
  root.style.setProperty("--y", `${view.y * 100}%`);
  const cell = document.querySelector(".cell img, .frame img");
  const wide = cell ? cell.clientWidth * view.scale / Math.max(1, cell.naturalWidth) : 1;
  root.classList.toggle("sharp", wide > 2.5);
  root.classList.toggle("zoomed", view.scale > 1);
}

const pointers = new Map();
let travelled = 0, pinch = 0, cutting = false;

function boxOf(target) {
  const box = target.closest(".cell, .frame");
  return box ? box.getBoundingClientRect() : null;
}

const within = (box, x, y) => ({ x: (x - box.left) / box.width, y: (y - box.top) / box.height });

function listen(area) {
  const compared = area.id === "stage";
  area.addEventListener("wheel", (event) => {
    const box = boxOf(event.target);
    if (!box || !(event.ctrlKey || event.metaKey || view.scale > 1 || compared || event.altKey)) return;
    event.preventDefault();
    zoomed(view.scale * Math.exp(-event.deltaY / 300), within(box, event.clientX, event.clientY));
  }, { passive: false });
  for (const name of ["touchstart", "touchmove"]) { // two fingers zoom the cells; one scrolls the page by itself
    area.addEventListener(name, (event) => {
      if (event.touches.length > 1 && event.cancelable && boxOf(event.target)) event.preventDefault();
    }, { passive: false });
  }
  area.addEventListener("pointerdown", (event) => {
    const box = boxOf(event.target);
    if (!box) return;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, box });
    travelled = pinch = 0;
    const line = box.left + box.width * parseFloat(root.style.getPropertyValue("--cut")) / 100;
    const near = Math.abs(event.clientX - line) < (event.pointerType === "touch" ? 28 : 12);
    cutting = compared && state.mode === "slider" && (view.scale === 1 || near);
  });
  area.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const { box } = before, after = { x: event.clientX, y: event.clientY, box };
    pointers.set(event.pointerId, after);
    const dx = after.x - before.x, dy = after.y - before.y;
    const other = [...pointers].find(([number]) => number !== event.pointerId);
    if (other) {
      const gap = Math.hypot(after.x - other[1].x, after.y - other[1].y);
      if (pinch) zoomed(view.scale * gap / pinch, within(box, (after.x + other[1].x) / 2, (after.y + other[1].y) / 2));
      moved(dx / 2 / box.width, dy / 2 / box.height);
      pinch = gap;
      travelled = 99;
      cutting = false;
      return;
    }
    travelled += Math.abs(dx) + Math.abs(dy);
    if (cutting) return cut(within(box, after.x, after.y).x);
    if (view.scale === 1) return; // a finger scrolls
    const left = moved(dx / box.width, dy / box.height);
    if (event.pointerType === "touch" && !compared) area.scrollBy(-left.x * box.width, -left.y * box.height);
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    area.addEventListener(name, (event) => { pointers.delete(event.pointerId); pinch = 0; });
  }
}

// --- two cells compared
let blinking = 0, refit = show;

function cut(share) {
  state.cut = Math.min(1, Math.max(0, share));
  root.style.setProperty("--cut", `${state.cut * 100}%`);
}

function compare(mode = state.mode) {
  if (!(state.a && state.b)) return;
  state.mode = mode;
  clearInterval(blinking);
  $("pair").hidden = false;
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.setAttribute("aria-pressed", button.dataset.mode === mode);
  }
  $("amount").hidden = mode !== "difference";
  $("measure").textContent = "";
  $("legend").textContent = `A: ${described(state.a)}  \u00b7  B: ${described(state.b)}`;
  const image = (cell) => element("img", { src: pictures[cell.picture], alt: described(cell), draggable: false });
  const tag = (letter) => element("span", { className: `tag ${letter.toLowerCase()}`, textContent: letter });
  const one = image(state.a), two = image(state.b), stage = $("stage");
  if (mode === "beside") {
    stage.replaceChildren(element("div", { className: "frame" }, one, tag("A")), element("div", { className: "frame" }, two, tag("B")));
  } else if (mode === "slider") {
    stage.replaceChildren(element("div", { className: "frame" }, one, element("div", { className: "top" }, two),
      element("div", { className: "cut" }), tag("A"), tag("B")));
    cut(state.cut);
  } else if (mode === "blink") {
    const letter = tag("A");
    stage.replaceChildren(element("div", { className: "frame" }, one, two, letter));
    two.style.visibility = "hidden";
    blinking = setInterval(() => {
      const second = two.style.visibility === "hidden";
      two.style.visibility = second ? "visible" : "hidden";
      letter.textContent = second ? "B" : "A";
    }, 600);
  } else {
    const canvas = element("canvas");
    stage.replaceChildren(element("div", { className: "frame" }, canvas));
    Promise.all([one.decode(), two.decode()]).then(() => differ(canvas, one, two));
  }
  Promise.all([one.decode(), two.decode()]).then(() => {
    refit = () => fit(one);
    refit();
    const sizes = [one, two].map((each) => `${each.naturalWidth}x${each.naturalHeight}`);
    if (sizes[0] !== sizes[1] && mode !== "beside") $("legend").textContent += `  \u00b7  B, ${sizes[1]}, is shown as large as A, ${sizes[0]}`;
  });
}

function fit(first) {
  const frames = [...document.querySelectorAll(".frame")], stage = $("stage");
  const narrow = getComputedStyle(stage).flexDirection === "column";
  const roomX = stage.clientWidth / (narrow ? 1 : frames.length) - 8, roomY = stage.clientHeight / (narrow ? frames.length : 1) - 8;
  const scale = Math.min(roomX / first.naturalWidth, roomY / first.naturalHeight);
  for (const frame of frames) {
    frame.style.width = `${first.naturalWidth * scale}px`;
    frame.style.height = `${first.naturalHeight * scale}px`;
  }
  show();
}

function differ(canvas, one, two) {
  canvas.width = one.naturalWidth;
  canvas.height = one.naturalHeight;
  const read = (image) => {
    const brush = element("canvas", { width: canvas.width, height: canvas.height }).getContext("2d", { willReadFrequently: true });
    brush.drawImage(image, 0, 0, canvas.width, canvas.height);
    return brush.getImageData(0, 0, canvas.width, canvas.height);
  };
  const left = read(one), right = read(two), gain = Number($("gain").value);
  let sum = 0, most = 0;
  for (let at = 0; at < left.data.length; at += 4) {
    for (let channel = 0; channel < 3; channel += 1) {
      const off = Math.abs(left.data[at + channel] - right.data[at + channel]);
      sum += off;
      most = Math.max(most, off);
      left.data[at + channel] = Math.min(255, off * gain);
    }
  }
  canvas.getContext("2d").putImageData(left, 0, 0);
  $("measure").textContent = `mean ${(sum / (canvas.width * canvas.height * 3)).toFixed(2)}, largest ${most} of 255`;
}

function close() {
  clearInterval(blinking);
  $("pair").hidden = true;
  show();
}

function swap() {
  [state.a, state.b] = [state.b, state.a];
  mark();
  if (!$("pair").hidden) compare();
}

// --- what a person does
function favourite() {
  if (!state.chosen) return;
  const name = state.chosen.name;
  if (!state.favourites.delete(name)) state.favourites.add(name);
  keep();
  mark();
}

function setEnd(which) {
  state[which] = state.chosen;
  mark();
}

function sideways(by) { // the slider's line, where two are compared
  if ($("pair").hidden) step(by, 0);
  else if (state.mode === "slider") cut(state.cut + by / 20);
}

const keys = {
  ArrowLeft: () => sideways(-1), ArrowRight: () => sideways(1), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
  "+": () => zoomed(view.scale * 1.5), "=": () => zoomed(view.scale * 1.5), "-": () => zoomed(view.scale / 1.5),
  0: () => zoomed(1), a: () => setEnd("a"), b: () => setEnd("b"), Enter: () => compare(),
  s: () => compare("slider"), k: () => compare("blink"), d: () => compare("difference"), e: () => compare("beside"),
  x: swap, p: () => state.y >= 0 && turn(state.y, state.x), "[": () => layer(-1), "]": () => layer(1), f: favourite,
  n: () => $("note").focus(), Escape: close, "?": () => $("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea, button") && event.key !== "Escape") {
    if (event.target.id === "note" && event.key === "Enter") $("grid").focus();
    if (!(event.target.matches("button") && event.key !== "Enter" && event.key !== " ")) return;
  }
  if ($("keys").open || !(event.key in keys)) return;
  event.preventDefault();
  if (event.key === "Escape" && event.target.id === "note") event.target.blur();
  else keys[event.key]();
});

$("grid").addEventListener("click", (event) => {
  const tileOf = event.target.closest(".cell");
  if (tileOf && travelled < 6) choose(byPlace.get(tileOf.dataset.name), { pair: event.shiftKey });
});
$("grid").addEventListener("dblclick", (event) => {
  const box = boxOf(event.target);
  if (box) view.scale > 1 ? zoomed(1) : zoomed(3, within(box, event.clientX, event.clientY));
});
$("note").addEventListener("input", () => {
  if (!state.chosen) return;
  state.notes[state.chosen.name] = $("note").value;
  keep();
  mark();
});
$("file").addEventListener("change", async () => {
  try {
    take(JSON.parse(await $("file").files[0].text()));
    keep();
    mark();
  } catch { alert("This is no notes.json of a sheet."); }
  $("file").value = "";
});
$("in").onclick = () => zoomed(view.scale * 1.5);
$("out").onclick = () => zoomed(view.scale / 1.5);
$("whole").onclick = () => zoomed(1);
$("only").onchange = mark;
$("save").onclick = save;
$("load").onclick = () => $("file").click();
$("help").onclick = () => $("keys").showModal();
$("favourite").onclick = favourite;
$("first").onclick = () => setEnd("a");
$("second").onclick = () => setEnd("b");
$("compare").onclick = () => compare();
$("swap").onclick = swap;
$("close").onclick = close;
$("gain").oninput = () => compare("difference");
for (const button of document.querySelectorAll("[data-mode]")) button.onclick = () => compare(button.dataset.mode);
window.addEventListener("resize", () => {
  fill(axes[state.x].labels.length);
  if ($("pair").hidden) show();
  else refit();
});

$("prompt").textContent = sheet.prompt || "A sheet";
$("settings").textContent = [
  ...Object.entries(sheet.settings).map(([name, value]) => `${name} ${value}`),
  ...(sheet.smaller ? [`pictures shown at ${sheet.smaller[0]} of ${sheet.smaller[1]} pixels`] : []),
].join(" \u00b7 ");
listen($("grid"));
listen($("stage"));
recall();
draw();
choose(cellAt(0, 0));
show();
