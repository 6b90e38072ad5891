// ------------------------------------------------------------------ one image
const LARGE_TILE = 220;               // px; every slice is legible
const MARGIN_MM = 12;                 // shown above and below the masks unless all slices are asked for
const KEPT_DETAILS = 40;              // images whose outlines stay in memory
const details = new Map();
window.spinesegDetail = (id, detail) => { details.set(id, detail); };
function fetchDetail(e) {
  if (details.has(e.id) || !e.picture) return Promise.resolve(details.get(e.id) || null);
  return new Promise((resolve) => {
    const script = make("script", { src: e.picture.detail });
    script.onload = () => { script.remove(); resolve(details.get(e.id) || null); };
    script.onerror = () => { script.remove(); resolve(null); };
    document.head.append(script);
    if (details.size > KEPT_DETAILS) details.delete(details.keys().next().value);
  });
}
const detailNow = () => (state.entry && details.get(state.entry.id)) || null;
const layerNames = () => (detailNow() ? detailNow().layers.map((l) => l.name) : []);

async function open(e, k = null, announce = true) {
  stopFlicker(); endOffer();
  state.entry = e;
  state.k = k;
  const at = shown.indexOf(e), list = $("list");
  if (at >= 0 && (at * ROW < list.scrollTop || (at + 1) * ROW > list.scrollTop + list.clientHeight)) list.scrollTop = at * ROW - list.clientHeight / 3;
  $("viewer").inert = $("marks").hidden = $("tools").hidden = false;
  noteSeen(e);
  drawRows(); drawHeading(); drawMarks();
  const detail = await fetchDetail(e);
  if (state.entry !== e) return;      // the reader has moved on meanwhile
  if (detail) state.k = state.k === null ? Math.round((detail.extent[0] + detail.extent[1]) / 2) : clamp(state.k, 0, detail.tiles.centres.length - 1);
  drawLayers(); drawStage();
  if (announce) say(`${title(e)}, ${reason(e).text}`);
  history.replaceState(null, "", `#${encodeURIComponent(e.id)}${state.k === null ? "" : `/${state.k}`}`);
  for (const near of [shown[at + 1], shown[at - 1]]) if (near && near.picture) { fetchDetail(near); new Image().src = near.picture.axial; }
}
function close(text = data.entries.length ? "No image of the list fits the search." : "Nothing to review yet: spineseg propseg -qc or spineseg qc adds images.") {
  // nothing is shown, so that nothing can be marked
  stopFlicker();
  state.entry = null;
  state.k = null;
  $("name").textContent = "";
  for (const id of ["facts", "methods", "flags", "given", "layers", "side", "readout"]) $(id).replaceChildren();
  $("side").hidden = $("marks").hidden = $("tools").hidden = true;
  $("canvas").replaceChildren(make("p", { class: "message" }, text));
  $("viewer").inert = data.entries.length === 0;
  drawRows();
}

function drawHeading() {
  const e = state.entry;
  $("name").textContent = title(e);
  const facts = [e.dataset, e.contrast, e.file];
  if (e.picture) facts.push(`${e.picture.slices} slices, voxels ${e.picture.zooms.map((z) => +z.toFixed(2)).join(" × ")} mm`);
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  $("facts").title = [e.path, e.command, `spineseg ${e.version}`].filter(Boolean).join("\n");
  $("methods").replaceChildren(...e.methods.map(drawCard), ...e.agreement.filter((pair) => typeof pair.dice === "number").map(drawPair));
  $("flags").replaceChildren(...e.flags.map((f) => make("li", { class: `sev${f.severity}` },
    { 4: "✕ ", 3: "✕ ", 2: "⚠ ", 1: "• ", 0: "" }[f.severity], f.method ? `${f.method}: ` : "", f.text)));
}
const BRIEF = { csa_mean_mm2: "", dice: "Dice" };  // on a card; the full words are its title
function drawPair(pair) {
  const numbers = [["Dice", "dice"], ["CSA difference", "csa_difference_mm2"]].filter(([, name]) => name in pair).map(([words, name]) => `${words} ${number(name, pair[name])}`);
  return make("div", { class: "card pair" }, make("b", {}, `${pair.method_a} – ${pair.method_b}`), make("span", { class: "numbers" }, numbers.join(" · ")));
}
function drawCard(m) {
  const known = data.shown.filter((name) => name in m.metrics).map((name) => [name, number(name, m.metrics[name])]);
  const full = known.map(([name, value]) => `${data.measures[name].words} ${value}`);
  if (m.seconds !== null) full.push(number("seconds", m.seconds));
  const numbers = known.map(([name, value]) => `${name in BRIEF ? BRIEF[name] : data.measures[name].words} ${value}`.trim());
  return make("div", { class: "card", title: full.join("\n") }, swatch(m.name), make("b", {}, m.name),
    make("span", { class: `status-${m.shown}` }, `${GLYPH[m.shown] || ""} ${m.shown}`), make("span", { class: "numbers" }, numbers.join(" · ")));
}

