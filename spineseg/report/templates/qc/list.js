// ------------------------------------------------------------------ list of images
const ROW = 58;                       // px, as in the style sheet
let shown = [];                       // entries that pass the filters, in order
const words = new Map();              // entry -> what the search looks through

const severity = (e) => e.flags.reduce((worst, f) => Math.max(worst, f.severity), 0);
function wordsOf(e) {
  if (isQuiet()) return [e.image_id, title(e), e.contrast, e.suffix, e.dataset].join(" ").toLowerCase();
  if (!words.has(e)) words.set(e, [e.image_id, title(e), e.contrast, e.suffix, e.dataset, ...e.methods.map((m) => `${m.name} ${m.shown}`), ...e.flags.map((f) => f.text)].join(" ").toLowerCase());
  return words.get(e);
}
const STATES = {
  "": () => true, bad: (e) => severity(e) >= 3, look: (e) => severity(e) === 2, clean: (e) => severity(e) < 2,
  unmarked: (e) => !isReviewed(e), commented: (e) => shownMarks(e).some((m) => m.reason),
  pass: (e) => shownMarks(e).some((m) => m.mark === "pass"), fail: (e) => shownMarks(e).some((m) => m.mark === "fail"),
  artefact: (e) => shownMarks(e).some((m) => m.mark === "artefact"),
};
function filterList() {
  const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), contrast = $("filter-contrast").value;
  $("filter-state").disabled = $("sort").disabled = isQuiet();  // a blind comparison is open: the order must show nothing either
  const test = STATES[isQuiet() ? "" : $("filter-state").value];
  shown = data.entries.filter((e) => (!contrast || e.contrast === contrast) && test(e) && wanted.every((word) => wordsOf(e).includes(word)));
  if (isQuiet() || $("sort").value === "name") shown.sort((a, b) => (a.image_id < b.image_id ? -1 : 1));
  $("rows").style.height = `${shown.length * ROW}px`;
  drawRows(); drawCounts();
  if (state.view === "wall") drawWall();
}
function followFilter() {             // the viewer shows an image of the list or nothing, so that no key marks a hidden image
  $("list").scrollTop = 0;
  filterList();
  if (offered || (state.entry && shown.includes(state.entry))) return;  // a search opens no image before the offer is answered
  if (shown.length) open(shown[0], null, false);
  else close();
}
function drawCounts() {
  const count = (test) => data.entries.reduce((sum, e) => sum + (test(e) ? 1 : 0), 0);
  const bad = count(STATES.bad), look = count(STATES.look), done = count(isReviewed);
  const part = shown.length === data.entries.length ? "" : `${shown.length} of `;
  const words = [`${part}${data.entries.length} image${data.entries.length === 1 ? "" : "s"}`, `${done} reviewed`], partly = count(isPartly);
  if (partly) words.push(`${partly} by some of their methods`);
  if (isQuiet()) words.push("blind comparison open");
  else if (bad) words.push(`${bad} failed or wrong`);
  if (look && !isQuiet()) words.push(`${look} to look at`);
  $("counts").textContent = words.join(" · ");
  $("counts").title = `${words.join(", ")}; made ${data.built} by spineseg ${data.version}`;
  $("progress").max = Math.max(1, data.entries.length);
  $("progress").value = done;
}
function drawRows() {
  const list = $("list"), rows = $("rows");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 10);
  rows.replaceChildren(...shown.slice(first, last).map((e, n) => drawRow(e, first + n)));
  if (!isQuiet()) noteSeen(...shown.slice(first, last).filter(tells));
  if (!shown.length) rows.append(make("p", { class: "none-found" }, data.entries.length ? "No image fits the search." : "No image has been added yet."));
  if (state.entry && document.getElementById(`row-${state.entry.id}`)) list.setAttribute("aria-activedescendant", `row-${state.entry.id}`);
  else list.removeAttribute("aria-activedescendant");
}
function reason(e) {                  // the worst warning of an image
  const worst = e.flags[0];
  return worst && worst.severity ? { kind: `sev${worst.severity}`, text: `${worst.method} ${worst.text}`.trim() } : { kind: "", text: "no warning" };
}
const isTelephone = () => matchMedia("(max-width: 640px)").matches;  // as in the style sheet: the list takes the place of the viewer
function drawRow(e, position) {
  const row = make("div", { class: "row", role: "option", id: `row-${e.id}`, "aria-selected": String(e === state.entry),
    "aria-posinset": position + 1, "aria-setsize": shown.length, style: `top:${position * ROW}px` });
  row.addEventListener("click", () => { document.body.classList.toggle("list-shown", !isTelephone() && document.body.classList.contains("list-shown")); open(e); });
  if (isQuiet()) { row.append(make("div", { class: "title" }, make("span", { title: e.image_id }, title(e)))); return row; }
  const glyphs = make("span", { class: "glyphs" });
  for (const m of e.methods) glyphs.append(make("span", { class: `status-${m.shown}`, title: `${m.name}: ${m.shown}`, role: "img", "aria-label": `${m.name} ${m.shown}` }, GLYPH[m.shown] || "?"));
  for (const m of shownMarks(e).filter((mark) => mark.mark)) {
    const text = `${m.method || "image"} ${m.mark} by ${m.rater}`;
    glyphs.append(make("span", { class: `mark-${m.mark}`, role: "img", title: text, "aria-label": text }, MARK_GLYPH[m.mark]));
  }
  const why = reason(e);
  const alone = e.methods.length === 1 && data.methods.length > 2 ? ` · ${e.methods[0].name}` : "";  // the reference counts as one
  row.append(make("div", { class: "title" }, make("span", { title: e.image_id }, `${title(e)}${alone}`), glyphs),
    make("div", { class: `why ${why.kind}`, title: e.flags.map((f) => `${f.method} ${f.text}`.trim()).join("\n") }, why.text));
  return row;
}
function step(by) {
  const named = asked;
  endOffer();
  if (!shown.length) return;
  const at = shown.indexOf(state.entry);
  if (named && shown.includes(named.entry)) { open(named.entry, named.slice); return; }
  open(shown[at < 0 ? 0 : clamp(at + by, 0, shown.length - 1)]);
}
