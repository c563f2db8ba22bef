// Search as you type, and the map of the catalogue. Everything that a shop wrote goes in as text, never as markup.
"use strict";

for (const form of document.querySelectorAll("form[data-search]")) {
  const input = form.querySelector("input[type=search]");
  const list = form.querySelector(".found");
  const day = new URLSearchParams(location.search).get("as_of");
  let asked = 0, answered = Promise.resolve();
  const address = (id) => {
    const url = new URL(form.dataset.open, location.href);
    form.dataset.adds ? url.searchParams.append("id", id) : url.searchParams.set("id", id);
    if (day) url.searchParams.set("as_of", day);
    return url;
  };
  const search = async () => {
    const mine = ++asked;
    const url = new URL(form.dataset.search, location.href);
    url.searchParams.set("q", input.value);
    if (day) url.searchParams.set("as_of", day);
    const answer = input.value.trim() ? await fetch(url, { headers: { accept: "application/json" } }) : null;
    const products = answer && answer.ok ? await answer.json() : [];
    if (mine !== asked) return;
    list.replaceChildren(...products.map((product) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = address(product.id);
      link.dataset.id = product.id;
      link.textContent = `${product.title}  ${product.id}`;
      item.append(link);
      return item;
    }));
    if (!products.length && input.value.trim()) list.replaceChildren(Object.assign(document.createElement("li"), { textContent: "Nothing found." }));
    list.hidden = !input.value.trim();
  };
  input.addEventListener("input", () => { answered = search(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // Whoever types fast gets what the whole word finds, and an id before what only begins like it.
    await answered;
    const links = [...list.querySelectorAll("a")];
    const found = links.find((link) => link.dataset.id === input.value.trim()) || links[0];
    if (found) location.href = found.href; else if (!form.dataset.adds) form.submit();
  });
}

for (const form of document.querySelectorAll("form[data-post]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    const answer = await fetch(form.dataset.post, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-shelfkin": "page" },
      body: JSON.stringify({ why: "", ...Object.fromEntries(new FormData(form)) }),
    });
    const words = await answer.json();
    if (answer.ok) { location.reload(); return; }
    button.disabled = false;
    form.parentElement.querySelector(".said").textContent = typeof words.detail === "string" ? words.detail : "This was refused.";
  });
}

const map = document.getElementById("map");
if (map) drawMap(map);

