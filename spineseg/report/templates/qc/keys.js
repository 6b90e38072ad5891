// ------------------------------------------------------------------ keys and buttons
const KEYS = {
  ArrowDown: () => step(1), ArrowUp: () => step(-1), ArrowRight: toggleOverlay, ArrowLeft: nextLayer,
  ",": () => goTo(state.k + 1), ".": () => goTo(state.k - 1), k: () => goTo(state.k + 1), j: () => goTo(state.k - 1),
  PageUp: () => goTo(state.k + 10), PageDown: () => goTo(state.k - 10),
  Enter: () => setView("slice"), Escape: () => setView("mosaic"), w: () => setView(state.view === "wall" ? "mosaic" : "wall"), v: showCommand,
  o: toggleFill, d: toggleFit, x: toggleDifference, t: toggleFlicker, m: nextTarget, r: toggleRed, b: startBlind,
  p: () => giveMark("pass"), f: () => giveMark("fail"), a: () => giveMark("artefact"), c: giveComment, s: toggleSlice, u: undo, n: nextUnmarked,
  "/": () => { $("search").focus(); $("search").select(); }, "?": showHelp,
  l: toggleClicking,
};
function showHelp() {
  const help = $(document.body.classList.contains("blind") ? "blind-help" : "help");
  help.showModal();
  help.scrollTop = 0;                  // the button at its end has the focus
}
const BLIND_KEYS = {
  x: () => answer("x"), y: () => answer("y"), s: () => answer("same"), b: () => answer("both-bad"),
  u: takeBack, ArrowRight: toggleBare, d: toggleBlindSize, "?": showHelp, Escape: leaveBlind,
  " ": () => scrollBlind(0, 1), PageDown: () => scrollBlind(0, 1), PageUp: () => scrollBlind(0, -1),
  ArrowDown: () => scrollBlind(1), j: () => scrollBlind(1), ".": () => scrollBlind(1),
  ArrowUp: () => scrollBlind(-1), k: () => scrollBlind(-1), ",": () => scrollBlind(-1),
};
const NEEDS_NO_IMAGE = new Set(["/", "?", "b", "n", "u", "w", "ArrowDown", "ArrowUp"]);

