// Values by their unit, as the walls name units.
import { bps, count, DASH, fps, ms, percent } from "./format.js";

const plain = (n) => (Math.abs(n) < 100 && n % 1 ? n.toFixed(Math.abs(n) < 1 ? 3 : 1) : count(n));

const SHOW = {
  percentunit: percent, ms, bps, fps,
  Kbits: (n) => bps(n * 1000),
  bytes: (n) => (n < 1e6 ? (n / 1e3).toFixed(0) + " kB" : n < 1e9 ? (n / 1e6).toFixed(1) + " MB" : (n / 1e9).toFixed(2) + " GB"),
  decgbytes: (n) => n.toFixed(1) + " GB",
  cps: (n) => plain(n) + "/s",
  h: (n) => plain(n) + " h",
  s: (n) => plain(n) + " s",
  currencyUSD: (n) => "$" + n.toFixed(2),
  dateTimeAsIso: moment,
};

/** moment is a day and time of the day, from Unix milliseconds. */
export function moment(unixMs) {
  return new Date(unixMs).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/** show writes a value; text stays as it is. */
export function show(v, unit) {
  if (v === null || v === undefined) return DASH;
  if (v === "inf") return "∞";
  if (typeof v !== "number") return String(v);
  return (SHOW[unit] ?? plain)(v);
}
