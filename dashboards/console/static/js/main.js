// Starts the page named in the shell.
import { connect } from "./live.js";
import { text } from "./dom.js";

const THEMES = ["auto", "light", "dark"];
const SIGN = { auto: "◐", light: "☀", dark: "☾" };

function theme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const show = () => {
    const t = root.dataset.theme ?? "auto";
    text(button, SIGN[t]);
    button.setAttribute("aria-label", "Colours: " + (t === "auto" ? "follow the system" : t));
    button.title = button.getAttribute("aria-label");
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* storage may be refused */ }
    show();
  });
  show();
}

// What the server could not draw, because the bus was away, comes once it can.
async function redrawn(wait) {
  for (;;) {
    await new Promise((r) => setTimeout(r, wait));
    try {
      const r = await fetch(location.href);
      if (r.ok && !new DOMParser().parseFromString(await r.text(), "text/html").querySelector("[data-failed]")) return location.reload();
    } catch { /* the banner says that the server is away */ }
  }
}

const main = document.getElementById("main");
theme();
if (main.querySelector("[data-failed]")) redrawn(3000);
(await import(`./${document.documentElement.dataset.page}.js`)).default(main);
connect();
