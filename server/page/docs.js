// Renders /openapi.json: paths by tag, and of each what is sent and what comes back. Text is only ever set as text.
import { ask } from "./ask.js";

const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

const nameOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.oneOf || schema.anyOf) return (schema.oneOf || schema.anyOf).map(nameOf).join(" or ");
  if (schema.type === "array") return `list of ${nameOf(schema.items) || "anything"}`;
  return Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "anything";
};

const table = (api, schema) => {
  const found = schema.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
  const rows = Object.entries(found?.properties || {});
  if (rows.length === 0) return element("p", nameOf(schema));
  const made = element("table");
  for (const [key, value] of rows) {
    const row = element("tr");
    const name = element("td");
    name.append(element("code", key));
    const needed = (found.required || []).includes(key) ? ", required" : "";
    row.append(name, element("td", nameOf(value) + needed), element("td", value.description));
    made.append(row);
  }
  return made;
};

const operation = (api, path, method, said) => {
  const made = element("details");
  const summary = element("summary");
  summary.append(element("span", method.toUpperCase(), "method"), element("code", path), ` ${said.summary || ""}`);
  made.append(summary);
  if (said.description) made.append(element("p", said.description));
  const sent = said.requestBody?.content?.["application/json"]?.schema;
  if (sent) made.append(element("h2", "What is sent"), table(api, sent));
  for (const [status, answer] of Object.entries(said.responses || {})) {
    made.append(element("h2", `${status} ${answer.description || ""}`));
    for (const [kind, { schema }] of Object.entries(answer.content || {})) {
      made.append(element("p", kind));
      if (schema) made.append(table(api, schema));
    }
  }
  return made;
};

const show = (api) => {
  const tags = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, said] of Object.entries(methods)) {
      const tag = said.tags?.[0] || "others";
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push(operation(api, path, method, said));
    }
  }
  const all = document.getElementById("paths");
  for (const [tag, operations] of tags) all.append(element("h2", tag), ...operations);
};

ask("/openapi.json").then((answer) => answer.json()).then(show, (error) => {
  document.getElementById("paths").textContent = String(error);
});
