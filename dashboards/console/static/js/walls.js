// The list of walls.
import { el, text } from "./dom.js";
import { fetched } from "./rows.js";

const title = (w) => w.Title.replace(/^(Spillway: )?(.)/, (_, __, c) => c.toUpperCase());

export default function (main) {
  const list = el("ul", { class: "list" }), note = el("p", { class: "empty" }, "Reading the walls…");
  main.append(note, list);
  const load = async () => {
    try {
      const { walls } = await fetched("/v1/walls");
      list.replaceChildren(...walls.map((w) => el("li", { class: "card" }, el("a", { href: "/walls/" + w.UID }, title(w)), el("p", {}, w.Description))));
      note.remove();
    } catch (e) {
      text(note, `The walls could not be read (${e.message}); trying again.`);
      setTimeout(load, 3000);
    }
  };
  load();
}
