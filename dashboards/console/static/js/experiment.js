// One experiment: what the closed loop says, the report, and changes.
import { el, text } from "./dom.js";
import { asOf } from "./format.js";
import { part } from "./part.js";

export default function (main) {
  const root = main.querySelector("#experiment");
  if (!root) return; // the server said why
  const name = root.dataset.name;
  const base = "/v1/experiments/" + encodeURIComponent(name);
  status(root, base);
  changes(root, name, base);
}

// report fetches the report, and again while it fails. A draft has none.
async function report(root, base) {
  const section = root.querySelector("#report");
  if (section.dataset.asked) return;
  if (stateOf(root) === "draft") {
    section.replaceChildren(el("p", { class: "empty" }, "It has not begun: there is nothing to report yet."));
    return;
  }
  section.dataset.asked = "1";
  try {
    section.replaceChildren(...(await part(base + "/report.part")).childNodes);
    section.removeAttribute("aria-busy");
  } catch (e) {
    section.replaceChildren(el("p", { class: "empty", role: "status" }, "There is no report now: " + e.message + ". It is tried again every half minute."));
    setTimeout(() => {
      delete section.dataset.asked;
      report(root, base);
    }, 30000);
  }
}

const stateOf = (root) => root.querySelector("#loop").dataset.status;

// refresh draws the state anew; open details stay open.
async function refresh(root, base) {
  const section = root.querySelector("#status");
  const body = await part(base + "/status.part");
  if (section.innerHTML === body.innerHTML || section.contains(document.activeElement)) return;
  const open = section.querySelector("#history")?.open ?? false;
  section.replaceChildren(...body.childNodes);
  section.querySelector("#history").open = open;
  offer(root);
  report(root, base);
}

function status(root, base) {
  offer(root);
  report(root, base);
  const note = el("p", { class: "empty", role: "status", hidden: "" });
  root.prepend(note);
  let last = Date.now();
  const look = async () => {
    let why = "";
    try {
      await refresh(root, base);
      last = Date.now();
    } catch (e) {
      why = e.message;
    }
    text(note, `${asOf(last)}${why}. Trying again.`);
    note.hidden = !why;
    root.querySelector("#status").classList.toggle("old", !!why);
    setTimeout(look, why ? 3000 : 10000);
  };
  setTimeout(look, 10000);
}

// offer shows what may be done in the present state.
function offer(root) {
  const state = stateOf(root);
  for (const p of root.querySelectorAll("[data-for]")) p.hidden = p.dataset.for !== state;
}

function changes(root, name, base) {
  const form = root.querySelector("#act");
  const field = (id) => root.querySelector("#" + id);
  const told = field("told");
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const act = e.submitter?.value;
    if (!act) return;
    const body = { by: field("by").value, reason: field("reason").value };
    if (act === "cover") body.coverage = Number(field("coverage").value);
    if (act === "decide") body.winner = field("winner").value;
    if (act === "roll-out") body.apps = field("apps").value.split(",").map((s) => s.trim()).filter(Boolean);
    text(told, "…");
    try {
      const r = await fetch("/v1/settings/experiments/" + encodeURIComponent(name) + "/" + act, {
        method: "POST", body: JSON.stringify(body), headers: { Authorization: "Bearer " + field("token").value },
      });
      const a = await r.json();
      if (!r.ok) throw new Error(a.error ?? r.statusText);
      text(told, "Done: " + act.replace("-", " "));
      await refresh(root, base);
    } catch (err) {
      text(told, "Refused: " + err.message);
    }
  });
}
