// What the brain does, asked for every second while somebody looks.
import { ask, by, events, made, says } from "./ask.js";
import { figures } from "./figures.js";

const EVERY_MS = 1000;
const EVENTS_MAX = 200;

const kib = (bytes) => (bytes < 1 << 20 ? `${Math.round(bytes / 1024)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`);

const ago = (ms) => {
  if (ms === undefined) return "now";
  if (ms < 1000) return "a moment ago";
  return ms < 120_000 ? `${Math.round(ms / 1000)} s ago` : `${Math.round(ms / 60_000)} min ago`;
};

const rows = (table, made) => by(table).tBodies[0].replaceChildren(...made);

const actor = ({ actor, state, restarts, queued, conversations }) => {
  const row = made("tr");
  const kind = { ready: "good", down: "bad" }[state] || "fair";
  row.append(made("td", actor), made("td", state, kind), made("td", restarts), made("td", queued),
    made("td", conversations));
  return row;
};

/** The window as a bar: what never leaves, what others hold as well, what is its own, and room. */
const bar = (it, model) => {
  const drawn = made("div", undefined, "window");
  const sinks = Math.min(it.context_len, Math.max(it.pinned || 0, model.sinks));
  const held = it.kv_bytes || 0;
  const shared = held ? Math.min(it.context_len - sinks, Math.round(it.context_len * it.shared_bytes / held)) : 0;
  const parts = [["sinks", sinks], ["shared", shared], ["own", it.context_len - sinks - shared]];
  for (const [kind, tokens] of parts) {
    const part = made("b", undefined, kind);
    part.style.width = `${100 * tokens / model.window}%`;
    drawn.append(part);
  }
  drawn.title = `${sinks} sinks or pinned, ${shared} shared, ${it.context_len - sinks - shared} its own, ` +
    `room for ${Math.max(0, model.window - it.context_len)}`;
  return drawn;
};

const conversation = (model) => (it) => {
  const row = made("tr");
  const name = made("td", it.conversation, "name");
  name.title = it.conversation;
  const window = made("td");
  window.append(bar(it, model));
  const lives = { resident: `memory, ${kib(it.kv_bytes)}`, spilled: "a file", tokens: "its tokens" }[it.dwelling] || it.dwelling;
  const where = it.quarantined ? "quarantine" : it.actor === undefined ? lives : `${lives}, at actor ${it.actor}`;
  row.append(name, window, made("td", `${it.context_len}${it.slid ? `, ${it.total} in all` : ""}`), made("td", where),
    made("td", it.requests ? "now" : ago(it.idle_ms)));
  return row;
};

const look = async (draw) => {
  const [stats, listed, metrics] = await Promise.all([
    ask("/brain/stats").then((answer) => answer.json()),
    ask("/brain/conversations?limit=50").then((answer) => answer.json()),
    ask("/metrics").then((answer) => answer.text()).catch(() => ""),
  ]);
  const health = by("health");
  health.textContent = stats.health;
  health.className = `pill ${{ ready: "good", down: "bad" }[stats.health] || "fair"}`;
  health.title = stats.reason || "";
  rows("actors", stats.actors.map(actor));
  rows("conversations", listed.conversations.map(conversation(stats.model)));
  by("conversations-more").textContent = stats.conversations > listed.conversations.length
    ? `(${listed.conversations.length} of ${stats.conversations})` : "";
  draw(metrics, stats);
};

/** Events as they happen; where the stream breaks off it is taken up again. */
const follow = async () => {
  for (;;) {
    try {
      for await (const { event, data } of events(await ask("/brain/events"))) {
        const told = JSON.parse(data);
        const line = made("li");
        const facts = Object.entries(told).filter(([key]) => key !== "event").map(([key, value]) => `${key} ${value}`);
        line.append(made("time", new Date().toLocaleTimeString()), made("b", event), ` ${facts.join(", ")}`);
        by("events").prepend(line);
        while (by("events").childElementCount > EVENTS_MAX) by("events").lastElementChild.remove();
      }
    } catch {
      // The look that is next says what is wrong.
    }
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
};

export const live = () => {
  const draw = figures(by("figures"));
  let failed = false;
  follow();
  const again = async () => {
    if (!document.hidden) {
      try {
        await look(draw);
        if (failed) says();
        failed = false;
      } catch (error) {
        failed = true;
        by("health").textContent = "not reached";
        by("health").className = "pill bad";
        says(error.message);
      }
    }
    setTimeout(again, EVERY_MS);
  };
  again();
};