// ------------------------------------------------------------------ overlays
function isVisible(name) {
  const names = layerNames();
  return state.on && (!names.includes(state.only) || state.only === name);
}
function show(name) {                 // one layer alone, or all of them
  state.only = name; state.on = true;
  if (state.entry) chooseTarget(methodsOf(state.entry).includes(name) ? name : ALL);  // marks are about what is seen
  storeView(); drawLayers();
  say(`overlay: ${layerNames().includes(name) ? name : "all"}`);
}
function toggleOverlay() { stopFlicker(); state.on = !state.on; drawLayers(); say(state.on ? "overlay on" : "overlay off"); }
function nextLayer() {
  stopFlicker();
  const all = ["", ...layerNames()];
  show(all[(all.indexOf(layerNames().includes(state.only) ? state.only : "") + 1) % all.length]);
}
function drawLayers() {
  const names = layerNames(), only = names.includes(state.only) ? state.only : "";
  const button = (label, pressed, press, ...content) => {
    const made = make("button", { type: "button", "aria-pressed": String(pressed), "data-show": label }, ...content);
    made.addEventListener("click", () => { stopFlicker(); press(); });
    return made;
  };
  $("layers").replaceChildren(
    button("none", !state.on, toggleOverlay, "Off"),
    ...(names.length > 1 ? [button("all", state.on && !only, () => show(""), "All")] : []),
    ...names.map((name) => button(name, state.on && (only === name || names.length === 1), () => show(name), swatch(name), name)));
  document.body.dataset.overlay = state.on ? only || "all" : "none";
  const opacity = state.opacity / 100;
  const rules = names.map((name, n) => {
    const color = colorOf(name), dash = style(name).dash || "none", visible = isVisible(name);
    return `.curve-${n}{stroke:${color};fill:${color};stroke-width:1.8px;opacity:${visible ? 1 : 0.45};stroke-dasharray:${dash}}`
      + `.layer-${n},.halo-${n}{display:${visible ? "inline" : "none"}}`
      + `.halo-${n}{fill:none;stroke:#000;stroke-width:3.2px;stroke-opacity:${0.55 * opacity}}`  // a dark rim, so that the line shows on white too
      + `.layer-${n}{stroke:${color};stroke-dasharray:${dash};stroke-width:1.5px;stroke-opacity:${Math.min(1, opacity + 0.15)};`
      + `fill:${color};fill-opacity:${state.fill && name !== REFERENCE ? opacity * 0.5 : 0}}`
      + `.beyond-${n}{fill:${state.red ? ["#ff2020", "#40a0ff"][n % 2] : color}}`
      + `.single .layer-${n}{stroke-width:2.4px}.single .halo-${n}{stroke-width:4.6px}`;
  });
  $("layer-style").textContent = rules.join("\n");
  for (const made of document.querySelectorAll("[data-fill]")) made.setAttribute("aria-pressed", String((made.dataset.fill === "1") === state.fill));
  $("difference").setAttribute("aria-pressed", String(state.difference));
  const pairs = detailNow() ? pairsOf(detailNow()) : [];
  $("difference").disabled = $("flicker").disabled = !pairs.length;
  $("pair").hidden = pairs.length < 2;
  $("pair").replaceChildren(...pairs.map((pair) => make("option", { value: pair }, pair)));
  $("pair").value = pairNow(detailNow());
  drawReadout();
}

