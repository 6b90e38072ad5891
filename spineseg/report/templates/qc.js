"use strict";
// Everything the page knows lies in the JSON element; outlines of an image come from its detail.js
// (a script, because a page opened from a disk may not fetch files).
(() => {
const data = JSON.parse(document.getElementById("qc-data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const ROW = 58;                       // px, as in the style sheet
const MARKS = ["", "pass", "fail", "artifact"];
const MARK_GLYPH = { pass: "✓", fail: "✕", artifact: "⚠" };
const GLYPH = { ok: "●", partial: "◐", empty: "○", failed: "✕" };
const AREA_UNIT = data.measures.csa_mean_mm2.unit;
const MARGIN_MM = 12;                 // shown above and below the masks unless all slices are asked for
const KEPT_DETAILS = 40;              // images whose outlines stay in memory

const style = (name) => data.methods.find((m) => m.name === name) || { color: "#ffffff", dash: "" };
const state = Object.assign(
  { show: "all", fill: false, opacity: 80, view: "mosaic", size: 0, all: false, sharp: false, entry: null, k: null, target: null },
  load("view") || {}, { entry: null, k: null, view: "mosaic" });
let marks = load("marks") || {};
let shown = [];                       // entries that pass the filters, in order
const details = new Map();

// ------------------------------------------------------------------ storage
function load(what) {
  try { return JSON.parse(localStorage.getItem(`spineseg-qc:${what === "view" ? "" : data.report}:${what}`)); } catch { return null; }
}
function store(what, value) {
  try { localStorage.setItem(`spineseg-qc:${what === "view" ? "" : data.report}:${what}`, JSON.stringify(value)); }
  catch { say("This browser does not store the marks; use Save marks before closing the page."); }
}
function storeView() {
  const { show, fill, opacity, size, all, sharp } = state;
  store("view", { show, fill, opacity, size, all, sharp });
}

// ------------------------------------------------------------------ small things
function make(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
function say(text) { $("live").textContent = text; }
const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const number = (name, value) => `${fixed(value, data.measures[name].decimals)} ${data.measures[name].unit}`.trim();
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
function title(e) {
  const parts = [e.subject && `sub-${e.subject}`, e.session && `ses-${e.session}`, e.run && `run-${e.run}`].filter(Boolean);
  return parts.join(" ") || e.file;
}
function swatch(name) {
  const { color, dash } = style(name);
  return make("svg:svg", { width: 22, height: 10, "aria-hidden": "true" },
    make("svg:line", { x1: 1, x2: 21, y1: 5, y2: 5, stroke: color, "stroke-width": 3, "stroke-dasharray": dash || null }));
}

// ------------------------------------------------------------------ marks
function markOf(e, method) { return ((marks[e.id] || {})[method] || {}).mark || ""; }
function setMark(e, method, mark) {
  const sha = (e.methods.find((m) => m.name === method) || {}).sha || "";
  marks[e.id] = Object.assign({}, marks[e.id]);
  if (mark) marks[e.id][method] = { mark, sha }; else delete marks[e.id][method];
  store("marks", marks);
  say(mark ? `${method} marked ${mark}` : `mark of ${method} removed`);
  drawMarks(); drawRows(); drawCounts();
}
function targetOf(e) {
  const names = e.methods.map((m) => m.name);
  if (names.includes(state.target)) return state.target;
  return names[0] || "image";
}
function isStale(e, method) {
  const mark = (marks[e.id] || {})[method];
  const result = e.methods.find((m) => m.name === method);
  return Boolean(mark && result && mark.sha && result.sha && mark.sha !== result.sha);
}
function marked(kind) {
  const lines = [];
  for (const e of data.entries) {
    const methods = Object.keys(marks[e.id] || {}).filter((m) => marks[e.id][m].mark === kind);
    if (methods.length) lines.push(`- ${yaml(e.file)}  # ${methods.join(", ")}\n`);
  }
  return [...new Set(lines)].sort().join("") || "[]\n";
}
function yaml(text) { return /^[A-Za-z0-9_./-]+$/.test(text) && !text.startsWith("-") ? text : JSON.stringify(text); }
function download(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ------------------------------------------------------------------ list of images
function severity(e) { return e.flags.reduce((worst, f) => Math.max(worst, f.severity), 0); }
function passes(e) {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [e.image_id, `sub-${e.subject}`, e.session && `ses-${e.session}`, e.contrast, e.suffix, e.dataset,
    ...e.methods.map((m) => `${m.name} ${m.status}`), ...e.flags.map((f) => f.text)].join(" ").toLowerCase();
  if (!words.every((word) => text.includes(word))) return false;
  const contrast = $("filter-contrast").value, wanted = $("filter-state").value;
  if (contrast && e.contrast !== contrast) return false;
  const all = Object.values(marks[e.id] || {}).map((m) => m.mark);
  if (!wanted) return true;
  if (wanted === "bad") return severity(e) >= 3;
  if (wanted === "look") return severity(e) === 2;
  if (wanted === "clean") return severity(e) < 2;
  return wanted === "unmarked" ? all.length === 0 : all.includes(wanted);
}
function filterList() {
  shown = data.entries.filter(passes);
  if ($("sort").value === "name") shown.sort((a, b) => (a.image_id < b.image_id ? -1 : 1));
  $("rows").style.height = `${shown.length * ROW}px`;
  drawRows();
  drawCounts();
  if (state.view === "wall") drawWall();
}
function drawCounts() {
  const count = (test) => data.entries.filter(test).length;
  const bad = count((e) => severity(e) >= 3), look = count((e) => severity(e) === 2), done = count((e) => Object.keys(marks[e.id] || {}).length);
  const part = shown.length === data.entries.length ? "" : `${shown.length} of `;
  $("counts").textContent = `${part}${data.entries.length} images · ${bad} failed or wrong · ${look} to look at · ${done} marked · made ${data.built}`;
}
function drawRows() {
  const list = $("list"), rows = $("rows");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 10);
  rows.replaceChildren(...shown.slice(first, last).map((e, n) => drawRow(e, first + n)));
  if (!shown.length) rows.append(make("p", { class: "none-found" }, data.entries.length ? "No image fits the search." : "No image has been added yet."));
  list.setAttribute("aria-activedescendant", state.entry ? `row-${state.entry.id}` : "");
}
function drawRow(e, position) {
  const row = make("div", { class: "row", role: "option", id: `row-${e.id}`, "aria-selected": String(e === state.entry),
    "aria-posinset": position + 1, "aria-setsize": shown.length, style: `top:${position * ROW}px` });
  const glyphs = make("span", { class: "glyphs" });
  for (const m of e.methods) {
    glyphs.append(make("span", { class: `status-${m.status}`, title: `${m.name}: ${m.status}`, role: "img", "aria-label": `${m.name} ${m.status}` }, GLYPH[m.status] || "?"));
    const mark = markOf(e, m.name);
    if (mark) glyphs.append(make("span", { class: `mark-${mark}`, role: "img", title: `${m.name} marked ${mark}`, "aria-label": `marked ${mark}` }, MARK_GLYPH[mark]));
  }
  const worst = e.flags[0];
  const why = worst ? make("div", { class: `why sev${worst.severity}`, title: e.flags.map((f) => `${f.method} ${f.text}`.trim()).join("\n") },
    worst.method ? `${worst.method} ` : "", worst.text) : make("div", { class: "why" }, "no warning");
  const alone = e.methods.length === 1 && data.methods.length > 2 ? ` · ${e.methods[0].name}` : "";  // reference counts as one
  row.append(make("div", { class: "title" }, make("span", { title: e.image_id }, `${title(e)} · ${e.suffix || e.contrast}${alone}`), glyphs), why);
  row.addEventListener("click", () => open(e));
  return row;
}
function step(by) {
  if (!shown.length) return;
  const at = shown.indexOf(state.entry);
  open(shown[at < 0 ? 0 : clamp(at + by, 0, shown.length - 1)]);
}

// ------------------------------------------------------------------ one image
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
async function open(e, k = null) {
  state.entry = e;
  state.k = k;
  const at = shown.indexOf(e), list = $("list");
  if (at >= 0 && (at * ROW < list.scrollTop || (at + 1) * ROW > list.scrollTop + list.clientHeight)) list.scrollTop = at * ROW - list.clientHeight / 3;
  drawRows(); drawHeading(); drawMarks();
  const detail = await fetchDetail(e);
  if (state.entry !== e) return;      // the reader has gone on meanwhile
  if (detail && state.k === null) state.k = Math.round((detail.extent[0] + detail.extent[1]) / 2);
  drawLayers(); drawStage();
  say(`${title(e)} ${e.contrast}, ${e.flags.length ? e.flags[0].text : "no warning"}`);
  history.replaceState(null, "", `#${encodeURIComponent(e.id)}${state.k === null ? "" : `/${state.k}`}`);
  for (const near of [shown[at + 1], shown[at - 1]]) if (near && near.picture) { fetchDetail(near); new Image().src = near.picture.axial; }
}
const detailNow = () => state.entry && details.get(state.entry.id);
const layerNames = () => (detailNow() ? detailNow().layers.map((l) => l.name) : []);

function drawHeading() {
  const e = state.entry;
  $("name").textContent = `${title(e)} · ${e.suffix || e.contrast}`;
  const facts = [e.dataset, e.contrast, e.file];
  if (e.picture) facts.push(`${e.picture.slices} slices, voxels ${e.picture.zooms.map((z) => +z.toFixed(2)).join(" × ")} mm`);
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  $("facts").title = [e.path, e.command, `spineseg ${e.version}`].filter(Boolean).join("\n");
  $("methods").replaceChildren(...e.methods.map(drawCard), ...e.agreement.filter((pair) => typeof pair.dice === "number").map((pair) => make("div", { class: "card" },
    make("b", {}, `${pair.method_a} – ${pair.method_b}`),
    make("span", { class: "numbers" }, `Dice ${number("dice", pair.dice)} · CSA difference ${number("csa_difference_mm2", pair.csa_difference_mm2)}`))));
  $("flags").replaceChildren(...e.flags.map((f) => make("li", { class: `sev${f.severity}` },
    { 4: "✕ ", 3: "✕ ", 2: "⚠ ", 1: "• " }[f.severity], f.method ? `${f.method}: ` : "", f.text)));
}
function drawCard(m) {
  const numbers = data.shown.filter((name) => name in m.metrics).map((name) => `${data.measures[name].words} ${number(name, m.metrics[name])}`);
  if (m.seconds !== null) numbers.push(number("seconds", m.seconds));
  return make("div", { class: "card" }, swatch(m.name), make("b", {}, m.name),
    make("span", { class: `status-${m.status}` }, `${GLYPH[m.status] || ""} ${m.status}`), make("span", { class: "numbers" }, numbers.join(" · ")));
}
function drawMarks() {
  const e = state.entry, target = targetOf(e), names = e.methods.map((m) => m.name);
  $("mark-method").replaceChildren(...names.map((name) => make("option", { value: name }, `mark ${name}`)));
  $("mark-method").value = target;
  $("mark-method").hidden = names.length < 2;
  for (const button of document.querySelectorAll("[data-mark]")) {
    const on = markOf(e, target) === button.dataset.mark;
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("stale", on && isStale(e, target));
    button.title = on && isStale(e, target) ? "marked on an earlier mask; look again" : `${button.dataset.mark} (F)`;
  }
}

// ------------------------------------------------------------------ overlays
function choices() { const names = layerNames(); return names.length > 1 ? ["all", "none", ...names] : ["none", ...names]; }
function showNow() {                  // the choice as it applies to this image
  const names = layerNames();
  if (state.show === "none" || names.includes(state.show)) return state.show;
  return names.length === 1 ? names[0] : "all";
}
function show(choice) {
  state.show = choice;
  if (state.entry && state.entry.methods.some((m) => m.name === choice)) { state.target = choice; drawMarks(); }
  storeView(); drawLayers();
  say(`overlay: ${choice}`);
}
function cycle(by) {
  const all = choices();
  show(all[(all.indexOf(showNow()) + by + all.length) % all.length]);
}
function drawLayers() {
  const now = showNow(), names = layerNames();
  $("layers").replaceChildren(...choices().map((choice) => {
    const button = make("button", { type: "button", "aria-pressed": String(choice === now), "data-show": choice });
    if (names.includes(choice)) button.append(swatch(choice), `${choice} ${data.methods.findIndex((m) => m.name === choice) + 1}`);
    else button.append(choice === "all" ? "All" : "None");
    button.addEventListener("click", () => show(choice));
    return button;
  }));
  document.body.dataset.overlay = now;
  const opacity = state.opacity / 100;
  const rules = names.map((name, n) => {
    const { color, dash } = style(name), visible = now === "all" || now === name;
    return `.curve-${n}{stroke:${color};fill:${color};stroke-width:1.6px;opacity:${visible ? 1 : 0.45};stroke-dasharray:${dash || "none"}}` + `.layer-${n}{display:${visible ? "inline" : "none"};stroke:${color};stroke-dasharray:${dash || "none"};` +
      `stroke-width:1.3px;stroke-opacity:${Math.min(1, opacity + 0.15)};fill:${color};fill-opacity:${state.fill && name !== "reference" ? opacity * 0.5 : 0}}` +
      `.single .layer-${n}{stroke-width:2.4px}`;
  });
  $("layer-style").textContent = rules.join("\n");
  for (const button of document.querySelectorAll("[data-fill]")) button.setAttribute("aria-pressed", String((button.dataset.fill === "1") === state.fill));
  drawReadout();
}

// ------------------------------------------------------------------ tiles
function sliceRange(detail) {
  const count = detail.tiles.centres.length;
  if (state.all) return [0, count - 1];
  const margin = Math.ceil(MARGIN_MM / detail.tiles.zooms[2]);
  return [Math.max(0, detail.extent[0] - margin), Math.min(count - 1, detail.extent[1] + margin)];
}
function makeTile(e, detail, k, size, isFirst) {
  const { tiles, layers } = detail, t = tiles.centres.length - 1 - k, [x, y] = tiles.centres[t];
  const column = t % tiles.columns, row = Math.floor(t / tiles.columns);
  const tile = make("div", { class: `tile${k === state.k ? " current" : ""}`, "data-k": k, title: `slice ${k}`,
    style: `--tile:${size}px;background-image:url("${encodeURI(e.picture.axial)}");background-size:${tiles.columns * size}px auto;` +
      `background-position:${-column * size}px ${-row * size}px` });
  const sx = tiles.zooms[0] / tiles.pixel, sy = tiles.zooms[1] / tiles.pixel, half = tiles.size / 2;
  const group = make("svg:g", { transform: `matrix(${sx} 0 0 ${-sy} ${half - (x + 0.5) * sx} ${half + (y + 0.5) * sy})` });
  layers.forEach((layer, n) => { if (layer.paths[t]) group.append(make("svg:path", { class: `layer layer-${n}`, d: layer.paths[t] })); });
  tile.append(make("svg:svg", { viewBox: `0 0 ${tiles.size} ${tiles.size}`, "aria-hidden": "true" }, group), make("span", { class: "number" }, String(k)));
  if (isFirst) for (const letter of "APRL") tile.append(make("span", { class: `letter ${letter.toLowerCase()}` }, letter));
  return tile;
}
function drawStage() {
  const e = state.entry, detail = detailNow(), canvas = $("canvas");
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
  drawSide(e, detail, low, high);       // first, for it takes width from the tiles
  if (state.view === "slice") drawSingle(e, detail);
  else {
    const size = state.size || fitSize(high - low + 1, canvas), tiles = [];
    for (let k = high; k >= low; k--) tiles.push(makeTile(e, detail, k, size, k === high));
    canvas.replaceChildren(make("div", { class: "mosaic", style: `--tile:${size}px` }, ...tiles));
    $("size").value = size;
  }
  drawReadout();
}
function drawViewButtons() {
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
}
function drawWall() {                 // every image of the list at a glance
  drawViewButtons();
  $("readout").textContent = `${shown.length} images, as in the list`;
  $("canvas").replaceChildren(make("div", { class: "wall" }, ...shown.map((e) => {
    const item = make("button", { type: "button", class: e === state.entry ? "here" : null });
    if (e.picture) item.append(make("img", { src: encodeURI(e.picture.preview), alt: "", loading: "lazy" }));
    const worst = e.flags[0];
    item.append(make("span", { class: "caption" }, `${title(e)} · ${e.suffix || e.contrast}`),
      make("span", { class: worst ? `sev${worst.severity}` : "" }, worst ? `${worst.method} ${worst.text}`.trim() : "no warning"));
    item.addEventListener("click", () => { state.view = "mosaic"; open(e); });
    return item;
  })));
  const here = $("canvas").querySelector(".here");
  if (here) here.scrollIntoView({ block: "center" });
}
function fitSize(count, canvas) {     // the largest tile with which all slices fit the window, within reason
  const width = canvas.clientWidth - 20, height = canvas.clientHeight - 6;
  for (let columns = 1; columns <= 60; columns++) {
    const size = Math.floor(width / columns);
    if (size <= 300 && Math.ceil(count / columns) * size <= height) return Math.max(88, size);
  }
  return 88;
}
function drawSingle(e, detail) {
  const canvas = $("canvas"), size = Math.floor(Math.min(canvas.clientWidth, canvas.clientHeight)) - 4;
  canvas.replaceChildren(make("div", { class: "single" }, makeTile(e, detail, state.k, size, true)));
}
function goTo(k, announce = true) {
  const detail = detailNow();
  if (!detail || state.view === "wall") return;
  state.k = clamp(k, 0, detail.tiles.centres.length - 1);
  if (state.view === "slice") drawSingle(state.entry, detail);
  else {
    const [low, high] = sliceRange(detail);
    state.k = clamp(state.k, low, high);
    for (const tile of document.querySelectorAll(".tile.current")) tile.classList.remove("current");
    const tile = document.querySelector(`.tile[data-k="${state.k}"]`);
    if (tile) { tile.classList.add("current"); tile.scrollIntoView({ block: "nearest" }); }
  }
  moveCursor(); drawReadout();
  if (announce) say(`slice ${state.k}, ${areasHere(detail).join(", ")}`);
}
function setView(view) {
  state.view = view;
  drawStage();
  if (view === "mosaic") goTo(state.k, false);
  say({ slice: `slice ${state.k}`, mosaic: "all slices", wall: "all images" }[view]);
}
const areasHere = (detail) => detail.layers.map((l) => `${l.name} ${l.csa[state.k] === null ? "no cord" : `${l.csa[state.k].toFixed(1)} ${AREA_UNIT}`}`);
function drawReadout() {
  const detail = detailNow();
  if (!detail || state.k === null) { $("readout").textContent = ""; return; }
  const count = detail.tiles.centres.length, native = detail.native.flipped ? count - 1 - state.k : state.k;
  $("readout").replaceChildren(`Slice ${state.k} of ${count}`, make("span", { class: "dim" }, `  (0 is the lowest; index ${native} on axis ${detail.native.axis} of the file)   `), areasHere(detail).join(" · "));
}

// ------------------------------------------------------------------ sagittal strip and area, one axis for both
let axis = null;                      // how slices map to the strip's pixels
function drawSide(e, detail, low, high) {
  const side = $("side"), strip = detail.sagittal, count = detail.tiles.centres.length;
  const height = $("canvas").clientHeight - 2, top = 34, bottom = 26;
  const span = high - low + 1, mm = span * strip.zooms[1];
  const perMm = Math.min((height - top - bottom) / mm, clamp(window.innerWidth * 0.17, 150, 330) / (strip.columns * strip.zooms[0]));
  const body = mm * perMm, width = strip.columns * strip.zooms[0] * perMm, chart = 150, left = width + 40;
  axis = { top, low, high, rowPx: strip.zooms[1] * perMm };
  const svg = make("svg:svg", { width: left + chart + 14, height: Math.max(top + body + bottom, 140), role: "img",
    "aria-label": "Sagittal plane along the cord, and area of every slice" });
  svg.append(make("svg:clipPath", { id: "strip-clip" }, make("svg:rect", { x: 0, y: top, width, height: body })));
  const clipped = make("svg:g", { "clip-path": "url(#strip-clip)" });
  const rowPx = axis.rowPx, columnPx = strip.zooms[0] * perMm, y0 = top - (count - 1 - high) * rowPx;
  clipped.append(make("svg:image", { href: encodeURI(e.picture.sagittal), x: 0, y: y0, width, height: count * rowPx, preserveAspectRatio: "none" }));
  const group = make("svg:g", { transform: `matrix(${-columnPx} 0 0 ${-rowPx} ${(strip.first + strip.columns) * columnPx} ${y0 + count * rowPx})` });
  detail.layers.forEach((layer, n) => group.append(make("svg:path", { class: `layer layer-${n}`, d: layer.sagittal })));
  clipped.append(group);
  svg.append(clipped, ...letters(width, top, body), ...areaChart(detail, left, chart, top, body, low, high));
  svg.append(make("svg:g", { id: "cursor" },
    make("svg:rect", { x: 0, width, height: Math.max(rowPx, 1.5), fill: "#8ecbff", "fill-opacity": 0.35 }),
    make("svg:line", { x1: left, x2: left + chart, stroke: "#8ecbff", "stroke-width": 1.5 })));
  side.replaceChildren(svg);
  moveCursor();
}
function letters(width, top, body) {
  const text = (x, y, letter, anchor = "middle") => make("svg:text", { x, y, "text-anchor": anchor, class: "strong" }, letter);
  return [text(width / 2, top - 6, "S"), text(width / 2, top + body + 14, "I"), text(4, top - 6, "A", "start"), text(width - 3, top - 6, "P", "end")];
}
function areaChart(detail, left, chart, top, body, low, high) {
  const limits = data.plausible;         // null: none are set
  const values = detail.layers.flatMap((l) => l.csa.slice(low, high + 1)).filter((v) => v !== null);
  const reach = Math.max(limits ? limits[1] * 1.05 : 0, Math.max(0, ...values) * 1.05) || 100;
  const tick = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((step) => reach / step <= 6) || 1000;
  const most = Math.ceil(reach / tick) * tick;
  const x = (area) => left + (area / most) * chart, y = (k) => top + (high - k + 0.5) * axis.rowPx;
  const parts = limits ? [make("svg:rect", { class: "plausible", x: x(limits[0]), y: top, width: x(limits[1]) - x(limits[0]), height: body, fill: "#8fdcae", "fill-opacity": 0.07 })] : [];
  for (let area = 0; area <= most; area += tick) {
    parts.push(make("svg:line", { x1: x(area), x2: x(area), y1: top, y2: top + body, stroke: "#ffffff", "stroke-opacity": area ? 0.1 : 0.35 }));
    parts.push(make("svg:text", { x: x(area), y: top + body + 14, "text-anchor": "middle" }, String(area)));
  }
  const corrected = detail.layers.some((l) => l.corrected);
  const heading = make("svg:text", { x: left + chart / 2, y: 16, "text-anchor": "middle", class: "strong" }, `area, ${AREA_UNIT}`);
  heading.append(make("svg:title", {}, (corrected ? "Corrected for the cord's angle." : "In the slice, not corrected for the cord's angle.") +
    (limits ? ` Shaded: plausible, ${limits[0]} to ${limits[1]} ${AREA_UNIT}.` : "")));
  parts.push(heading);
  const every = Math.max(1, Math.ceil((high - low + 1) / Math.max(2, Math.floor(body / 28))));
  for (let k = low; k <= high; k += every) parts.push(make("svg:text", { x: left - 6, y: y(k) + 4, "text-anchor": "end" }, String(k)));
  detail.layers.forEach((layer, n) => parts.push(...areaLine(layer.csa, n, x, y, low, high)));
  return parts;
}
function areaLine(csa, n, x, y, low, high) {
  let path = "", pen = "M";
  const dots = [];
  for (let k = low; k <= high; k++) {
    if (csa[k] === null) { pen = "M"; continue; }
    path += `${pen}${x(csa[k]).toFixed(1)} ${y(k).toFixed(1)}`;
    pen = "L";
    if (high - low < 60) dots.push(make("svg:circle", { cx: x(csa[k]), cy: y(k), r: 2, class: `curve-${n}`, style: "stroke:none" }));
  }
  return [make("svg:path", { d: path, class: `curve-${n}`, style: "fill:none" }), ...dots];
}
function moveCursor() {
  const cursor = $("cursor");
  if (!cursor || !axis || state.k === null) return;
  const y = axis.top + (axis.high - state.k) * axis.rowPx, inside = state.k >= axis.low && state.k <= axis.high;
  cursor.style.display = inside ? "" : "none";
  cursor.children[0].setAttribute("y", y);
  for (const end of ["y1", "y2"]) cursor.children[1].setAttribute(end, y + axis.rowPx / 2);
}

// ------------------------------------------------------------------ events
const KEYS = {
  ArrowDown: () => step(1), ArrowUp: () => step(-1), ArrowRight: () => cycle(1), ArrowLeft: () => cycle(-1),
  ",": () => goTo(state.k + 1), ".": () => goTo(state.k - 1), k: () => goTo(state.k + 1), j: () => goTo(state.k - 1),
  PageUp: () => goTo(state.k + 10), PageDown: () => goTo(state.k - 10),
  Enter: () => setView("slice"), Escape: () => setView("mosaic"), w: () => setView(state.view === "wall" ? "mosaic" : "wall"), v: showCommand,
  o: toggleFill, d: toggleFit, f: () => cycleMark(), m: nextTarget, a: () => show("all"), 0: () => show("none"),
  "/": () => { $("search").focus(); $("search").select(); }, "?": () => $("help").showModal(),
};
function toggleFill() { state.fill = !state.fill; storeView(); drawLayers(); say(state.fill ? "fill" : "outline"); }
function toggleFit() { state.size = state.size ? 0 : 220; storeView(); drawStage(); say(state.size ? "large tiles" : "fitted"); }
function cycleMark() {
  const e = state.entry, target = targetOf(e);
  setMark(e, target, MARKS[(MARKS.indexOf(markOf(e, target)) + 1) % MARKS.length]);
}
function showCommand() {
  const e = state.entry, maps = ["red", "blue-lightblue", "green", "yellow"];
  const quoted = (path) => (/^[\w./:-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);
  const masks = e.methods.filter((m) => m.mask).map((m, n) => ` ${quoted(m.mask)} -cm ${maps[n % maps.length]} -a 70.0`);
  $("command").value = `fsleyes ${quoted(e.path)} -cm greyscale${masks.join("")} &`;
  $("command-box").showModal();
  $("command").select();
}
function nextTarget() {
  const names = state.entry.methods.map((m) => m.name);
  state.target = names[(names.indexOf(targetOf(state.entry)) + 1) % names.length] || null;
  drawMarks(); say(`mark is about ${state.target}`);
}
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const field = event.target.matches("input[type=search], select");
  if (field) {
    if (event.key === "Escape" || event.key === "Enter") event.target.blur();
    return;
  }
  const onButton = event.target.matches("button, label, input");
  if (onButton && (event.key === "Enter" || event.key === " " || (event.target.type === "range" && event.key.startsWith("Arrow")))) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = /^[1-9]$/.test(name) ? (data.methods[Number(name) - 1] || {}).name : null;  // the same in every image
  if (!state.entry && name !== "/" && name !== "?") return;
  if (digit && layerNames().includes(digit)) show(digit);
  else if (digit) say(`no mask by ${digit}`);
  else if (KEYS[name]) KEYS[name]();
  else return;
  event.preventDefault();
}
function connect() {
  document.addEventListener("keydown", onKey);
  for (const id of ["search", "filter-contrast", "filter-state", "sort"]) $(id).addEventListener("input", () => { $("list").scrollTop = 0; filterList(); });
  $("list").addEventListener("scroll", drawRows);
  $("canvas").addEventListener("click", (event) => { const tile = event.target.closest(".mosaic .tile"); if (tile) goTo(Number(tile.dataset.k)); });
  $("canvas").addEventListener("dblclick", (event) => { if (event.target.closest(".tile")) setView(state.view === "slice" ? "mosaic" : "slice"); });
  $("canvas").addEventListener("wheel", (event) => {
    if (state.view !== "slice" || event.ctrlKey) return;
    event.preventDefault();
    goTo(state.k - Math.sign(event.deltaY), false);
  }, { passive: false });
  $("side").addEventListener("click", (event) => {
    if (axis) goTo(clamp(axis.high - Math.floor((event.clientY - $("side").getBoundingClientRect().top - axis.top) / axis.rowPx), axis.low, axis.high));
  });
  for (const button of document.querySelectorAll("[data-fill]")) button.addEventListener("click", () => { if ((button.dataset.fill === "1") !== state.fill) toggleFill(); });
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
  for (const button of document.querySelectorAll("[data-mark]")) button.addEventListener("click", () => {
    const target = targetOf(state.entry);
    setMark(state.entry, target, markOf(state.entry, target) === button.dataset.mark ? "" : button.dataset.mark);
  });
  $("mark-method").addEventListener("change", () => { state.target = $("mark-method").value; drawMarks(); });
  $("opacity").addEventListener("input", () => { state.opacity = Number($("opacity").value); storeView(); drawLayers(); });
  $("size").addEventListener("input", () => { state.size = Number($("size").value); storeView(); drawStage(); });
  $("all-slices").addEventListener("change", () => { state.all = $("all-slices").checked; storeView(); drawStage(); });
  $("pixels").addEventListener("change", () => { state.sharp = $("pixels").checked; storeView(); drawStage(); });
  $("save-fail").addEventListener("click", () => download("qc_fail.yml", marked("fail")));
  $("save-artifact").addEventListener("click", () => download("qc_artifact.yml", marked("artifact")));
  $("save-all").addEventListener("click", () => download("qc_marks.json", JSON.stringify({ report: data.report, marks }, null, 1)));
  $("load").addEventListener("change", loadMarks);
  $("load-label").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("load").click(); } });
  $("command-open").addEventListener("click", showCommand);
  $("help-open").addEventListener("click", () => $("help").showModal());
  window.addEventListener("resize", () => { drawRows(); if (state.entry) drawStage(); });
}
async function loadMarks() {
  try {
    const content = JSON.parse(await $("load").files[0].text());
    if (typeof content.marks !== "object" || content.marks === null) throw new Error("no marks in it");
    marks = Object.assign({}, marks, content.marks);
    store("marks", marks);
    say("marks loaded");
  } catch (error) { alert(`This file cannot be used: ${error.message}`); }
  $("load").value = "";
  filterList(); if (state.entry) drawMarks();
}
function start() {
  const contrasts = [...new Set(data.entries.map((e) => e.contrast).filter(Boolean))].sort();
  $("filter-contrast").replaceChildren(make("option", { value: "" }, "contrast"), ...contrasts.map((c) => make("option", { value: c }, c)));
  $("opacity").value = state.opacity; $("all-slices").checked = state.all; $("pixels").checked = state.sharp;
  connect(); filterList();
  const [id, k] = decodeURIComponent(location.hash.slice(1)).split("/");
  const wanted = data.entries.find((e) => e.id === id || e.image_id === id) || shown[0];
  if (wanted) open(wanted, k === undefined || k === "" ? null : Number(k));
  else $("canvas").append(make("p", { class: "message" }, "Nothing to review yet: spineseg propseg -qc or spineseg qc adds images."));
}
start();
})();
