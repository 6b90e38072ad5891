// ------------------------------------------------------------------ blind comparison
// Two masks of one image as X and Y: names, colours, areas, scores, warnings and the list are hidden,
// order and sides are random, and a tenth of the images comes twice, to measure how far raters agree with themselves.
const REPEATED = 0.1;
let offered = false;                   // whether the page asks to compare blind before it shows anything
let asked = null;                      // {entry, slice}: what the address names, opened once the question is answered
let sides = null;                      // {trial, x, y}: drawn when a comparison is shown, and never stored before the answer

function blindPairs(e) {               // names of two methods whose masks can be compared
  const names = e.picture ? e.methods.filter((m) => m.mask && (m.status === "ok" || m.status === "partial")).map((m) => m.name) : [];
  return names.flatMap((a, n) => names.slice(n + 1).map((b) => [a, b]));
}

// A round is {trials: [{image, pair, repeat}], at}, one of each rater; the browser's store does not know the sides.
const roundKey = () => `${rater}:round`;
function saveRound() { store(roundKey(), round); }
function loadRound() {                 // images that are no longer on the page are not asked about
  const stored = load(roundKey());
  if (!stored || !Array.isArray(stored.trials) || !Number.isInteger(stored.at)) return null;
  const isThere = (trial) => Boolean(trial) && entryOf.has(trial.image) && blindPairs(entryOf.get(trial.image)).some((pair) => String(pair) === String(trial.pair));
  const trials = stored.trials.filter(isThere), at = stored.trials.slice(0, stored.at).filter(isThere).length;
  return at < trials.length ? { trials, at } : null;
}
{
  const former = load("round");        // an earlier version had only one round
  if (former && former.rater) { store(`${former.rater}:round`, former); store("round", null); }
}
let round = loadRound();
const isQuiet = () => offered || round !== null;  // the list then names images, and shows nothing about the methods

// an image that a rater has seen with the methods' names is no longer blind to him or her, as long as its masks are the same
const seen = new Map();                // rater -> keys
const seenKey = (e) => [e.id, ...e.methods.map((m) => (m.sha || "").slice(0, 8))].join(" ");
function takeSeen() {                  // images that were seen in another window
  if (!isNews("seen")) return;
  for (const [name, keys] of Object.entries(load("seen") || {})) if (Array.isArray(keys)) seen.set(name, new Set([...(seen.get(name) || []), ...keys]));
}
function noteSeen(...entries) {
  takeSeen();
  const own = seen.get(rater) || new Set(), before = own.size;
  for (const e of entries) if (blindPairs(e).length) own.add(seenKey(e));
  if (own.size === before) return;
  seen.set(rater, own);
  store("seen", Object.fromEntries([...seen].map(([name, keys]) => [name, [...keys]])));
}
// whether a line of the list tells one method from the other
const tells = (e) => e.flags.some((f) => f.method && f.severity) || new Set(e.methods.map((m) => m.shown)).size > 1;
function onScreen() {
  if (state.view !== "wall") return state.entry ? [state.entry] : [];
  const ids = new Set([...document.querySelectorAll(".wall button")].map((item) => item.dataset.id));
  return data.entries.filter((e) => ids.has(e.id));
}
function renameSeen() {                // images that were seen before a name was given
  const own = new Set([...(seen.get("") || []), ...(seen.get(rater) || [])]);
  seen.delete("");
  if (own.size) seen.set(rater, own);
  noteSeen(...onScreen());
}
const isSeen = (e) => Boolean(seen.get(rater) && seen.get(rater).has(seenKey(e))) || marksOf(e).some((m) => m.rater === rater);

