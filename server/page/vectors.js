// One text against others: how alike their vectors are, as numbers, and as a picture in which what is alike is near.
import { ask, by, made, says } from "./ask.js";

const SVG = "http://www.w3.org/2000/svg";
const SIZE = 320;

const dot = (a, b) => a.reduce((sum, x, index) => sum + x * b[index], 0);

/** The two directions in which the vectors vary most, by power iteration on their Gram matrix; [count][2]. */
export const flattened = (vectors) => {
  const count = vectors.length;
  const mean = vectors[0].map((_, at) => vectors.reduce((sum, vector) => sum + vector[at], 0) / count);
  const centred = vectors.map((vector) => vector.map((x, at) => x - mean[at]));
  const gram = centred.map((a) => centred.map((b) => dot(a, b)));
  const places = vectors.map(() => [0, 0]);
  for (const axis of [0, 1]) {
    let along = vectors.map((_, index) => Math.cos(index + axis));
    let size = 0;
    for (let turn = 0; turn < 200; turn++) {
      const next = gram.map((row) => dot(row, along));
      size = Math.sqrt(dot(next, next));
      if (size < 1e-12) break;
      along = next.map((x) => x / size);
    }
    along.forEach((x, index) => { places[index][axis] = x * Math.sqrt(Math.max(size, 0)); });
    along.forEach((x, i) => along.forEach((y, j) => { gram[i][j] -= size * x * y; }));
  }
  return places;
};

const svg = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

const picture = (texts, vectors) => {
  const places = flattened(vectors);
  const most = Math.max(1e-9, ...places.flat().map(Math.abs));
  const at = (x) => SIZE / 2 + x / most * (SIZE / 2 - 24);
  const label = "The texts as points: what is alike is near";
  const drawn = svg("svg", { viewBox: `0 0 ${2 * SIZE} ${SIZE}`, role: "img", "aria-label": label });
  const [one] = places;
  places.forEach(([x, y], index) => {
    const [left, top] = [2 * at(x), at(y)];
    if (index) drawn.append(svg("line", { x1: 2 * at(one[0]), y1: at(one[1]), x2: left, y2: top }));
    const title = svg("title", {}, texts[index]);
    const spot = svg("circle", { cx: left, cy: top, r: 6, class: index ? "other" : "one" });
    spot.append(title);
    const short = texts[index].length > 28 ? `${texts[index].slice(0, 27)}…` : texts[index];
    const anchor = left > SIZE ? "end" : "start";
    drawn.append(spot, svg("text", { x: left + (anchor === "end" ? -10 : 10), y: top + 4, "text-anchor": anchor }, short));
  });
  return drawn;
};

const table = (texts, likenesses) => {
  const all = made("table");
  const order = likenesses.map((likeness, index) => [likeness, index]).sort((a, b) => b[0] - a[0]);
  for (const [likeness, index] of order) {
    const row = made("tr");
    const meter = made("meter");
    Object.assign(meter, { min: 0, max: 1, value: Math.max(0, likeness) });
    meter.title = likeness.toFixed(3);
    const shown = made("td");
    shown.append(meter);
    row.append(made("td", likeness.toFixed(3)), shown, made("td", texts[index]));
    all.append(row);
  }
  return all;
};

export const vectors = () => {
  by("compare").addEventListener("submit", async (event) => {
    event.preventDefault();
    const others = by("others").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const one = by("one").value.trim();
    if (!one || !others.length) return;
    says();
    const vector = async (text, kind) => (await (await ask("/brain/embed", { text, kind })).json()).embedding;
    try {
      const found = await Promise.all([vector(one, "query"), ...others.map((text) => vector(text, "document"))]);
      const likenesses = found.slice(1).map((other) => dot(found[0], other));
      by("alike").replaceChildren(picture([one, ...others], found), table(others, likenesses));
    } catch (error) {
      says(error.message);
    }
  });
};
