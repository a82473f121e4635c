// Figures over the last ten minutes, from what /metrics says every second. Rates and quantiles are of what was added.
import { made } from "./ask.js";

const KEPT = 600;
/** Over so many looks a rate or a quantile is taken. */
const OVER = 10;

/** The samples of a text in Prometheus' format: names without labels but for a bucket's bound; the others add up. */
export const parsed = (text) => {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const bound = /le="([^"]+)"/.exec(match[2] || "");
    const name = bound ? `${match[1]} ${bound[1]}` : match[1];
    found.set(name, (found.get(name) || 0) + Number(match[3]));
  }
  return found;
};

const added = (now, before, name) => (now.get(name) || 0) - (before.get(name) || 0);

/** The bound of the bucket in which the quantile lies, of what was added between two looks; null where nothing was. */
export const quantile = (now, before, name, share) => {
  const bounds = [...now.keys()].filter((key) => key.startsWith(`${name}_bucket `));
  const buckets = bounds.map((key) => [Number(key.split(" ")[1].replace("+Inf", "Infinity")), added(now, before, key)]);
  buckets.sort((a, b) => a[0] - b[0]);
  const all = buckets.at(-1)?.[1] || 0;
  return all > 0 ? buckets.find(([, count]) => count >= share * all)[0] : null;
};

const ms = (seconds) => (seconds === null ? null : seconds * 1000);

const WATCHED = [
  ["tokens decoded a second", (now, then, s) => added(now, then, "motorbrain_tokens_decoded_total") / s, 1],
  ["tokens read a second", (now, then, s) => added(now, then, "motorbrain_tokens_read_total") / s, 0],
  ["not read again, %", (now, then) => {
    const reused = added(now, then, "motorbrain_tokens_reused_total");
    const all = reused + added(now, then, "motorbrain_tokens_read_total");
    return all > 0 ? 100 * reused / all : null;
  }, 0],
  ["waiting", (_, __, ___, stats) => stats.waiting, 0],
  ["rows a run", (now, then) => {
    const runs = added(now, then, "motorbrain_run_rows_count");
    return runs > 0 ? added(now, then, "motorbrain_run_rows_sum") / runs : null;
  }, 1],
  ["first token within, ms (half)", (now, then) => ms(quantile(now, then, "motorbrain_first_token_seconds", 0.5)), 0],
  ["between tokens within, ms (half)", (now, then) => ms(quantile(now, then, "motorbrain_token_gap_seconds", 0.5)), 0],
  ["keys and values, MiB", (_, __, ___, stats) => stats.kv_bytes / (1 << 20), 1],
];

const SVG = "http://www.w3.org/2000/svg";

const figure = (title) => {
  const all = made("figure");
  const number = made("output", "-");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "polyline");
  svg.append(line);
  all.append(made("figcaption", title), number, svg);
  return { all, number, svg, line, values: [] };
};

const redraw = ({ svg, line, values }) => {
  const most = Math.max(1e-9, ...values.filter((value) => value !== null));
  // The first minute is drawn wide, so that there is something to be seen.
  const width = Math.min(KEPT, Math.max(60, values.length));
  svg.setAttribute("viewBox", `0 0 ${width} 100`);
  const point = (value, index) => (value === null ? null : `${width - values.length + index},${98 - 94 * value / most}`);
  line.setAttribute("points", values.map(point).filter(Boolean).join(" "));
};

/** Makes the figures; what is given back takes a look's metrics and stats in. */
export const figures = (where) => {
  const drawn = WATCHED.map(([title]) => figure(title));
  where.append(...drawn.map(({ all }) => all));
  const looks = [];
  return (metrics, stats) => {
    const now = { at: performance.now(), found: parsed(metrics) };
    looks.push(now);
    if (looks.length > OVER) looks.shift();
    const then = looks[0];
    WATCHED.forEach(([, value, digits], index) => {
      const seconds = Math.max(0.001, (now.at - then.at) / 1000);
      const found = looks.length > 1 ? value(now.found, then.found, seconds, stats) : null;
      const it = drawn[index];
      it.values.push(found !== null && Number.isFinite(found) ? found : null);
      if (it.values.length > KEPT) it.values.shift();
      it.number.textContent = found === null ? "-" : Number.isFinite(found) ? found.toFixed(digits) : "over a minute";
      redraw(it);
    });
  };
};
