// Numbers as people read them. null means not known and is shown as a dash.

export const DASH = "–";

// Made once: toLocaleTimeString makes one for each call, which costs more than all else that a wall of pictures draws.
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const known = (n) => n !== null && n !== undefined;

export function count(n) {
  if (!known(n)) return DASH;
  if (n < 10000) return String(Math.round(n));
  return n < 1e6 ? (n / 1e3).toFixed(1) + "k" : (n / 1e6).toFixed(2) + "M";
}

export function percent(n) {
  if (!known(n)) return DASH;
  const p = n * 100;
  if (p === 0) return "0 %";
  return (p < 0.1 ? p.toFixed(2) : p < 10 ? p.toFixed(1) : p.toFixed(0)) + " %";
}

/** ms shows a duration given in milliseconds; "inf" is a level reached by no start. */
export function ms(n) {
  if (!known(n)) return DASH;
  if (n === "inf") return "∞";
  return n < 1000 ? Math.round(n) + " ms" : (n / 1000).toFixed(n < 10000 ? 2 : 1) + " s";
}

export function bps(n) {
  if (!known(n)) return DASH;
  if (n < 1e3) return Math.round(n) + " bit/s";
  if (n < 1e6) return (n / 1e3).toFixed(0) + " kbit/s";
  if (n < 1e9) return (n / 1e6).toFixed(n < 1e7 ? 1 : 0) + " Mbit/s";
  return (n / 1e9).toFixed(1) + " Gbit/s";
}

export function fps(n) {
  return known(n) ? (Math.abs(n - Math.round(n)) < 0.05 ? Math.round(n) : n.toFixed(1)) + " fps" : DASH;
}

export function clock(unixMs) {
  return Number.isFinite(+unixMs) ? CLOCK.format(+unixMs) : DASH;
}

/** asOf begins the note about what is old: from when it is. 0: nothing was ever read. */
export const asOf = (unixMs) => (unixMs ? `As of ${clock(unixMs)}: ` : "");

export function span(milliseconds) {
  const s = Math.max(0, Math.round(milliseconds / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
}

/** Levels above which a stall ratio is worth a look, and bad. */
const page = globalThis.document?.documentElement.dataset ?? {};
export const STALL_WARN = Number(page.stallWarn) || 0.01, STALL_BAD = Number(page.stallBad) || 0.05;

export function stallLevel(n) {
  if (!known(n)) return "unknown";
  return n >= STALL_BAD ? "bad" : n >= STALL_WARN ? "warn" : "ok";
}