function toggleFill() { state.fill = !state.fill; storeView(); drawLayers(); say(state.fill ? "fill" : "outline"); }
function toggleRed() { state.red = !state.red; storeView(); drawHeading(); drawLayers(); drawStage(); say(state.red ? "red, as in SCT" : "a colour for each method"); }
function toggleFit() { state.size = state.size ? 0 : LARGE_TILE; storeView(); drawStage(); say(state.size ? "large tiles" : "fitted"); }
function chooseTarget(target) {
  state.target = target;
  state.chosenOn = state.entry;
  drawMarks(); drawCounts();
}
function nextTarget() {
  const targets = targetsOf(state.entry);
  chooseTarget(targets[(targets.indexOf(targetOf(state.entry)) + 1) % targets.length] || null);
  notice(`Marks are about ${state.target}`);
}
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input[type=search], select")) {
    if (event.key === "Escape" || event.key === "Enter") event.target.blur();
    return;
  }
  const onButton = event.target.matches("button, label, input");
  if (onButton && (event.key === "Enter" || event.key === " " || (event.target.type === "range" && event.key.startsWith("Arrow")))) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = /^Digit\d$/.test(event.code || "") ? Number(event.code.slice(5)) : /^\d$/.test(name) ? Number(name) : null;
  if (document.body.classList.contains("blind")) {
    const press = BLIND_KEYS[name];
    if (!press) return;
    press();
  } else if (!state.entry && !NEEDS_NO_IMAGE.has(name)) return;
  else if (digit !== null && event.shiftKey) showNumber(digit);
  else if (digit !== null) giveRating(digit);
  else if (KEYS[name]) KEYS[name]();
  else return;
  event.preventDefault();
}
function showNumber(digit) {          // the same number in every image
  const name = digit ? (data.methods[digit - 1] || {}).name : "";
  if (name === "" || layerNames().includes(name)) show(name);
  else notice(`There is no mask by ${name || `method ${digit}`} here.`);
}
function press(id, action) { $(id).addEventListener("click", action); }
function connect() {
  document.addEventListener("keydown", onKey);
  for (const id of ["search", "filter-contrast", "filter-state", "sort"]) $(id).addEventListener("input", followFilter);
  $("list").addEventListener("scroll", drawRows);
  $("canvas").addEventListener("scroll", drawWallItems);
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
  $("blind").addEventListener("scroll", sameView, true);
  for (const button of document.querySelectorAll("[data-fill]")) button.addEventListener("click", () => { if ((button.dataset.fill === "1") !== state.fill) toggleFill(); });
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
  for (const button of document.querySelectorAll("[data-mark]")) button.addEventListener("click", () => giveMark(button.dataset.mark, false));
  for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => answer(button.dataset.choice));
  $("mark-method").addEventListener("change", () => chooseTarget($("mark-method").value));
  $("pair").addEventListener("change", () => { state.pair = $("pair").value; drawStage(); });
  $("opacity").addEventListener("input", () => { state.opacity = Number($("opacity").value); storeView(); drawLayers(); });
  $("size").addEventListener("input", () => { state.size = Number($("size").value); storeView(); drawStage(); });
  $("all-slices").addEventListener("change", () => { state.all = $("all-slices").checked; storeView(); drawStage(); });
  $("pixels").addEventListener("change", () => { state.sharp = $("pixels").checked; storeView(); drawStage(); });
  press("save-fail", () => download("qc_fail.yml", listed("fail")));
  press("save-artifact", () => download("qc_artifact.yml", listed("artefact")));
  press("save-all", () => download("qc_marks.json", marksFile()));
  press("rater-open", async () => { if (await askRater(true)) { if (isQuiet()) offerBlind(); else followFilter(); } });
  press("command-open", showCommand);
  press("help-open", showHelp);
  press("difference", toggleDifference);
  press("flicker", toggleFlicker);
  press("comment-open", giveComment);
  press("undo", undo);
  press("previous", () => step(-1));
  press("next", () => step(1));
  press("list-open", () => { document.body.classList.toggle("list-shown"); drawRows(); drawStage(); });
  press("blind-open", startBlind);
  press("blind-leave", leaveBlind);
  press("blind-undo", takeBack);
  press("blind-bare", toggleBare);
  press("blind-size", toggleBlindSize);
  press("blind-keys", showHelp);
  $("load").addEventListener("change", loadMarks);
  $("load-label").addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); $("load").click(); } });
  window.addEventListener("storage", followStore);
  window.addEventListener("resize", () => { if (document.body.classList.contains("blind")) drawTrial(); else { drawRows(); drawStage(); } });
}
function addressed() {                 // image and slice that the address names
  try { return decodeURIComponent(location.hash.slice(1)).split("/"); } catch { return []; }
}
function followStore() {               // another window of the same page has stored something
  takeStored(); takeSeen(); takeDiscs();
  filterList();
  if (state.entry) { drawMarks(); drawDiscs(); }
}
function start() {
  const contrasts = [...new Set(data.entries.map((e) => e.contrast).filter(Boolean))].sort();
  $("filter-contrast").replaceChildren(make("option", { value: "" }, "contrast"), ...contrasts.map((c) => make("option", { value: c }, c)));
  $("opacity").value = state.opacity; $("all-slices").checked = state.all; $("pixels").checked = state.sharp;
  $("rater-open").textContent = rater ? `Rater: ${rater}` : "Rater …";
  $("blind-open").hidden = !data.entries.some((e) => e.methods.length > 1);
  connect(); connectLevels();
  const [id, k] = addressed();
  const named = data.entries.find((e) => e.id === id || e.image_id === id), slice = /^\d+$/.test(k) ? Number(k) : null;
  const isNew = !seen.size && !MARKS.size && !preferences.length;  // nothing has been viewed with this browser yet
  const isOffered = isNew && !named && data.entries.some((e) => e.study && blindPairs(e).length);
  if (round || isOffered) { offerBlind(named, slice); return; }
  filterList();
  const wanted = named || shown[0];
  if (wanted) open(wanted, slice);
  else close();
}
start();
