// ------------------------------------------------------------------ wall: every image of the list at a glance
const WALL_WIDTH = 430, WALL_HEIGHT = 132;  // px of an item, as in the style sheet
function drawWall() {
  if (isQuiet()) {                     // it shows every image's masks and warnings
    offerBlind();
    notice("The wall opens once the blind comparison is done or ended: it shows masks and warnings of every image.");
    return;
  }
  drawViewButtons();
  $("readout").textContent = `${shown.length} images, as in the list`;
  const canvas = $("canvas"), columns = Math.max(1, Math.floor(canvas.clientWidth / WALL_WIDTH));
  const wall = make("div", { class: "wall", style: `height:${Math.ceil(shown.length / columns) * WALL_HEIGHT}px` });
  canvas.replaceChildren(wall);
  canvas.scrollTop = Math.floor(Math.max(0, shown.indexOf(state.entry)) / columns) * WALL_HEIGHT - canvas.clientHeight / 3;
  drawWallItems();
}
function drawWallItems() {            // only those in view, so that ten thousand images cost no more than twenty
  const canvas = $("canvas"), wall = canvas.querySelector(".wall");
  if (!wall) return;
  const columns = Math.max(1, Math.floor(canvas.clientWidth / WALL_WIDTH)), width = Math.floor(canvas.clientWidth / columns);
  const first = Math.max(0, Math.floor(canvas.scrollTop / WALL_HEIGHT) - 1) * columns;
  const last = Math.min(shown.length, first + (Math.ceil(canvas.clientHeight / WALL_HEIGHT) + 3) * columns);
  const kept = new Map([...wall.children].map((item) => [item.dataset.id, item]));
  wall.replaceChildren(...shown.slice(first, last).map((e, n) => {
    const item = kept.get(e.id) || wallItem(e);
    item.classList.toggle("here", e === state.entry);
    item.style.cssText = `left:${((first + n) % columns) * width}px;top:${Math.floor((first + n) / columns) * WALL_HEIGHT}px;width:${width - 8}px`;
    return item;
  }));
  noteSeen(...shown.slice(first, last));
}
function wallItem(e) {
  const why = reason(e), item = make("button", { type: "button", "data-id": e.id });
  if (e.picture) item.append(make("img", { src: encodeURI(e.picture.preview), alt: "" }));
  item.append(make("span", { class: "caption" }, title(e)), make("span", { class: why.kind }, why.text));
  item.addEventListener("click", () => { state.view = "mosaic"; open(e); });
  return item;
}
