// Asking the server: with the token, if there is one, and with errors that say what the server says.

export const by = (id) => document.getElementById(id);

export const made = (name, text, kind) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};

/** Shows an error until the next thing goes well; none hides it. */
export const says = (text) => {
  by("wrong").hidden = !text;
  by("wrong").textContent = text || "";
};

/** The answer, or an error with the server's words and the status. */
export const ask = async (path, body, options = {}) => {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const method = options.method || (body === undefined ? "GET" : "POST");
  const answer = await fetch(path, {
    method, headers, signal: options.signal, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw Object.assign(new Error(said?.error?.message || `${path}: ${answer.status}`), { status: answer.status });
};

/** The events of a stream, one {event, data} after the other. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const lines = rest.slice(0, end).split("\n");
      rest = rest.slice(end + 2);
      const of = (key) => lines.filter((line) => line.startsWith(`${key}: `)).map((line) => line.slice(key.length + 2));
      const data = of("data").join("\n");
      if (data) yield { event: of("event")[0], data };
    }
  }
}