// ------------------------------------------------------------------ tiles
function sliceRange(detail) {
  const count = detail.tiles.centres.length;
  if (state.all) return [0, count - 1];
  const margin = Math.ceil(MARGIN_MM / detail.tiles.zooms[2]);
  return [Math.max(0, detail.extent[0] - margin), Math.min(count - 1, detail.extent[1] + margin)];
}
function makeTile(e, detail, k, size, isFirst, drawn) {
  const { tiles } = detail, t = tiles.centres.length - 1 - k, [x, y] = tiles.centres[t];
  const column = t % tiles.columns, row = Math.floor(t / tiles.columns);
  const tile = make("div", { class: "tile", "data-k": k, title: `slice ${k}`,
    style: `--tile:${size}px;background-image:url("${encodeURI(e.picture.axial)}");background-size:${tiles.columns * size}px auto;`
      + `background-position:${-column * size}px ${-row * size}px` });
  const sx = tiles.zooms[0] / tiles.pixel, sy = tiles.zooms[1] / tiles.pixel, half = tiles.size / 2;
  const group = make("svg:g", { transform: `matrix(${sx} 0 0 ${-sy} ${half - (x + 0.5) * sx} ${half + (y + 0.5) * sy})` });
  const notes = drawn(group, t);
  tile.append(make("svg:svg", { viewBox: `0 0 ${tiles.size} ${tiles.size}`, "aria-hidden": "true" }, group), make("span", { class: "number" }, String(k)));
  if (notes) tile.append(make("span", { class: "area" }, ...notes));
  if (isFirst) for (const letter of "APRL") tile.append(make("span", { class: `letter ${letter.toLowerCase()}` }, letter));
  return tile;
}
function inOrder(detail, draw) {       // the reference first, so that the methods' outlines lie on it
  for (const isFirst of [true, false]) detail.layers.forEach((layer, n) => { if ((layer.name === REFERENCE) === isFirst) draw(layer, n); });
}
function drawOutlines(detail) {       // what makeTile puts into a tile of the viewer
  const indexOf = (name) => detail.layers.findIndex((l) => l.name === name);
  return (group, t) => {
    const note = [];
    if (state.difference && pairNow(detail)) {
      const parts = differenceAt(detail, t).filter((part) => part.mm2 > 0);
      for (const part of parts) group.append(make("svg:path", { class: `beyond beyond-${indexOf(part.name)}`, d: part.path }));
      note.push(...parts.map((part) => make("span", { title: `${part.name} alone, ${AREA_UNIT}`, style: `color:${colorOf(part.name)}` }, `+${part.mm2.toFixed(1)} `)));
    }
    for (const kind of ["halo", "layer"]) inOrder(detail, (layer, n) => {
      if (layer.paths[t]) group.append(make("svg:path", { class: `${kind} ${kind}-${n}`, d: layer.paths[t] }));
    });
    return note;
  };
}
function drawStage() {
  const e = state.entry, detail = detailNow(), canvas = $("canvas");
  if (state.view !== "wall" && !e) return;
  $("side").hidden = state.view === "wall" || !detail;
  if (state.view === "wall") { drawWall(); return; }
  document.body.classList.toggle("sharp", state.sharp);
  drawViewButtons();
  $("size-label").hidden = state.view !== "mosaic";
  if (!detail) {
    const text = e.picture ? `The pictures of this image are missing (${e.picture.detail}). Run spineseg qc again.` : "There is no picture: the image could not be read. The warning above says why.";
    canvas.replaceChildren(make("p", { class: "message" }, text));
    $("side").replaceChildren();
    return;
  }
  const [low, high] = sliceRange(detail);
  state.k = state.view === "mosaic" ? state.k : clamp(state.k, 0, detail.tiles.centres.length - 1);
  drawSide(e, detail, low, high);       // first, because it takes width from the tiles
  if (state.view === "slice") drawSingle(e, detail);
  else {
    const size = state.size || fitSize(high - low + 1, canvas), tiles = [];
    for (let k = high; k >= low; k--) tiles.push(makeTile(e, detail, k, size, k === high, drawOutlines(detail)));
    canvas.replaceChildren(make("div", { class: "mosaic", style: `--tile:${size}px` }, ...tiles));
    $("size").value = size;
    markCurrent();
  }
  drawReadout();
}
function markCurrent(scroll = false) {
  for (const tile of document.querySelectorAll("#canvas .tile.current")) tile.classList.remove("current");
  const tile = document.querySelector(`#canvas .tile[data-k="${state.k}"]`);
  if (tile) { tile.classList.add("current"); if (scroll) tile.scrollIntoView({ block: "nearest" }); }
}
function drawViewButtons() {
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
}
function fitSize(count, canvas, least = 88) {     // the largest tile with which all slices fit the window, within reason
  const width = canvas.clientWidth - 20, height = canvas.clientHeight - 6;
  for (let columns = 1; columns <= 60; columns++) {
    const size = Math.floor(width / columns);
    if (size <= 300 && Math.ceil(count / columns) * size <= height) return Math.max(least, size);
  }
  return least;
}
function drawSingle(e, detail) {
  const canvas = $("canvas"), size = Math.floor(Math.min(canvas.clientWidth, canvas.clientHeight)) - 4;
  canvas.replaceChildren(make("div", { class: "single" }, makeTile(e, detail, state.k, size, true, drawOutlines(detail))));
}
function goTo(k, announce = true) {
  const detail = detailNow();
  if (!detail || state.view === "wall") return;
  state.k = clamp(k, 0, detail.tiles.centres.length - 1);
  if (state.view === "slice") drawSingle(state.entry, detail);
  else {
    const [low, high] = sliceRange(detail);
    state.k = clamp(state.k, low, high);
    markCurrent(true);
  }
  moveCursor(); drawReadout();
  if (announce) say(`slice ${state.k}, ${areasHere(detail).join(", ")}`);
}
function setView(view) {
  if (!state.entry && view !== "wall") return;
  endOffer();
  state.view = view;
  drawStage();
  if (state.view !== view) return;     // the wall stays closed
  if (view === "mosaic") goTo(state.k, false);
  say({ slice: `slice ${state.k}`, mosaic: "all slices", wall: "all images" }[view]);
}
const areasHere = (detail) => detail.layers.map((l) => `${l.name} ${l.csa[state.k] === null ? "no cord" : `${l.csa[state.k].toFixed(1)} ${AREA_UNIT}`}`);
function drawReadout() {
  const detail = detailNow();
  if (!detail || state.k === null) { $("readout").textContent = ""; return; }
  const count = detail.tiles.centres.length, native = detail.native.flipped ? count - 1 - state.k : state.k;
  const differs = state.difference && pairNow(detail) ? `${differenceText(differenceAt(detail, count - 1 - state.k))} · ` : "";
  $("readout").replaceChildren(`Slice ${state.k}, of 0 to ${count - 1} · ${differs}${areasHere(detail).join(" · ")}`,
    make("span", { class: "dim", title: "slice 0 is the lowest" }, `  (index ${native} on axis ${detail.native.axis} of the file)`));
}

// ------------------------------------------------------------------ other viewers
function absolute(path) { return path.startsWith("/") ? path : `${data.root}/${path}`; }
const quoted = (path) => `'${absolute(path).replaceAll("'", "'\\''")}'`;
function showCommand() {
  const e = state.entry, maps = ["red", "blue-lightblue", "green", "yellow"], masks = e.methods.filter((m) => m.mask);
  const layers = masks.map((m, n) => ` ${quoted(m.mask)} -cm ${maps[n % maps.length]} -a 70.0`);
  $("command").value = [`fsleyes ${quoted(e.path)} -cm greyscale${layers.join("")} &`,
    ...masks.map((m) => `itksnap -g ${quoted(e.path)} -s ${quoted(m.mask)} &`)].join("\n");
  $("command-box").showModal();
  $("command").select();
  $("command").scrollTo(0, 0);
}
