// The list of experiments: drawn by the server, fetched anew while it is looked at.
import { el, text } from "./dom.js";
import { asOf } from "./format.js";
import { replace } from "./part.js";

export default function (main) {
  const note = el("p", { class: "empty", role: "status", hidden: "" });
  main.append(note);
  let last = Date.now();
  const look = async () => {
    let why = "";
    try {
      const r = await fetch("/experiments");
      const doc = new DOMParser().parseFromString(await r.text(), "text/html");
      const next = doc.getElementById("experiments");
      if (next) replace(main, "experiments", next);
      else why = doc.querySelector("[data-failed]")?.textContent ?? r.statusText;
      if (next) last = Date.now();
    } catch (e) {
      why = e.message + ". Trying again.";
    }
    text(note, asOf(last) + why);
    note.hidden = !why;
    main.querySelector("#experiments")?.classList.toggle("old", !!why);
    setTimeout(look, why ? 3000 : 15000);
  };
  // Without a list main.js waits for one.
  if (main.querySelector("#experiments")) setTimeout(look, 15000);
}