function random(below) { return crypto.getRandomValues(new Uint32Array(1))[0] % below; }
function shuffle(items) {
  for (let n = items.length - 1; n > 0; n--) { const m = random(n + 1); [items[n], items[m]] = [items[m], items[n]]; }
  return items;
}
function makeRound() {
  const shas = (e) => new Map(e.methods.map((m) => [m.name, m.sha]));
  const answered = new Set(preferences.filter((p) => p.rater === rater).map((p) => [p.image, p.x_sha256, p.y_sha256].join(" ")));
  const trials = [], known = [];
  for (const e of shown) for (const pair of blindPairs(e)) {
    trials.push({ image: e.id, pair, repeat: false });
    const [a, b] = pair.map((name) => shas(e).get(name) || "");
    if (answered.has([imageOf(e), a, b].join(" ")) || answered.has([imageOf(e), b, a].join(" "))) known.push(e);
  }
  noteSeen(...known);                  // an earlier round ended by showing the methods' names
  shuffle(trials);
  const third = Math.ceil(trials.length / 3);
  const twice = shuffle([...trials.keys()].slice(0, third)).slice(0, Math.ceil(trials.length * REPEATED));
  const order = trials.map((trial, n) => ({ trial, place: n }));
  // repeats: from the first third again in the last third, so that at least a third of the round is in between
  for (const n of twice) order.push({ trial: { ...trials[n], repeat: true }, place: trials.length - 1 - random(third) + 0.5 });
  order.sort((a, b) => a.place - b.place);
  return { trials: order.map(({ trial }) => trial), at: 0 };
}
async function startBlind() {
  if (!(await askRater())) return;
  if (!round || round.at >= round.trials.length) round = makeRound();
  sides = null;
  if (!round.trials.length) { round = null; tell("A blind comparison needs images with masks of two methods."); return; }
  saveRound();
  document.body.classList.add("blind");
  history.replaceState(null, "", "#");
  $("blind").hidden = false;
  stopFlicker();
  delete document.body.dataset.overlay;
  $("command").value = $("layer-style").textContent = $("message").textContent = "";
  notice("");
  drawTrial();
  const left = new Set(round.trials.slice(round.at).map((trial) => trial.image)), entries = [...left].map((id) => entryOf.get(id));
  const known = entries.filter(isSeen).length;
  if (known) tell(`${known} of ${entries.length} images were shown to you with the methods' names. Answers on these are kept, but do not count as blind.`);
}
function offerBlind(first = null, slice = null) {  // before any image is shown with the methods' names, even one that the address names
  offered = true;
  state.view = "mosaic";
  filterList(); close();
  const isLeft = round !== null;
  const blind = make("button", { type: "button" }, isLeft ? "Go on with the blind comparison " : "Compare blind first ", make("kbd", {}, "B"));
  const look = make("button", { type: "button" }, "Look at the images ", make("kbd", {}, "↓"));
  blind.addEventListener("click", startBlind);
  asked = first && { entry: first, slice };
  look.addEventListener("click", () => step(1));
  const end = make("button", { type: "button" }, "End the comparison");
  end.addEventListener("click", () => { round = null; saveRound(); step(1); notice("The comparison has ended. The answers given are kept."); });
  $("canvas").replaceChildren(make("div", { class: "message", id: "offer" },
    make("p", {}, isLeft ? `The blind comparison was left at ${round.at + 1} of ${round.trials.length}.` : "Two methods have masks here that you have not compared."),
    make("p", {}, "Once an image was shown with the methods' names, your answer on it no longer counts as blind."), make("p", { class: "choices" }, blind, look, ...(isLeft ? [end] : [])),
    ...(isLeft ? [make("p", {}, "Until it is finished or ended, the list shows only the images' names, and the overview stays closed.")] : [])));
}
function endOffer() {
  asked = null;
  if (!offered) return;
  offered = false;
  filterList();
}
function leaveBlind() {
  document.body.classList.remove("blind", "bare");
  $("blind-bare").setAttribute("aria-pressed", "false");
  $("blind").hidden = true;
  $("blind-panes").replaceChildren();
  document.body.prepend(app);
  if (round && round.at < round.trials.length) { drawCounts(); offerBlind(); return; }
  round = null;
  saveRound();
  filterList();
  if (state.entry) open(state.entry); else if (shown.length) open(shown[0]);
}
takeSeen();
let answerable = false;                // a key counts for the masks on the screen, never for those that are still loading
async function drawTrial() {
  const { trials, at } = round;
  answerable = false;
  const drawCount = () => {
    $("blind-progress").max = trials.length;
    $("blind-progress").value = at;
    $("blind-count").textContent = at < trials.length ? `${at + 1} of ${trials.length}` : "done";
  };
  $("blind-answers").hidden = at >= trials.length;
  // names, areas, scores and order are not hidden but removed, also from the page's source, until the round is done
  if (at >= trials.length) { document.body.prepend(app); drawVerdict(); drawCount(); return; }
  app.remove();
  const trial = trials[at], e = entryOf.get(trial.image), detail = await fetchDetail(e);
  if (!round || round.trials[round.at] !== trial) return;
  if (!detail || !trial.pair.every((name) => detail.layers.some((l) => l.name === name))) {
    trials.splice(at, 1);              // an image that cannot be shown is not asked about
    saveRound();
    drawTrial();
    return;
  }
  const next = trials[at + 1] && entryOf.get(trials[at + 1].image);
  if (next) { fetchDetail(next); new Image().src = next.picture.axial; }
  if (!sides || sides.trial !== trial) {
    const first = random(2);
    sides = { trial, x: trial.pair[first], y: trial.pair[1 - first] };
  }
  $("blind-panes").replaceChildren(blindPane("X"), blindPane("Y"));
  for (const side of ["x", "y"]) fillPane($(`pane-${side}`), e, detail, sides[side]);
  answerable = true;
  $("blind-panes").focus({ preventScroll: true });  // so that keys scroll, and Space does not press a button
  drawCount();
  say(`comparison ${at + 1} of ${trials.length}`);
}
function blindPane(letter) {
  return make("section", { class: "pane", "aria-label": `mask ${letter}` }, make("h2", {}, letter), make("div", { class: "canvas", id: `pane-${letter.toLowerCase()}`, tabindex: "0" }));
}
function fillPane(pane, e, detail, method) {
  const layer = detail.layers.find((l) => l.name === method);
  const margin = Math.ceil(MARGIN_MM / detail.tiles.zooms[2]), count = detail.tiles.centres.length;
  const low = Math.max(0, detail.extent[0] - margin), high = Math.min(count - 1, detail.extent[1] + margin);
  const size = blindSize || fitSize(high - low + 1, pane), tiles = [];
  const outline = (group, t) => {
    for (const kind of ["halo", "layer"]) if (layer.paths[t]) group.append(make("svg:path", { class: `blind-${kind}`, d: layer.paths[t] }));
  };
  for (let k = high; k >= low; k--) tiles.push(makeTile(e, detail, k, size, k === high, outline));
  pane.replaceChildren(make("div", { class: "mosaic", style: `--tile:${size}px` }, ...tiles));
}
let blindSize = 0;                     // size of a tile, px; 0 to fit all slices
function toggleBlindSize() { blindSize = blindSize ? 0 : LARGE_TILE; drawTrial(); }
function toggleBare() { $("blind-bare").setAttribute("aria-pressed", String(document.body.classList.toggle("bare"))); }
function scrollBlind(rows, screens = 0) {
  const pane = $("pane-x") || document.querySelector(".verdict"), tile = pane.querySelector(".tile");
  pane.scrollBy({ top: rows * (tile ? tile.offsetHeight : 40) + screens * 0.9 * pane.clientHeight });
}
const followed = new WeakMap();        // pane -> where the other one has put it
function sameView(event) {             // the two panes scroll together; the one that follows does not scroll the other back
  const pane = event.target;
  if (followed.get(pane) === pane.scrollTop) return;
  followed.delete(pane);
  for (const other of document.querySelectorAll("#blind .canvas")) {
    if (other === pane || Math.abs(other.scrollTop - pane.scrollTop) <= 1) continue;
    other.scrollTop = pane.scrollTop;
    followed.set(other, other.scrollTop);
  }
}
function isElsewhere() {               // another window has continued the round: this one follows
  takeStored(); takeSeen();
  if (!isNews(roundKey())) return false;
  round = loadRound();
  if (!round) leaveBlind(); else { sides = null; drawTrial(); }
  notice("The comparison was continued in another window; this one has followed.");
  return true;
}
function answer(choice) {
  if (!answerable || !round || round.at >= round.trials.length || isElsewhere()) return;
  const trial = round.trials[round.at], e = entryOf.get(trial.image);
  const sha = (name) => (e.methods.find((m) => m.name === name) || {}).sha || "";
  preferences.push({ image: imageOf(e), x: sides.x, y: sides.y, choice, rater, time: new Date().toISOString().replace(/[.]\d+/, ""), repeat: trial.repeat, blind: !isSeen(e), x_sha256: sha(sides.x), y_sha256: sha(sides.y) });
  round.at += 1;
  saveMarks(); saveRound();
  drawTrial();
}
function takeBack() {
  if (!round || isElsewhere()) return;
  if (round.at === 0) { notice("There is nothing to undo."); return; }
  round.at -= 1;
  sides = null;
  const { image, pair: names, repeat } = round.trials[round.at], e = entryOf.get(image);
  // only this rater's own answer, because answers of another rater may have been loaded since
  const last = preferences.findLastIndex((p) => p.rater === rater && p.image === imageOf(e) && p.repeat === repeat && names.includes(p.x) && names.includes(p.y));
  if (last >= 0) preferences.splice(last, 1);
  saveMarks(); saveRound();
  drawTrial();
}

