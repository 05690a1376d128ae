// Spillway's beacon for any <video>: what no player reports by itself. The JSON
// is schemas.Beacon. start(video, {url, sid, client, version, latencyMs, clock}).
export function start(video, o) {
  const m = { startup: null, stall: 0, stalls: 0, played: 0, requested: performance.now() };
  let sn = 0;
  let since = null; // when the running stall began
  let playing = null; // when the running piece of playing began
  let ended = false;
  const now = () => performance.now();

  const stopPlaying = () => {
    if (playing !== null) m.played += now() - playing;
    playing = null;
  };
  const stopStall = () => {
    if (since !== null) m.stall += now() - since;
    since = null;
  };
  const on = (name, f) => video.addEventListener(name, f);
  on('playing', () => {
    if (m.startup === null) m.startup = now() - m.requested;
    stopStall();
    if (playing === null) playing = now();
  });
  on('waiting', () => {
    stopPlaying();
    // Waiting before the first frame is start-up, waiting in a seek is seeking: neither is a stall.
    if (m.startup === null || video.seeking || since !== null) return;
    m.stalls++;
    since = now();
  });
  on('seeking', () => {
    stopPlaying();
    stopStall();
  });
  on('pause', () => {
    stopPlaying();
    stopStall();
  });
  on('ended', () => stopPlaying());

  const measured = () => ({
    startup_ms: m.startup === null ? undefined : Math.round(m.startup),
    stall_ms: Math.round(m.stall + (since === null ? 0 : now() - since)),
    stalls: m.stalls,
    played_ms: Math.round(m.played + (playing === null ? 0 : now() - playing)),
  });
  const report = (kind, extra) => {
    const q = video.getVideoPlaybackQuality ? video.getVideoPlaybackQuality() : {};
    const latency = o.latencyMs ? o.latencyMs() : null;
    const c = o.clock;
    return {
      kind, sid: o.sid, sn: sn++, ts: Date.now(),
      client: o.client, client_version: o.version,
      device: /Mobi|Android/.test(navigator.userAgent) ? 'phone' : 'desktop',
      os: (/(Android|iPhone|iPad|Windows|Mac OS|Linux)/.exec(navigator.userAgent) || [])[1],
      network: navigator.connection && navigator.connection.effectiveType,
      latency_ms: latency === null ? undefined : latency,
      clock_offset_ms: c && isFinite(c.bound) ? c.offset : undefined,
      clock_bound_ms: c && isFinite(c.bound) ? c.boundMs : undefined,
      dropped_frames: q.droppedVideoFrames, decoded_frames: q.totalVideoFrames,
      viewport_w: video.clientWidth, viewport_h: video.clientHeight,
      video_w: video.videoWidth || undefined, video_h: video.videoHeight || undefined,
      background: document.hidden, ...measured(), ...extra,
    };
  };
  const send = (kind, extra) => {
    const body = JSON.stringify(report(kind, extra));
    // keepalive outlives the page; text/plain needs no preflight, which would not.
    fetch(o.url, { method: 'POST', body, keepalive: true, credentials: 'omit', headers: { 'Content-Type': 'text/plain' } }).catch(() => {});
  };
  const end = (reason) => {
    if (ended) return;
    ended = true;
    send('end', reason ? { end: reason } : {});
  };
  const timer = setInterval(() => {
    if (!ended && m.startup !== null) send('progress');
  }, o.everyMs || 5000);
  addEventListener('pagehide', () => end('pagehide'));
  document.addEventListener('visibilitychange', () => {
    if (!ended) send(document.hidden ? 'background' : 'foreground');
  });
  return {
    measured, end, send,
    error: (step, code) => send('error', { step, error: code }),
    requested: () => { m.requested = now(); },
    stop: () => clearInterval(timer),
  };
}