async function drawMap(place) {
  const canvas = place.querySelector("canvas");
  const words = document.getElementById("map-words");
  const said = words.textContent;
  const answer = await fetch(place.dataset.points);
  if (!answer.ok) { words.textContent = "The map could not be read."; return; }
  const bytes = new DataView(await answer.arrayBuffer());
  const n = bytes.byteLength / 16;
  if (!n) { place.hidden = true; return; }
  const number = new Int32Array(n), cluster = new Int32Array(n), x = new Float32Array(n), y = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    number[i] = bytes.getInt32(16 * i, true);
    cluster[i] = bytes.getInt32(16 * i + 4, true);
    x[i] = bytes.getFloat32(16 * i + 8, true);
    y[i] = bytes.getFloat32(16 * i + 12, true);
  }
  const rows = [...document.querySelectorAll("#clusters tr[data-cluster]")];
  const names = new Map(rows.map((row) => [Number(row.dataset.cluster), row.dataset.name]));
  // Hues a golden angle apart: neighbours in the table never look alike.
  const colour = new Map(rows.map((row, place) => [Number(row.dataset.cluster), `hsl(${(place * 137.5) % 360} 60% ${place % 2 ? 45 : 60}%)`]));
  const members = new Map();
  for (let i = 0; i < n; i++) (members.get(cluster[i]) || members.set(cluster[i], []).get(cluster[i])).push(i);
  const middle = new Map([...members].map(([id, of]) => {
    const mean = (values) => of.reduce((sum, i) => sum + values[i], 0) / of.length;
    return [id, [mean(x), mean(y)]];
  }));
  const bounds = [Math.min, Math.max].map((of) => [x, y].map((values) => values.reduce((a, b) => of(a, b))));
  let scale = 1, left = 0, top = 0, width = 0, height = 0, hovered = -1, shown = null, waiting = false;
  // Names as they are drawn: middle, baseline, half their width, cluster.
  let labels = [];

  const fit = () => {
    width = canvas.clientWidth; height = canvas.clientHeight;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  };
  const whole = () => {
    const [low, high] = bounds;
    scale = 0.92 * Math.min(width / (high[0] - low[0] || 1), height / (high[1] - low[1] || 1));
    left = width / 2 - scale * (low[0] + high[0]) / 2;
    top = height / 2 + scale * (low[1] + high[1]) / 2;
  };
  const atX = (value) => left + scale * value;
  const atY = (value) => top - scale * value;
  const draw = () => {
    waiting = false;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const size = n > 20000 ? 2 : 3;
    for (const [id, of] of members) {
      pen.fillStyle = colour.get(id) || "#888";
      pen.globalAlpha = shown === null ? 0.8 : id === shown ? 1 : 0.08;
      for (const i of of) {
        const px = atX(x[i]), py = atY(y[i]);
        if (px > 0 && px < width && py > 0 && py < height) pen.fillRect(px, py, size, size);
      }
    }
    pen.globalAlpha = 1;
    const style = getComputedStyle(document.documentElement);
    pen.font = "600 12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.lineWidth = 3;
    pen.strokeStyle = style.getPropertyValue("--card");
    pen.fillStyle = style.getPropertyValue("--ink");
    labels = [];
    // Large clusters first; a name that would cover another one waits until the map is closer.
    for (const row of rows) {
      const id = Number(row.dataset.cluster), at = middle.get(id);
      if (!at) continue;
      const name = names.get(id), half = pen.measureText(name).width / 2 + 4, px = atX(at[0]), py = atY(at[1]);
      if (px - half < 0 || px + half > width || py < 12 || py > height) continue;
      if (labels.some(([ox, oy, oh]) => Math.abs(px - ox) < half + oh && Math.abs(py - oy) < 16)) continue;
      labels.push([px, py, half, id]);
      pen.strokeText(name, px, py);
      pen.fillText(name, px, py);
    }
    if (hovered >= 0) {
      pen.strokeStyle = style.getPropertyValue("--ink");
      pen.lineWidth = 2;
      pen.strokeRect(atX(x[hovered]) - 4, atY(y[hovered]) - 4, 10, 10);
    }
  };
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  const nearest = (px, py) => {
    let best = -1, least = 100;
    for (let i = 0; i < n; i++) {
      const dx = atX(x[i]) - px, dy = atY(y[i]) - py, distance = dx * dx + dy * dy;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  };
  const named = (px, py) => {
    const label = labels.find(([ox, oy, half]) => Math.abs(px - ox) < half && py > oy - 13 && py < oy + 4);
    return label ? label[3] : null;
  };
  const show = (id) => { if (id !== shown) { shown = id; redraw(); } };
  for (const row of rows) {
    row.addEventListener("pointerenter", () => show(Number(row.dataset.cluster)));
    row.addEventListener("pointerleave", () => show(null));
  }
  const titles = new Map();
  const titleOf = async (i) => {
    if (!titles.has(number[i])) {
      const url = new URL(place.dataset.titles, location.href);
      url.searchParams.set("number", number[i]);
      if (place.dataset.asOf) url.searchParams.set("as_of", place.dataset.asOf);
      titles.set(number[i], fetch(url).then((found) => (found.ok ? found.json() : [])).then((found) => found[0]));
    }
    return titles.get(number[i]);
  };
  const zoom = (factor, px, py) => { left = px - factor * (px - left); top = py - factor * (py - top); scale *= factor; redraw(); };

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  const point = async (px, py) => {
    const name = named(px, py), i = name === null ? nearest(px, py) : -1;
    canvas.classList.toggle("on-name", name !== null);
    show(name);
    if (i < 0) words.textContent = name === null ? said : names.get(name);
    if (i === hovered) return;
    hovered = i;
    redraw();
    if (i < 0) return;
    const product = await titleOf(i);
    if (hovered === i && product) words.textContent = `${product.title} (${product.id}), ${names.get(cluster[i]) || ""}`;
  };
  let held = null, moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    held = [event.offsetX, event.offsetY];
    moved = false;
    canvas.setPointerCapture(event.pointerId);
    // A finger points nowhere before it touches.
    point(...held);
  });
  canvas.addEventListener("pointerup", async () => {
    held = null;
    if (moved) return;
    if (shown !== null) location.href = rows.find((row) => Number(row.dataset.cluster) === shown).querySelector("a").href;
    if (hovered < 0) return;
    const product = await titleOf(hovered);
    if (!product) return;
    const url = new URL(place.dataset.product, location.href);
    url.searchParams.set("id", product.id);
    if (place.dataset.asOf) url.searchParams.set("as_of", place.dataset.asOf);
    location.href = url;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) {
      const dx = event.offsetX - held[0], dy = event.offsetY - held[1];
      moved = moved || Math.abs(dx) + Math.abs(dy) > 3;
      left += dx; top += dy; held = [event.offsetX, event.offsetY];
      redraw();
      return;
    }
    point(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (step) { left += step[0]; top += step[1]; redraw(); event.preventDefault(); }
    if (event.key === "+") zoom(1.3, width / 2, height / 2);
    if (event.key === "-") zoom(1 / 1.3, width / 2, height / 2);
    if (event.key === "0") { whole(); redraw(); }
  });
  new ResizeObserver(() => { const first = !width; fit(); if (first) whole(); redraw(); }).observe(canvas);
  new MutationObserver(redraw).observe(document.documentElement, { attributes: true });
}
