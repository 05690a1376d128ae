// The registry of CDNs, behind the admin token. The token stays in this tab.
import { el, text } from "./dom.js";
import { fetched } from "./rows.js";

const FIELDS = [
  ["base_url", "Address", "text"], ["region", "Region", "text"], ["capacity_viewers", "Capacity, viewers", "number"], ["capacity_bps", "Capacity, bit/s", "number"],
  ["spill_viewers", "Overflow above, viewers", "number"], ["stream_viewers", "Of one stream, viewers", "number"], ["order", "Order", "number"], ["price_per_gb_micro_usd", "Price, millionths of $ a GB", "number"], ["commit_gb", "Commitment, GB a month", "number"],
];

export default function (main) {
  const token = el("input", { type: "password", id: "token", autocomplete: "off", size: 40, required: "" });
  const form = el("form", { class: "card controls" }, el("label", { for: "token" }, "Admin token "), token, el("button", { type: "submit", class: "primary" }, "Open"),
    el("p", { class: "about" }, "It is in secrets.json of the data directory. It is kept until this tab closes, and sent to this server only. A cookie lets this browser show pictures of private streams for 12 hours, or until the token is forgotten here."));
  const said = el("p", { class: "said", role: "status", hidden: "" }), list = el("div", { class: "forms" });
  main.append(form, said, list);
  const say = (s, bad) => {
    said.hidden = !s;
    text(said, s);
    said.className = "said" + (bad ? " bad" : "");
  };
  const call = (path, method = "GET", body) => fetched("/v1/settings/cdns" + path, {
    method, headers: { Authorization: "Bearer " + sessionStorage.getItem("token"), "Content-Type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body),
  });
  const load = async () => {
    try {
      const a = await call("");
      await fetched("/v1/picture-access", { method: "PUT", headers: { Authorization: "Bearer " + sessionStorage.getItem("token") } });
      form.hidden = true;
      say("");
      const names = Object.keys(a.entries).sort((x, y) => a.entries[x].order - a.entries[y].order || x.localeCompare(y));
      list.replaceChildren(...names.map((n) => card(n, a.entries[n])), ...Object.entries(a.damaged).map(([n, why]) => el("p", { class: "bad" }, `${n}: ${why}`)),
        el("button", { type: "button", id: "forget" }, "Forget the token"));
      list.querySelector("#forget").addEventListener("click", async () => {
        sessionStorage.removeItem("token");
        try {
          await fetched("/v1/picture-access", { method: "DELETE" });
          location.reload();
        } catch (e) {
          say(`The token is forgotten; pictures of private streams are still shown here for up to 12 hours: ${e.message}`, true);
        }
      });
      if (names.length === 0) say("No CDN is registered. Add one with: spillway cdn set NAME --url URL");
    } catch (e) {
      const refused = e.status === 401;
      form.hidden = !refused;
      list.replaceChildren();
      say(`The settings could not be read: ${e.message}${refused ? "" : ". Trying again."}`, true);
      if (!refused) setTimeout(load, 3000);
    }
  };
  const card = (name, c) => {
    const f = el("form", { class: "card fields", "aria-label": "CDN " + name });
    const state = el("select", { name: "state", id: name + "-state" });
    for (const s of ["active", "draining", "off"]) state.append(el("option", { value: s, selected: s === c.state ? "" : null }, s));
    f.append(el("h2", {}, name), el("div", {}, el("label", { for: name + "-state" }, "State"), state));
    for (const [k, label, type] of FIELDS) {
      f.append(el("div", {}, el("label", { for: `${name}-${k}` }, label), el("input", { id: `${name}-${k}`, name: k, type, value: c[k] ?? (type === "number" ? 0 : ""), min: type === "number" && k !== "order" ? 0 : null, step: type === "number" ? 1 : null })));
    }
    f.append(el("button", { type: "submit", class: "primary" }, "Save"));
    f.addEventListener("submit", async (e) => {
      e.preventDefault();
      const change = {};
      if (state.value !== c.state) change.state = state.value;
      for (const [k, , type] of FIELDS) {
        const v = type === "number" ? Number(f.elements[k].value) : f.elements[k].value;
        if (v !== (c[k] ?? (type === "number" ? 0 : ""))) change[k] = v;
      }
      if (Object.keys(change).length === 0) return say(`Nothing of ${name} was changed.`);
      try {
        Object.assign(c, await call("/" + encodeURIComponent(name), "PATCH", change));
        say(`${name} is saved: ${Object.keys(change).join(", ")}.`);
      } catch (err) {
        say(`${name} is not saved: ${err.message}`, true);
      }
    });
    return f;
  };
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    sessionStorage.setItem("token", token.value);
    token.value = "";
    load();
  });
  if (sessionStorage.getItem("token")) load();
}
