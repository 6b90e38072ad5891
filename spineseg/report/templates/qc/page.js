// All data of the page are in the JSON element; outlines of an image come from its detail.js
// (a script, because a page opened from a disk may not fetch files).
const data = JSON.parse(document.getElementById("qc-data").textContent);
const app = document.getElementById("app");
const $ = (id) => document.getElementById(id) || app.querySelector(`#${id}`);  // a blind comparison hides the page
document.getElementById("qc-data").remove();
const SVG = "http://www.w3.org/2000/svg";
const GLYPH = { ok: "●", partial: "◐", doubtful: "▲", empty: "○", failed: "✕" };
const AREA_UNIT = data.measures.csa_mean_mm2.unit;
const REFERENCE = "reference";
const ALL = "all methods";            // a mark may be about each of them
const NOTICE_MS = 8000;               // two short sentences are read in half this time

const VIEW = { only: "", fill: false, red: false, difference: false, opacity: 80, size: 0, all: false, sharp: false };
const kept = Object.entries(load("view") || {}).filter(([name, value]) => typeof value === typeof VIEW[name]);
const state = { ...VIEW, ...Object.fromEntries(kept), on: true, view: "mosaic", entry: null, k: null, target: null, chosenOn: null, pair: "" };
state.target = state.only || null;     // marks are about what is seen

function key(what) { return `spineseg-qc:${what === "view" || what === "rater" ? "" : data.report}:${what}`; }
function load(what) {
  try { return JSON.parse(localStorage.getItem(key(what))); } catch { return null; }
}
const stored = new Map();              // text that this window has stored last, or read
const unstored = new Set();            // what the browser did not store
function store(what, value) {
  const text = JSON.stringify(value);
  try { localStorage.setItem(key(what), text); stored.set(what, text); unstored.delete(what); }
  catch {
    if (!unstored.size) tell("This browser stores nothing more: it is set so, or its store is full. Marks are kept until this page is closed: use Save marks before.");
    unstored.add(what);
  }
}
function isNews(what) {                // whether another window of the same page has stored something since
  if (unstored.has(what)) return false;  // this window knows more than the store
  let text = null;
  try { text = localStorage.getItem(key(what)); } catch { return false; }
  if (text === null || text === stored.get(what)) return false;
  stored.set(what, text);
  return true;
}
function storeView() {
  const { only, fill, red, difference, opacity, size, all, sharp } = state;
  store("view", { only, fill, red, difference, opacity, size, all, sharp });
}

function make(tag, attributes = {}, ...children) {
  const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "style") element.style.cssText = value;  // not as an attribute, because the content policy refuses that
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
function say(text) { $("live").textContent = text; }
let noticed = null;                    // the timer of the line that is shown
function notice(text) {                // a message that a reader must see, not only hear: shown for a while, above everything
  say(text);
  clearTimeout(noticed);
  $("notice").textContent = text;
  $("notice").hidden = !text;
  noticed = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}
const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const number = (name, value) => `${fixed(value, data.measures[name].decimals)} ${data.measures[name].unit}`.trim();
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const style = (name) => data.methods.find((m) => m.name === name) || { color: "#ffffff", dash: "" };
const colorOf = (name) => (state.red && name !== REFERENCE ? "#ff2020" : style(name).color);
const methodsOf = (e) => e.methods.map((m) => m.name);
function swatch(name) {
  return make("svg:svg", { width: 22, height: 10, "aria-hidden": "true" },
    make("svg:line", { x1: 1, x2: 21, y1: 5, y2: 5, stroke: colorOf(name), "stroke-width": 3, "stroke-dasharray": style(name).dash || null }));
}
function download(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const entryOf = new Map(data.entries.map((e) => [e.id, e]));

// every entity of the name distinguishes images: acquisition, run, reconstruction, mt-on or mt-off ...
function entities(e) { return e.image_id.split("_").filter((part) => /^[A-Za-z]+-./.test(part)).join(" "); }
const titles = new Map();
{
  const names = (e) => (entities(e) ? `${entities(e)} · ${e.suffix || e.contrast}` : e.file);
  const count = new Map();
  for (const e of data.entries) count.set(names(e), (count.get(names(e)) || 0) + 1);
  for (const e of data.entries) titles.set(e, count.get(names(e)) > 1 ? `${names(e)} · ${e.path}` : names(e));
}
const title = (e) => titles.get(e);
