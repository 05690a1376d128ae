// Spillway's beacon: tells a collector what a <video> did, for hls.js, dash.js,
// shaka-player and a video without any of them. Fields and kinds: docs/telemetry.md.
// Lines that begin with two slashes, and indentation, are not served.
window.spillwayBeacon = (video, o) => {
  'use strict';
  const player = o.player || {}, perf = performance, net = navigator.connection || {};
  const sid = o.sid || (crypto.randomUUID ? crypto.randomUUID() : Date.now() + '-' + Math.random());
  const hls = 'playingDate' in player, dash = player.timeAsUTC, shaka = player.getPlayheadTimeAsDate;
  const kind = hls ? 'hls.js' : dash ? 'dash.js' : shaka ? 'shaka' : 'video';
  const version = dash ? player.getVersion() : (player.constructor || {}).version;
  const clockURL = o.clock || o.url.replace(/\/beacon([?#].*)?$/, '/clock');
  const now = () => perf.now();

  let sn = 0, queue = [], timer = 0, box = '', ended = false;
  // What was measured: the state (as CMCD names them) since when, and sums in ms.
  let state = '', since = 0, requested = 0, startup, stall = 0, stalls = 0, played = 0;
  // After a fatal error: the end of what was loaded by then. Who plays beyond it has recovered.
  let limit = -1;
  // The server's clock less performance.now(), its error at the time of the sample, ms; and how often it was not to be trusted.
  let clock, jumps = 0;

  // 50 ppm is a generous drift; 1 ms is the timer's resolution.
  const bound = (c) => c.bound + 1 + (now() - c.at) * 5e-5;
  const sync = async (n) => {
    let best;
    while (n--) {
      try {
        const t1 = now();
        const r = await (await fetch(clockURL, { cache: 'no-store', credentials: 'omit' })).json();
        const at = now();
        const s = { offset: (r.received_ms + r.sent_ms - t1 - at) / 2, bound: (at - t1 - r.sent_ms + r.received_ms) / 2, at };
        if (!best || s.bound < best.bound) best = s;
      } catch (e) {}
    }
    if (!best) return;
    // Two samples that exclude each other: one of the clocks was set, or slept. Neither counts.
    const jump = clock && Math.abs(best.offset - clock.offset) > best.bound + bound(clock);
    clock = jump ? void jumps++ : best;
    if (jump) setTimeout(sync, 5000, 5);
  };

  // A recording has times too, but no latency. Where an MPD's time line begins in 1970 the position is the date; shaka
  // 5.2 adds the prft box's to it.
  const playhead = () =>
    o.pdt ? o.pdt() : hls ? player.levels[player.currentLevel].details.live && player.playingDate : dash ? player.timeAsUTC() * 1000 : shaka ? player.isLive() && (video.currentTime > 1e9 ? video.currentTime * 1000 : player.getPlayheadTimeAsDate())
      : video.getStartDate && video.duration > 1e9 ? +video.getStartDate() + video.currentTime * 1000 : null;
  // End-to-end latency, ms; null when it would mean nothing: not playing, not seen, no good clock, no live stream.
  const latency = () => {
    if (state !== 'p' || document.hidden || !clock || bound(clock) > 250) return null;
    try {
      const at = playhead(), l = at && now() + clock.offset - at;
      return Math.abs(l) < 6e5 ? l : null;
    } catch (e) {
      return null;
    }
  };

  const account = () => {
    const t = now(), d = t - since;
    since = t;
    if (state === 'p') played += d;
    if (state === 'r') stall += d;
  };
  const measured = () => {
    account();
    const r = Math.round;
    return { startup_ms: startup && r(startup), stall_ms: r(stall), stalls, played_ms: r(played) };
  };

  const flush = (last) => {
    clearTimeout(timer);
    timer = 0;
    const batch = queue.splice(0);
    if (!batch.length) return;
    // Text needs no preflight, which a page that is left cannot wait for; keepalive outlives the page.
    const body = JSON.stringify(batch);
    if (last && !('keepalive' in Request.prototype)) return navigator.sendBeacon(o.url, body);
    fetch(o.url, { method: 'POST', body, keepalive: true, credentials: 'omit' }).then((r) => {
      if (r.status > 499) throw r;
    }).catch(() => {
      queue = batch.concat(queue).slice(-50);
    });
  };
  const size = () => [video.clientWidth, video.clientHeight, video.videoWidth, video.videoHeight];
  const report = (what, extra, soon) => {
    if (ended) return;
    const q = video.getVideoPlaybackQuality ? video.getVideoPlaybackQuality() : {}, s = size();
    box = '' + s;
    queue.push({
      kind: what, sid, sn: sn++, ts: Date.now(), app: o.app, stream: o.stream,
      client: o.client || kind, client_version: o.version || version,
      // Tablets that say they were desktops.
      device: /Mac/.test(navigator.platform) && navigator.maxTouchPoints > 1 ? 'tablet' : undefined,
      network: /wifi|ethernet/.test(net.type) ? net.type : net.effectiveType, downlink_mbps: net.downlink, rtt_ms: net.rtt,
      latency_ms: latency(), clock_offset_ms: clock && clock.offset + now() - Date.now(), clock_bound_ms: clock && bound(clock),
      clock_jumps: jumps || undefined, dropped_frames: q.droppedVideoFrames, decoded_frames: q.totalVideoFrames,
      viewport_w: s[0], viewport_h: s[1], video_w: s[2] || undefined, video_h: s[3] || undefined, dpr: window.devicePixelRatio,
      background: document.hidden, ...measured(), ...extra,
    });
    if (!soon) timer = timer || setTimeout(flush, 200);
    else flush(soon > 1);
  };

  const set = (sta) => {
    // Waiting for what will not come is the failure.
    if (sta === 'r' && video.currentTime < limit + 0.5) sta = 'f';
    if (sta === state) return;
    account();
    if (sta === 'r') stalls++;
    state = sta;
    report('state', { sta });
  };
  const load = () => {
    state = '';
    startup = undefined;
    limit = -1;
    requested = now();
    set('s');
  };
  const error = (step, code) => report('error', { step, error: '' + code });
  const fail = (code) => {
    const b = video.buffered;
    limit = b.length ? b.end(b.length - 1) : 0;
    error('play', code);
    if (/[srk]/.test(state)) set('f');
  };
  const end = (reason) => {
    report('end', { end: reason }, 2);
    ended = true;
  };

  const wait = () => {
    // Waiting before the first frame is start-up, in a seek it is seeking.
    if (startup && !video.paused) set(video.seeking || state === 'k' ? 'k' : 'r');
  };
  const playing = () => {
    if (!state) load();
    if (!startup) startup = Math.max(now() - requested, 1);
    set('p');
  };
  const changed = () => {
    if ('' + size() !== box) report('viewport');
  };
  const on = (names, f, target = video) => names.split(' ').forEach((n) => target.addEventListener && target.addEventListener(n, f));
  on('play', () => {
    if (!state) load();
    // A pause before the first frame is no start-up time.
    else if (!startup && state === 'a') {
      requested += now() - since;
      set('s');
    }
  });
  on('playing', playing);
  on('waiting', wait);
  // shaka stops the clock while it waits for a fuller buffer.
  on('ratechange', () => {
    if (!video.playbackRate) wait();
    else if (state === 'r' && video.readyState > 2 && !video.paused) set('p');
  });
  on('seeking', () => startup && set('k'));
  on('seeked', () => video.paused && state === 'k' && set('a'));
  on('pause', () => state && !video.ended && set('a'));
  // There is enough, and still nothing plays: the browser wants a click first.
  on('canplaythrough', () => state === 's' && video.paused && set('a'));
  on('ended', () => set('e'));
  on('error', () => fail('media ' + (video.error || {}).code));
  on('resize', changed);
  if (window.ResizeObserver) new ResizeObserver(() => setTimeout(changed, 500)).observe(video);
  if (hls) player.on('hlsError', (_, e) => e.fatal && fail(e.details));
  else if (dash) player.on('error', (e) => fail((e.error || {}).code));
  else on('error', (e) => e.detail && (e.detail.severity > 1 ? fail : error.bind(0, 'play'))(e.detail.code), player);
  on('change', () => report('network'), net);
  on('pagehide', () => end('pagehide'), window);
  on('pageshow', (e) => {
    if (e.persisted) ended = false;
  }, window);
  on('visibilitychange', () => {
    report(document.hidden ? 'background' : 'foreground', {}, 1);
    if (!document.hidden) sync(3);
  }, document);

  const progress = setInterval(() => report('progress', { sta: state || undefined }), o.everyMs || 10000);
  const refresh = setInterval(sync, 120000, 5);
  sync(5);
  report('start');
  if (video.autoplay || !video.paused) load();
  const stop = (reason) => {
    end(reason);
    clearInterval(progress);
    clearInterval(refresh);
  };
  return { sid, load, error, fail, end: stop, measured, latency };
};
