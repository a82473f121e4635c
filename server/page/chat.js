// The chat: a history that is sent whole each time, of which only what is new is read.
import { ask, by, events, made, says } from "./ask.js";

const TOOLS = [{
  type: "function",
  function: {
    name: "weather",
    description: "The weather of a place",
    parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
  },
}];

export const chat = ({ model, chaos }) => {
  let history = [];
  // A conversation of its own, so that it can be watched; its name says nothing of who has it.
  const named = () => `page ${Math.random().toString(36).slice(2, 8)}`;
  let conversation = named();
  let going = null;
  by("tools").placeholder = JSON.stringify(TOOLS, null, 1);
  by("kill").hidden = !chaos;

  const shown = (text, kind) => {
    const line = made("li", text, kind);
    by("said").append(line);
    line.scrollIntoView({ block: "nearest" });
    return line;
  };

  const busy = (is) => {
    by("send").hidden = is;
    by("stop").hidden = !is;
  };

  /** Takes one answer in, as it comes. */
  const answer = async (body, signal, mine) => {
    const began = performance.now();
    let first = null;
    let usage = null;
    const line = shown("", "assistant");
    const calls = [];
    const take = (chunk) => {
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage || usage;
      const delta = chunk.choices[0]?.delta;
      if (!delta) return;
      if (first === null && (delta.content || delta.tool_calls)) first = performance.now() - began;
      if (delta.content) line.textContent += delta.content;
      for (const { index, id, function: called } of delta.tool_calls || []) {
        calls[index] ??= { id, type: "function", function: { name: called.name, arguments: "" }, line: shown("", "call") };
        calls[index].function.arguments += called.arguments || "";
        calls[index].line.textContent = `${calls[index].function.name}(${calls[index].function.arguments})`;
      }
      line.scrollIntoView({ block: "nearest" });
    };
    try {
      for await (const { data } of events(await ask("/v1/chat/completions", body, { signal }))) {
        if (data !== "[DONE]") take(JSON.parse(data));
      }
    } finally {
      // What was said stays said, also where it was stopped.
      const message = { role: "assistant", content: line.textContent };
      if (calls.length) message.tool_calls = calls.map(({ line: _, ...call }) => call);
      if (message.content || calls.length) mine.push(message);
      // What was not answered is not asked again with the next.
      else mine.pop();
      if (!line.textContent) line.remove();
    }
    if (usage) {
      const cached = usage.prompt_tokens_details?.cached_tokens || 0;
      by("counted").textContent = `${usage.prompt_tokens} tokens of prompt, ${cached} of them not read again; ` +
        `${usage.completion_tokens} answered; first after ${Math.round(first ?? 0)} ms`;
    }
  };

  by("say").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (going) return;
    const words = by("words").value.trim();
    if (!words) return;
    let tools;
    try {
      tools = by("tools").value.trim() ? JSON.parse(by("tools").value) : undefined;
    } catch (error) {
      return says(`the tools are no JSON: ${error.message}`);
    }
    says();
    by("words").value = "";
    const mine = history;
    mine.push({ role: "user", content: words });
    shown(words, "user");
    going = new AbortController();
    busy(true);
    const body = {
      model, conversation, messages: mine, tools, tool_choice: tools && by("choice").value,
      stream: true, stream_options: { include_usage: true },
      temperature: Number(by("temperature").value), max_tokens: Number(by("most").value),
    };
    try {
      await answer(body, going.signal, mine);
    } catch (error) {
      const stopped = error.name === "AbortError";
      if (mine === history) shown(stopped ? "stopped" : error.message, stopped ? "note" : "note wrong");
    } finally {
      going = null;
      busy(false);
      by("words").focus();
    }
  });

  by("words").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      by("say").requestSubmit();
    }
  });
  by("stop").addEventListener("click", () => going?.abort());
  by("reset").addEventListener("click", () => {
    going?.abort();
    // Where nothing was said there is no conversation yet.
    if (history.length) {
      ask(`/brain/conversations/${encodeURIComponent(conversation)}`, undefined, { method: "DELETE" }).catch(() => {});
    }
    history = [];
    conversation = named();
    by("said").replaceChildren();
    by("counted").textContent = "";
    says();
  });
  by("kill").addEventListener("click", async () => {
    const { actors } = await (await ask("/brain/stats")).json();
    const ready = actors.filter((actor) => actor.state === "ready");
    const victim = ready.sort((a, b) => b.queued - a.queued)[0];
    if (!victim) return says("no actor is ready to be killed");
    await ask("/brain/chaos/kill", { actor: victim.actor }).catch((error) => says(error.message));
    shown(`actor ${victim.actor} is killed`, "note");
  });
};
