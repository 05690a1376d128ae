// The server's clock by the minimum-delay method: of several samples the one
// with the shortest round trip bounds the error best.
// clock.now() is the corrected Unix time in ms; clock.bound its error bound.
export class Clock {
  constructor(url) {
    this.url = url;
    this.offset = 0; // ms, to be added to the local clock
    this.bound = Infinity;
    this.taken = 0;
  }

  // 50 ppm is a generous drift for a device clock.
  get boundMs() {
    return this.bound + (Date.now() - this.taken) * 50e-6;
  }

  now() {
    return Date.now() + this.offset;
  }

  async sync(samples = 6) {
    let best = null;
    for (let i = 0; i < samples; i++) {
      try {
        const t1 = performance.timeOrigin + performance.now();
        const r = await fetch(this.url, { cache: 'no-store', credentials: 'omit' });
        const t4 = performance.timeOrigin + performance.now();
        const { received_ms: t2, sent_ms: t3 } = await r.json();
        const offset = (t2 - t1 + (t3 - t4)) / 2;
        const bound = (t4 - t1 - (t3 - t2)) / 2;
        if (best === null || bound < best.bound) best = { offset, bound };
      } catch {
        // One lost sample only makes the bound wider.
      }
    }
    if (best) {
      // Date.now() and the performance clock may differ after the device slept.
      this.offset = best.offset + (performance.timeOrigin + performance.now() - Date.now());
      this.bound = best.bound;
      this.taken = Date.now();
    }
    return best !== null;
  }

  // Keeps the offset fresh, also when the page comes back from sleep.
  keep(everyMs = 120000) {
    setInterval(() => this.sync(), everyMs);
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.sync(3);
    });
  }
}