// what a choice means for the methods, whichever side they are on
const preferred = (p) => (p.choice === "x" ? p.x : p.choice === "y" ? p.y : p.choice);
const trialKey = (p) => `${p.image} ${[p.x, p.y].sort().join(" ")}`;
function kappa(pairs) {                // Cohen's, of pairs of choices; null where it is not defined
  if (pairs.length < 2) return null;
  const share = (side, value) => pairs.filter((pair) => pair[side] === value).length / pairs.length;
  const values = [...new Set(pairs.flat())], observed = pairs.filter(([a, b]) => a === b).length / pairs.length;
  const expected = values.reduce((sum, value) => sum + share(0, value) * share(1, value), 0);
  return expected < 1 ? (observed - expected) / (1 - expected) : null;
}
function agreementText(pairs) {
  if (!pairs.length) return "none";
  const equal = pairs.filter(([a, b]) => a === b).length, value = kappa(pairs);
  return `${equal} of ${pairs.length} alike${value === null ? "" : `, kappa ${value.toFixed(2)}`}`;
}
function latest(of, repeat) {          // a rater's last answer to each question
  return new Map(preferences.filter((p) => p.rater === of && p.repeat === repeat && p.blind).map((p) => [trialKey(p), preferred(p)]));
}
const matched = (a, b) => [...a].filter(([name]) => b.has(name)).map(([name, value]) => [value, b.get(name)]);
function drawVerdict() {
  const raters = [...new Set(preferences.map((p) => p.rater))].sort(), rows = [];
  const own = [...latest(rater, false).values()], names = [...new Set(preferences.flatMap((p) => [p.x, p.y]))].sort();
  for (const name of [...names, "same", "both-bad"]) rows.push([names.includes(name) ? `${name} better` : CHOICES[name], own.filter((value) => value === name).length]);
  const known = preferences.filter((p) => p.rater === rater && !p.blind).length;
  if (known) rows.push(["not blind, because names were seen before: not counted", known]);
  for (const one of raters) rows.push([`${one} with himself or herself`, agreementText(matched(latest(one, false), latest(one, true)))]);
  raters.forEach((a, n) => raters.slice(n + 1).forEach((b) => rows.push([`${a} with ${b}`, agreementText(matched(latest(a, false), latest(b, false)))])));
  const entryNamed = (name) => data.entries.find((entry) => name.startsWith(`${imageOf(entry)} `));  // only of images on this page, not of the study's other images
  const images = [...latest(rater, false)].filter(([name]) => entryNamed(name)).map(([name, value]) => {
    const e = entryNamed(name);
    const link = make("button", { type: "button" }, title(e));
    link.addEventListener("click", () => { leaveBlind(); open(e); });
    return make("tr", {}, make("td", {}, link), make("td", {}, CHOICES[value] || value));
  });
  const save = make("button", { type: "button" }, "Save marks");
  save.addEventListener("click", () => download("qc_marks.json", marksFile()));
  $("blind-panes").replaceChildren(make("div", { class: "verdict", tabindex: "0" },
    make("h2", {}, "The round is done"),
    make("table", {}, ...rows.map(([what, value]) => make("tr", {}, make("th", { scope: "row" }, what), make("td", {}, String(value))))),
    make("p", {}, "Save marks writes the answers; name that file in the configuration (marks:), and the decision counts them by person. "), save,
    make("table", {}, ...images)));
  const compared = new Set(preferences.filter((p) => p.rater === rater).map((p) => p.image));
  noteSeen(...data.entries.filter((e) => compared.has(imageOf(e))));  // the table names them
  say("the round is done");
}
