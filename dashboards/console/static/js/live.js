// The live state: one event stream from the server, shared by everything on the page.
import { text, attr } from "./dom.js";
import { clock } from "./format.js";

const SECTIONS = ["health", "totals", "streams", "cdns", "recent", "minutes", "alerts"];
const SILENCE_MS = 7000; // the server says something every 2 s

/** state holds the newest of every section; offset is server clock minus ours, ms. */
export const state = { offset: 0 };
export const serverNow = () => Date.now() + state.offset;

const listeners = [];
let heard = 0, lostSince = Date.now(), source = null, pending = false, retry = 0;

/** onChange calls f once a frame at most when something changed. */
export function onChange(f) {
  listeners.push(f);
}

function changed() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    for (const f of listeners) f(state);
  });
}

function hear() {
  heard = Date.now();
  if (lostSince !== 0) {
    lostSince = 0;
    banner();
  }
}

export function connect() {
  source?.close();
  source = new EventSource("/v1/live");
  for (const s of SECTIONS) {
    source.addEventListener(s, (e) => {
      hear();
      state[s] = JSON.parse(e.data);
      if (s === "health") banner();
      changed();
    });
  }
  source.addEventListener("beat", (e) => {
    hear();
    state.offset = Number(e.data) - Date.now();
    pulse();
  });
  source.addEventListener("error", lost);
}

// A tab in the background lets go of its connection: browsers allow six to a host.
// A page that is left does so at once: the browser may keep it, connection and all,
// for who goes back to it, and after some pages the next one would have none.
const HIDDEN_MS = 20000;
let hide = 0, paused = false;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hide);
  if (document.hidden) hide = setTimeout(rest, HIDDEN_MS);
  else wake();
});
window.addEventListener("pagehide", rest);
window.addEventListener("pageshow", (e) => { if (e.persisted) wake(); });

function rest() {
  paused = true;
  source?.close();
}

function wake() {
  if (!paused) return;
  paused = false;
  heard = Date.now();
  connect();
}

function lost() {
  if (paused) return;
  if (lostSince === 0) lostSince = heard || Date.now();
  banner();
  // The browser reconnects by itself unless the server refused.
  if (source.readyState === EventSource.CLOSED) {
    source.close();
    again(3000);
  }
}

function again(ms) {
  clearTimeout(retry);
  retry = setTimeout(() => { if (!paused) connect(); }, ms);
}

// since_ms is 0 until a source was asked for the first time.
const down = (x) => !x.ok && x.since_ms !== 0;

function banner() {
  const lines = [];
  const h = state.health;
  if (lostSince !== 0 && heard !== 0) {
    lines.push(`No connection to the console since ${clock(lostSince)}. Everything below is from then; trying again.`);
  } else if (h) {
    if (down(h.bus)) lines.push(`The bus does not answer since ${clock(h.bus.since_ms)}: streams, pictures, alerts, experiments and settings are from then.`);
    if (down(h.clickhouse)) {
      const from = h.clickhouse.last_ms ? `are from ${clock(h.clickhouse.last_ms)}` : "are not known yet";
      lines.push(`ClickHouse does not answer since ${clock(h.clickhouse.since_ms)}: viewers and quality ${from}.`);
    }
  }
  const b = document.getElementById("banner");
  text(b, lines.join(" "));
  b.hidden = lines.length === 0;
  document.documentElement.classList.toggle("stale-bus", lostSince !== 0 || (!!h && down(h.bus)));
  document.documentElement.classList.toggle("stale-numbers", lostSince !== 0 || (!!h && down(h.clickhouse)));
  pulse();
}

function pulse() {
  const p = document.getElementById("pulse");
  const stale = lostSince !== 0;
  const h = state.health;
  const partly = !stale && h && (down(h.bus) || down(h.clickhouse));
  text(p, stale ? (heard ? "offline" : "connecting") : partly ? "partly stale" : "live");
  attr(p, "class", "pulse " + (stale ? "off" : partly ? "partly" : "on"));
}

setInterval(() => {
  if (!paused && lostSince === 0 && Date.now() - heard > SILENCE_MS) {
    source.close();
    lost();
  }
}, 1000);
