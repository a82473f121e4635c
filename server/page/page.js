// The page that watches and tries a brain. Texts are only ever set as text, and nothing is asked of any other server.
import { chat } from "./chat.js";
import { live } from "./live.js";
import { vectors } from "./vectors.js";
import { ask, by, says } from "./ask.js";

const begin = async () => {
  const api = await (await ask("/openapi.json")).json();
  const models = await (await ask("/v1/models")).json();
  const model = models.data[0].id;
  by("model").textContent = model;
  by("door").hidden = true;
  says();
  chat({ model, chaos: "/brain/chaos/kill" in api.paths });
  vectors();
  live();
};

const guarded = () => begin().catch((error) => {
  by("door").hidden = error.status !== 401;
  // Whoever has given none yet has done nothing wrong.
  if (error.status !== 401 || sessionStorage.getItem("token")) says(error.message);
});

by("door").addEventListener("submit", (event) => {
  event.preventDefault();
  // Kept for this tab alone, and gone with it.
  sessionStorage.setItem("token", by("token").value);
  guarded();
});
guarded();
